"""Unique column names, and the placeholders that stand for them while pglast prints an expression."""

from __future__ import annotations

import re

from pglast import ast

from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, Ref
from pgtrickle.names import fit_identifier

_PLACEHOLDER = re.compile(r"pgt_hole_(\d+)_x")
_HINT_BYTES = 40


class Names:
    """Gives every column of a tree a name of its own, and knows which placeholder means which column."""

    #: No query may contain this text, so that a placeholder is never mistaken.
    RESERVED = "pgt_hole_"

    def __init__(self) -> None:
        self._count = 0
        self._exprs: list[Expr] = []
        self._numbers: dict[Expr, int] = {}

    def fresh(self, hint: str) -> str:
        """A name that no other column of this tree has, still readable."""
        self._count += 1
        head = hint.encode()[:_HINT_BYTES].decode(errors="ignore")
        return fit_identifier(f"{head}_{self._count}")

    def placeholder(self, expr: Expr) -> ast.ColumnRef:
        """A column reference that prints as a marker for this expression."""
        if expr not in self._numbers:
            self._numbers[expr] = len(self._exprs)
            self._exprs.append(expr)
        marker = f"{self.RESERVED}{self._numbers[expr]}_x"
        return ast.ColumnRef(fields=(ast.String(sval=marker),))

    def is_placeholder(self, node: ast.ColumnRef) -> bool:
        """Whether this reference has been resolved already."""
        first = (node.fields or ())[0]
        return isinstance(first, ast.String) and _PLACEHOLDER.fullmatch(first.sval) is not None

    def split(self, printed: str) -> Expr:
        """Turn printed text with markers into an expression with holes."""
        parts: list[str | Ref] = []
        for position, piece in enumerate(_PLACEHOLDER.split(printed)):
            if position % 2 == 0:
                parts += [piece] if piece else []
                continue
            inner = self._exprs[int(piece)]
            parts += inner.parts if inner.column else ("(", *inner.parts, ")")
        if not parts:
            raise InternalError("an expression printed as nothing")
        return Expr(tuple(parts))
