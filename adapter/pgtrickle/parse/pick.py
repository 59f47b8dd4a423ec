"""DISTINCT ON, LIMIT, OFFSET and FETCH: number the rows in their order, and keep those with the right numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import AggregateCall, Filter, Operator, Pick, Project, Window
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.limits import has_limit, keeps_none
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.scope import Scope

#: Adds the values of subqueries to rows.
Attach = Callable[[Operator], Operator]


@dataclass(frozen=True, slots=True)
class Ordering:
    """The ORDER BY and the DISTINCT ON of a query, over the columns below its projection.

    ``items`` are whole sort items (``expr DESC NULLS LAST``), ``exprs`` their expressions, ``on`` those of DISTINCT ON.
    """

    items: tuple[Expr, ...]
    exprs: tuple[Expr, ...]
    on: tuple[Expr, ...]
    names: Callable[[str], str]

    @classmethod
    def of(
        cls,
        stmt: ast.SelectStmt,
        expressions: Expressions,
        targets: tuple[Expr, ...],
        convert: Callable[[ast.Node], Expr],
    ) -> Ordering:
        """Convert the clauses; an integer means that output column."""

        def expression(node: ast.Node) -> Expr:
            if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer):
                return targets[node.val.ival - 1]
            return convert(node)

        items, exprs = [], []
        for sort in stmt.sortClause or ():
            expr = expression(sort.node)
            sort.node = expressions.names.placeholder(expr)
            items.append(expressions.names.split(print_node(sort)))
            exprs.append(expr)
        on = tuple(expression(node) for node in stmt.distinctClause or () if node is not None)
        return cls(tuple(items), tuple(exprs), on, expressions.names.fresh)

    def over(self, rows: Project) -> Ordering:
        """The same order over a projection that shows all its expressions (as SELECT DISTINCT demands)."""
        shown = {expr: col(column.name) for column, expr in zip(rows.columns, rows.exprs, strict=True)}
        # A constant, which the server prints in another way here than among the outputs, orders nothing.
        pairs = [(item, expr) for item, expr in zip(self.items, self.exprs, strict=True) if expr in shown or expr.refs]
        replaced = tuple(_shown(item, expr, shown) for item, expr in pairs)
        return replace(self, items=replaced, exprs=tuple(shown[expr] for _, expr in pairs))

    def carried(self, rows: Project, child: Operator) -> Project:
        """The projection, with the columns below that the order reads added."""
        refs = sorted(frozenset[str]().union(*(expr.refs for expr in (*self.exprs, *self.on))))
        by_name = {column.name: column for column in child.columns}
        extra = tuple(by_name[name] for name in refs)
        return Project(rows.child, (*rows.columns, *extra), (*rows.exprs, *(col(name) for name in refs)))


def order_by_position(stmt: ast.SelectStmt) -> None:
    """Let ORDER BY name the output columns by number, in place: a subquery in both is then read as one."""
    places = {print_node(target.val): place for place, target in enumerate(stmt.targetList or (), 1)}
    for sort in stmt.sortClause or ():
        place = places.get(print_node(sort.node))
        if place is not None:
            sort.node = ast.A_Const(isnull=False, val=ast.Integer(ival=place))


def pick(
    rows: Operator,
    order: Ordering,
    stmt: ast.SelectStmt,
    expressions: Expressions,
    unknown: Type,
    partition: tuple[Expr, ...] = (),
    asked: Attach | None = None,
) -> Operator:
    """The rows that DISTINCT ON and LIMIT leave, of each part if the rows are those of a dependent query.

    ``asked`` adds the columns that LIMIT and OFFSET read, of subqueries in them.
    """
    if order.on:
        first = _numbered(rows, "row_number()", order, (*order.on, *partition), unknown)
        rows = Filter(first, (text(col(first.columns[-1].name), " = 1"),))
    if not has_limit(stmt):
        return rows
    if keeps_none(stmt):
        return Filter(rows, (text("false"),))
    return _limited(rows, order, stmt, expressions, unknown, partition, asked)


def _limited(
    rows: Operator,
    order: Ordering,
    stmt: ast.SelectStmt,
    expressions: Expressions,
    unknown: Type,
    partition: tuple[Expr, ...],
    asked: Attach | None,
) -> Operator:
    offset = _constant(stmt.limitOffset, expressions, "OFFSET" if asked else None)
    count = _constant(stmt.limitCount, expressions, "LIMIT" if asked else None)
    ties = stmt.limitOption == enums.LimitOption.LIMIT_OPTION_WITH_TIES
    if count is not None and order.items and not (ties or partition or asked):
        rows = Pick(rows, order.items, count if offset is None else _sum(offset, count))
        if offset is None:
            return rows
    numbered = _numbered(rows, "row_number()", order, partition, unknown)
    number = col(numbered.columns[-1].name)
    conditions: list[Expr] = []
    if offset is not None:
        conditions.append(text(number, " > COALESCE(", offset, ", 0)"))
    if count is not None:
        if ties:
            numbered = _numbered(numbered, "rank()", order, partition, unknown)
            number = col(numbered.columns[-1].name)
        skipped = text(number, " - COALESCE(", offset, ", 0)") if offset is not None else text(number)
        conditions.append(text("(", skipped, " <= ", count, ") IS NOT FALSE"))
    return Filter(asked(numbered) if asked else numbered, tuple(conditions))


def _sum(offset: Expr, count: Expr) -> Expr:
    """How many rows there are up to the last one; no number that PostgreSQL takes is too large."""
    largest = ", 9223372036854775807)::pg_catalog.int8"
    return text("LEAST(COALESCE(", offset, ", 0)::pg_catalog.numeric + ", count, largest)


def _numbered(rows: Operator, function: str, order: Ordering, on: tuple[Expr, ...], unknown: Type) -> Window:
    names = order.names
    computed = [(Column(names("on"), unknown), expr) for expr in on if expr.column is None]
    if computed:
        columns = (*rows.columns, *(column for column, _ in computed))
        rows = Project(rows, columns, (*(col(c.name) for c in rows.columns), *(expr for _, expr in computed)))
    places = iter(computed)
    keys = tuple(dict.fromkeys(expr.column or next(places)[0].name for expr in on))
    over: list[str | Ref | Expr] = [f"{function} OVER ("]
    if keys:
        over += ["PARTITION BY ", *_separated([col(key) for key in keys])]
    if order.items:
        over += [" ORDER BY ", *_separated(list(order.items))]
    call = AggregateCall(Column(names("number"), unknown), text(*over, ")"))
    return Window(rows, keys, (call,))


def _separated(exprs: list[Expr]) -> list[str | Ref | Expr]:
    parts: list[str | Ref | Expr] = []
    for expr in exprs:
        parts += [", ", expr] if parts else [expr]
    return parts


def _constant(node: ast.Node | None, expressions: Expressions, clause: str | None) -> Expr | None:
    """The argument of LIMIT or OFFSET; of a subquery it is checked for not being negative, as PostgreSQL does."""
    if node is None or (isinstance(node, ast.A_Const) and node.isnull):
        return None
    expr = expressions.convert(node, Scope(()))
    if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer):
        return expr
    expr = text("(", expr, ")::pg_catalog.int8")
    if clause is None:
        return expr
    refused = text(f"('{clause} must not be negative: ' || ", expr, ")::pg_catalog.int8")
    return text("CASE WHEN ", expr, " < 0 THEN ", refused, " ELSE ", expr, " END")


def _shown(item: Expr, expr: Expr, shown: dict[Expr, Expr]) -> Expr:
    """A sort item with its expression replaced by the output column that shows it."""
    if expr.column is not None:
        return item.substitute({expr.column: shown[expr]})
    inner = ("(", *expr.parts, ")")
    if item.parts[: len(inner)] == inner:
        return text(shown[expr], *item.parts[len(inner) :])
    raise unsupported("ORDER BY", "the order of a SELECT DISTINCT with LIMIT could not be taken apart")
