"""The scale that all values of a numeric expression have, where its text tells.

Equal numerics of one scale look the same, so such a column can be a grouping key or be added up like an integer. The
rules are those of PostgreSQL's numeric.c: a product has the sum of the scales, a sum the larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError

from pgtrickle.ir.expr import Expr
from pgtrickle.ir.schema import Type
from pgtrickle.parse.tree import function_name

#: Fields of EXTRACT that are whole numbers whatever they are taken from.
_WHOLE_FIELDS = frozenset(
    {"century", "day", "decade", "dow", "doy", "hour", "isodow", "isoyear", "millennium", "minute", "month", "quarter"}
    | {"timezone", "timezone_hour", "timezone_minute", "week", "year"}
)
_INTEGERS = frozenset({"int2", "int4", "int8", "smallint", "integer", "bigint"})
#: Those of an infinite date that are infinite too; the others are NULL. An infinite interval has infinite days, too.
_ENDLESS_FIELDS = frozenset({"century", "day", "decade", "hour", "isoyear", "millennium", "week", "year"})
#: Functions of one argument, or of one and a constant, that keep or set the scale.
_SAME = frozenset({"abs", "sum", "min", "max"})
_WHOLE = frozenset({"ceil", "ceiling", "floor"})
_ROUNDING = frozenset({"round", "trunc"})


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of digits behind the point that all finite values have; ``endless``: others may be infinite."""

    digits: int
    endless: bool = False


def fixed_scale(expr: Expr, types: Mapping[str, Type]) -> Scale | None:
    """The scale of every value of a numeric expression; None if it is not known.

    Args:
        expr: the expression.
        types: the types of the columns that it reads.
    """
    parts = ('"' + part.name.replace('"', '""') + '"' if not isinstance(part, str) else part for part in expr.parts)
    try:
        (statement,) = parse_sql("SELECT " + "".join(parts))
    except (ParseError, ValueError):
        return None
    targets = statement.stmt.targetList or ()
    scales = _Scales(types)
    digits = scales.of(targets[0].val) if len(targets) == 1 else None
    return None if digits is None else Scale(digits, scales.endless)


class _Scales:
    """Scales of nodes, from those of columns."""

    def __init__(self, types: Mapping[str, Type]) -> None:
        self._types = types
        #: Whether anything that was looked at may be infinite.
        self.endless = False

    def of(self, node: ast.Node) -> int | None:
        """The scale of an expression; None if it is not known, or the expression is no number."""
        rules: dict[type, Callable[..., int | None]] = {
            ast.ColumnRef: self._column,
            ast.A_Const: self._constant,
            ast.A_Expr: self._operation,
            ast.TypeCast: self._cast,
            ast.FuncCall: self._call,
            ast.CaseExpr: self._case,
            ast.CoalesceExpr: lambda one: self._common(one.args),
        }
        rule = rules.get(type(node))
        return rule(node) if rule is not None else None

    def _column(self, node: ast.ColumnRef) -> int | None:
        if len(node.fields) != 1 or not isinstance(node.fields[0], ast.String):
            return None
        kind = self._types.get(node.fields[0].sval)
        self.endless |= kind is not None and kind.endless
        return kind.fixed_scale if kind is not None else None

    def _constant(self, node: ast.A_Const) -> int | None:
        if isinstance(node.val, ast.Integer):
            return 0
        return _written(node.val.fval) if isinstance(node.val, ast.Float) else None

    def _operation(self, node: ast.A_Expr) -> int | None:
        names = [part.sval for part in node.name]
        if node.kind == enums.A_Expr_Kind.AEXPR_NULLIF:
            return self.of(node.lexpr)
        if node.kind != enums.A_Expr_Kind.AEXPR_OP or names[:-1] not in ([], ["pg_catalog"]):
            return None
        right = self.of(node.rexpr)
        left = self.of(node.lexpr) if node.lexpr is not None else 0
        if left is None or right is None:
            return None
        match names[-1]:
            case "+" | "-":
                return max(left, right)
            case "*" if node.lexpr is not None:
                return left + right
            case _:
                return None

    def _cast(self, node: ast.TypeCast) -> int | None:
        names = [part.sval for part in node.typeName.names or ()]
        if names[:-1] not in ([], ["pg_catalog"]) or node.typeName.arrayBounds:
            return None
        if names[-1] in _INTEGERS:
            return 0
        if names[-1] not in ("numeric", "decimal"):
            return None
        modifiers = [
            m.val.ival for m in node.typeName.typmods or () if isinstance(getattr(m, "val", None), ast.Integer)
        ]
        if modifiers:
            return max(modifiers[1], 0) if len(modifiers) > 1 else 0
        if isinstance(node.arg, ast.A_Const) and isinstance(node.arg.val, ast.String):
            return _written(node.arg.val.sval)
        return self.of(node.arg)

    def _call(self, node: ast.FuncCall) -> int | None:
        schema, name = function_name(node)
        args = node.args or ()
        if schema != "pg_catalog" or node.over is not None or not args:
            return None
        if name == "extract":
            field = args[0].val.sval if isinstance(getattr(args[0], "val", None), ast.String) else ""
            self.endless |= field.lower() in _ENDLESS_FIELDS
            return 0 if field.lower() in _WHOLE_FIELDS else None
        if name in _SAME and len(args) == 1:
            return self.of(args[0])
        if name in _ROUNDING or (name in _WHOLE and len(args) == 1):
            return self._rounded(args)
        return None

    def _rounded(self, args: tuple[ast.Node, ...]) -> int | None:
        # Of what nothing is known, it may be infinite, and is then not rounded.
        self.endless |= self.of(args[0]) is None
        if len(args) == 1:
            return 0
        digits = args[1].val if isinstance(args[1], ast.A_Const) else None
        return digits.ival if isinstance(digits, ast.Integer) and digits.ival >= 0 else None

    def _case(self, node: ast.CaseExpr) -> int | None:
        results = [when.result for when in node.args]
        return self._common((*results, node.defresult) if node.defresult is not None else tuple(results))

    def _common(self, nodes: tuple[ast.Node, ...]) -> int | None:
        scales = {self.of(node) for node in nodes if not _is_null(node)}
        return scales.pop() if len(scales) == 1 else None


def _is_null(node: ast.Node | None) -> bool:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    return isinstance(node, ast.A_Const) and bool(node.isnull)


def _written(digits: str) -> int | None:
    """The scale of a number as it is written."""
    whole, _, fraction = digits.strip().lstrip("+-").partition(".")
    plain = (whole + fraction).isdigit()
    return len(fraction) if plain else None
