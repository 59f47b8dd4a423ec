"""DISTINCT ON, LIMIT, OFFSET and FETCH: number the rows in their order, and keep those with the right numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import AggregateCall, Filter, Operator, Pick, Project, Window
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.outer_aggregates import free_refs, names_in
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.scope import Scope
from pgtrickle.parse.tree import walk


def has_limit(stmt: ast.SelectStmt) -> bool:
    """Whether LIMIT, OFFSET or FETCH can drop rows (LIMIT ALL and LIMIT NULL cannot)."""
    count = stmt.limitCount
    no_count = count is None or (isinstance(count, ast.A_Const) and bool(count.isnull))
    return not (no_count and stmt.limitOffset is None)


def drop_idle_limits(stmt: ast.SelectStmt, expressions: Expressions) -> None:
    """Drop every LIMIT that cannot drop a row that matters, in place: of an aggregate without GROUP BY, in EXISTS."""
    for node in tuple(walk(stmt, into_subqueries=True)):
        if isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.EXISTS_SUBLINK:
            query = node.subselect
            if _keeps_one(query):
                query.limitCount, query.sortClause = None, None
        elif isinstance(node, ast.SelectStmt) and _keeps_one(node) and _has_one_row(node, expressions):
            node.limitCount = None


def _keeps_one(query: ast.SelectStmt) -> bool:
    """Whether there is a LIMIT that keeps at least the first row."""
    count = query.limitCount
    if query.limitOffset is not None or not isinstance(count, ast.A_Const) or not isinstance(count.val, ast.Integer):
        return False
    return count.val.ival > 0 and not any(node is not None for node in query.distinctClause or ())


def _has_one_row(query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether a SELECT is one group of all rows."""
    clauses = (query.targetList, query.sortClause)
    if query.groupClause or not any(_is_own_aggregate(node, query, expressions) for node in walk(clauses)):
        return False
    return not any(isinstance(node, ast.FuncCall) and expressions.returns_set(node) for node in walk(clauses))


def _is_own_aggregate(node: ast.Node, query: ast.SelectStmt, expressions: Expressions) -> bool:
    """Whether this is an aggregate of the query itself: one that reads only outer columns is of the query around it."""
    if not expressions.is_aggregate(node):
        return False
    refs = free_refs(node)
    own = names_in(query.fromClause)
    return not refs or any(len(ref.fields) == 1 or ref.fields[-2].sval in own for ref in refs)


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
        replaced = tuple(_shown(item, expr, shown) for item, expr in zip(self.items, self.exprs, strict=True))
        return replace(self, items=replaced, exprs=tuple(shown[expr] for expr in self.exprs))

    def carried(self, rows: Project, child: Operator) -> Project:
        """The projection, with the columns below that the order reads added."""
        refs = sorted(frozenset[str]().union(*(expr.refs for expr in (*self.exprs, *self.on))))
        by_name = {column.name: column for column in child.columns}
        extra = tuple(by_name[name] for name in refs)
        return Project(rows.child, (*rows.columns, *extra), (*rows.exprs, *(col(name) for name in refs)))


def pick(
    rows: Operator,
    order: Ordering,
    stmt: ast.SelectStmt,
    expressions: Expressions,
    unknown: Type,
    partition: tuple[Expr, ...] = (),
) -> Operator:
    """The rows that DISTINCT ON and LIMIT leave, of each part if the rows are those of a dependent query."""
    if order.on:
        first = _numbered(rows, "row_number()", order, (*order.on, *partition), unknown)
        rows = Filter(first, (text(col(first.columns[-1].name), " = 1"),))
    if not has_limit(stmt):
        return rows
    if not order.items:
        raise unsupported("LIMIT without ORDER BY", "which rows are returned is left to chance")
    return _limited(rows, order, stmt, expressions, unknown, partition)


def _limited(
    rows: Operator,
    order: Ordering,
    stmt: ast.SelectStmt,
    expressions: Expressions,
    unknown: Type,
    partition: tuple[Expr, ...],
) -> Operator:
    offset = _constant(stmt.limitOffset, expressions)
    count = _constant(stmt.limitCount, expressions)
    ties = stmt.limitOption == enums.LimitOption.LIMIT_OPTION_WITH_TIES
    if count is not None and not ties and not partition:
        last = text("COALESCE(", offset, ", 0) + ", count) if offset is not None else count
        rows = Pick(rows, order.items, last)
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
        last = text("COALESCE(", offset, ", 0) + ", count) if offset is not None else count
        conditions.append(text("(", number, " <= ", last, ") IS NOT FALSE"))
    return Filter(numbered, tuple(conditions))


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


def _constant(node: ast.Node | None, expressions: Expressions) -> Expr | None:
    if node is None or (isinstance(node, ast.A_Const) and node.isnull):
        return None
    return expressions.convert(node, Scope(()))


def _shown(item: Expr, expr: Expr, shown: dict[Expr, Expr]) -> Expr:
    """A sort item with its expression replaced by the output column that shows it."""
    if expr.column is not None:
        return item.substitute({expr.column: shown[expr]})
    inner = ("(", *expr.parts, ")")
    if item.parts[: len(inner)] == inner:
        return text(shown[expr], *item.parts[len(inner) :])
    raise unsupported("ORDER BY", "the order of a SELECT DISTINCT with LIMIT could not be taken apart")
