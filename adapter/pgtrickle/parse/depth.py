"""How deep a query is, before it is parsed: the parser recurses without a limit of its own."""

from __future__ import annotations

from pglast.parser import ParseError, scan

#: A level of ``a + a + ...`` takes about half a kilobyte of the thread's stack while the tree is built.
MAX_DEPTH = 4000

#: Each puts what stands before it one level deeper.
_WORDS = ("Op", "TYPECAST", "COLLATE", "AT", "IS", "ISNULL", "NOTNULL", "NOT", "CASE")
_CHAINS = frozenset({*_WORDS, *(f"ASCII_{ord(sign)}" for sign in "+-*/%^")})
#: ... and these for everything in the same parentheses.
_LONG_CHAINS = frozenset({"UNION", "INTERSECT", "EXCEPT", "JOIN"})
#: What follows begins anew. Chains of AND and OR are flat.
_ENDS = frozenset({"ASCII_44", "AND", "OR", "SELECT", "FROM", "WHERE", "VALUES", "ON", "USING", "BY"})
_OPENS, _CLOSES = frozenset({"ASCII_40", "ASCII_91"}), frozenset({"ASCII_41", "ASCII_93"})


def too_deep(sql: str) -> bool:
    """Whether parsing would go deeper than `MAX_DEPTH`. Text that is no SQL is not: the parser says what is wrong."""
    if len(sql) < MAX_DEPTH:
        return False
    try:
        tokens = [token.name for token in scan(sql)]
    except ParseError:
        return False
    return _depth(tokens) > MAX_DEPTH


def _depth(tokens: list[str]) -> int:
    """The deepest chain, counting those of the enclosing parentheses in; too high rather than too low."""
    deepest = base = here = peak = 0
    enclosing: list[tuple[int, int]] = []
    for name in tokens:
        if name in _OPENS:
            enclosing.append((base, peak))
            here += 1
            base, peak = here, here
        elif name in _CLOSES and enclosing:
            here = max(peak, here)
            base, peak = enclosing.pop()
        elif name in _ENDS:
            peak = max(peak, here)
            here = base
        elif name in _LONG_CHAINS:
            base += 1
            here = max(here, base)
        elif name in _CHAINS:
            here += 1
        peak = max(peak, here)
        deepest = max(deepest, here)
    return deepest
