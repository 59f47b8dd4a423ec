"""min, max and any_value: the extreme is kept; its group is looked at again only if a row with that extreme left.

What comes and what leaves is netted per value where that may matter, so a value that leaves and returns in one window,
or a row that changes elsewhere, spoils nothing. Values that are equal but look different are netted apart, and a
second look of the extreme makes the group be looked at again: what is shown is always there.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgtrickle.delta.aggregates.rule import AggregateRule, KeptValue
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import AggregateCall
from pgtrickle.ir.schema import Equality, Type

#: ``IS NULL`` would also be true for a row of NULLs, which is a value.
_KNOWN = " IS DISTINCT FROM NULL"


#: Its own ``<`` looks at the length first, but ``min`` and ``max`` take it for an array.
_OIDVECTOR = 30


def _accepts(types: tuple[Type, ...]) -> bool:
    """Types of which aggregate, ``LEAST`` and the operators below mean the same order, which is the server's own."""
    if len(types) != 1 or not types[0].sortable or types[0].base_oid == _OIDVECTOR:
        return False
    return types[0].equals is not None and types[0].equals[0] == "pg_catalog"


def image_of(kind: Type, value: Expr) -> Expr:
    """An expression that is equal for two values only if they look the same."""
    if kind.equality is Equality.EXACT:
        return value
    function = ".".join('"' + part.replace('"', '""') + '"' for part in kind.image)
    shown = text(f"{function}(", value, ")")
    return text("pg_catalog.textin(", shown, ")") if kind.image_is_text else shown


def _extreme(pick: str, better: str, best: str, *, ordered: bool = False) -> AggregateRule:
    def merged(before: Expr, came: Expr) -> Expr:
        return text(f"{best}(", before, ", ", came, ")")

    def beats(one: Expr, other: Expr) -> Expr:
        return text("(", one, f" OPERATOR(pg_catalog.{better}) ", other, ")")

    def state(call: AggregateCall) -> tuple[KeptValue, ...]:
        kind = call.column.type

        def spoilt(before: Expr, came: Expr, now: Expr, left: Expr) -> Expr:
            reached = text(left, _KNOWN, " AND ", beats(now, left), " IS NOT TRUE")
            if kind.equality is Equality.EXACT:
                return reached
            tie = text("NOT ", beats(before, came), " AND NOT ", beats(came, before))
            return text(reached, " OR (", tie, " AND ", image_of(kind, before), " <> ", image_of(kind, came), ")")

        (arg,) = call.args
        value = text(arg, " ORDER BY ", arg) if ordered else arg
        return (KeptValue("best", f"pg_catalog.{pick}", value, image_of(kind, arg), call.filter, merged, spoilt),)

    def result(call: AggregateCall, state: Mapping[str, str]) -> Expr:
        return col(state["best"])

    return AggregateRule(state, result, _accepts)


MIN = _extreme("min", "<", "LEAST")
MAX = _extreme("max", ">", "GREATEST")
#: Of all values that any_value may give the least, which its determinised call asks for.
ANY_VALUE = _extreme("any_value", "<", "LEAST", ordered=True)
