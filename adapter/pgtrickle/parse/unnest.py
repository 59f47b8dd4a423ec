"""Subqueries in expressions as relational algebra: asked once for all combinations of outer values, not once per row.

The combinations are the *domain* of a subquery. The subquery is parsed with the domain as the first item of its FROM
clause; its rows then carry the outer values that they belong to, and are attached to the rows of the outer query by
these (Neumann and Kemper, "Unnesting Arbitrary Queries", BTW 2015). So its delta follows from the rules of joins and
groupings. Values of the domain without a row are seen by aggregates as a row that their FILTER leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, col, equals, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Attach, Filter, Operator, Pad, Project, Single, UnionAll
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions, all_of, split_and
from pgtrickle.parse.limits import left_to_chance
from pgtrickle.parse.outer_aggregates import free_refs
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.tree import transform, walk

if TYPE_CHECKING:
    from pgtrickle.parse.select import Parsed

#: Parses a nested query over a domain; its rows end with the columns of the domain.
Nested = Callable[[ast.SelectStmt, "Domain | None"], "Parsed"]


@dataclass(frozen=True, slots=True)
class Domain:
    """The combinations of outer values for which a subquery is asked, each once.

    ``rows`` has just the columns ``names``; ``outer`` are the expressions over the outer rows that they stand for.
    """

    rows: Operator
    names: tuple[str, ...]
    outer: tuple[Expr, ...]

    @classmethod
    def of(cls, child: Operator, outer: dict[Expr, str], unknown: Type) -> Domain:
        """The distinct values of some expressions over the rows of ``child``."""
        names = tuple(outer.values())
        columns = tuple(Column(name, unknown) for name in names)
        return cls(Aggregate(Project(child, columns, tuple(outer)), names, ()), names, tuple(outer))


# --- what can be unnested ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A subquery in an expression that can be unnested.

    ``outer`` maps the outer values that it reads to the columns of its domain; ``test`` is the left side of IN.
    """

    kind: enums.SubLinkType
    query: ast.SelectStmt
    outer: dict[Expr, str]
    test: Expr | None
    column: str


def can_unnest(node: ast.SubLink, is_outer: Callable[[ast.ColumnRef], bool], expressions: Expressions) -> bool:
    """Whether a subquery has a form that `attach` knows.

    Args:
        node: the subquery.
        is_outer: tells references to columns of the outer query.
        expressions: tells aggregates.
    """
    match node.subLinkType:
        case enums.SubLinkType.EXISTS_SUBLINK | enums.SubLinkType.EXPR_SUBLINK:
            pass
        case enums.SubLinkType.ANY_SUBLINK:
            if isinstance(node.testexpr, ast.RowExpr) or tuple(p.sval for p in node.operName or ()) not in ((), ("=",)):
                return False
        case _:
            return False
    return can_be_dependent(node.subselect, is_outer, expressions)


def can_be_dependent(
    query: ast.SelectStmt, is_outer: Callable[[ast.ColumnRef], bool], expressions: Expressions
) -> bool:
    """Whether a nested query can be parsed over a domain: where it reads outer columns, and that it reads tables."""
    if not any(isinstance(inner, ast.RangeVar) for inner in walk(query, into_subqueries=True)):
        return False  # a function of the outer row, which is evaluated where it stands
    return not reads_outer(query, is_outer) or _is_simple(query, is_outer, expressions)


def reads_outer(query: ast.SelectStmt, is_outer: Callable[[ast.ColumnRef], bool]) -> bool:
    """Whether a nested query reads columns of the query around it."""
    return any(_is_outer(inner, is_outer) for inner in walk(query, into_subqueries=True))


def _is_outer(node: ast.Node, is_outer: Callable[[ast.ColumnRef], bool]) -> bool:
    return isinstance(node, ast.ColumnRef) and is_outer(node)


def _is_simple(query: ast.SelectStmt, is_outer: Callable[[ast.ColumnRef], bool], expressions: Expressions) -> bool:
    if query.op != enums.SetOperation.SETOP_NONE or query.valuesLists:
        return False
    if left_to_chance(query, expressions):
        return False
    if any(isinstance(node, ast.GroupingSet) for node in query.groupClause or ()):
        return False
    own = tuple(walk((query.targetList, query.sortClause, query.havingClause, query.distinctClause)))
    if query.windowClause or any(isinstance(node, ast.FuncCall) and node.over is not None for node in own):
        return False
    if any(expressions.is_aggregate(node) and _belongs_outside(node, is_outer) for node in walk_all(query)):
        return False
    hidden = (query.withClause, *(part for item in query.fromClause or () for part in _deep_parts(item)))
    return not any(_is_outer(inner, is_outer) for inner in walk_all(hidden))


def walk_all(nodes: object) -> Iterator[ast.Node]:
    """All nodes, those of subqueries included."""
    return walk(nodes, into_subqueries=True)


def _belongs_outside(call: ast.Node, is_outer: Callable[[ast.ColumnRef], bool]) -> bool:
    """An aggregate that reads outer columns only is one of the outer query."""
    refs = free_refs(call)
    return bool(refs) and all(is_outer(ref) for ref in refs)


def _deep_parts(item: ast.Node) -> Iterator[object]:
    """The parts of a FROM item in which the domain is out of reach."""
    if isinstance(item, ast.JoinExpr):
        if item.jointype != enums.JoinType.JOIN_INNER or item.usingClause or item.alias:
            yield item
            return
        for side in (item.larg, item.rarg):
            if isinstance(side, ast.JoinExpr):
                yield from _deep_parts(side)
            else:
                yield side
    elif isinstance(item, ast.RangeSubselect) and not item.lateral:
        yield item


def hoist_outer(query: ast.SelectStmt, is_outer: Callable[[ast.ColumnRef], bool]) -> None:
    """Move conditions that read outer columns from the ON of inner joins to WHERE."""
    moved: list[ast.Node] = []

    def visit(item: ast.Node) -> None:
        if not isinstance(item, ast.JoinExpr) or item.jointype != enums.JoinType.JOIN_INNER or item.alias:
            return
        parts = split_and(item.quals)
        reading = tuple(part for part in parts if any(_is_outer(inner, is_outer) for inner in walk_all(part)))
        moved.extend(reading)
        item.quals = all_of(tuple(part for part in parts if part not in reading))
        visit(item.larg)
        visit(item.rarg)

    for item in query.fromClause or ():
        visit(item)
    if moved:
        query.whereClause = all_of((*split_and(query.whereClause), *moved))


def bind_outer(
    query: ast.SelectStmt,
    is_outer: Callable[[ast.ColumnRef], bool],
    resolve: Callable[[ast.ColumnRef], Expr],
    expressions: Expressions,
) -> dict[Expr, str]:
    """Replace the outer references of a query by references to columns of its domain; returns these columns."""
    names = expressions.names
    found: dict[Expr, str] = {}

    def replace(node: ast.Node) -> ast.Node | None:
        if not isinstance(node, ast.ColumnRef) or not is_outer(node):
            return None
        expr = resolve(node)
        if expr not in found:
            found[expr] = names.fresh(expr.column or "outer")
        return names.placeholder(col(found[expr]))

    hoist_outer(query, is_outer)
    transform(query, replace)
    return found


# --- grouping over a domain ----------------------------------------------------------------------------------------


def with_absent(
    rows: Operator, domain: Domain, dependent: tuple[str, ...], expressions: Expressions, unknown: Type
) -> tuple[UnionAll, str]:
    """The rows of a dependent query, plus one row of NULLs for each combination of the domain.

    Args:
        rows: has the domain's values in the columns ``dependent``.
        domain: the domain.
        dependent: columns in step with ``domain.names``.
        expressions: gives fresh names.
        unknown: the type of columns not typed yet.

    Returns:
        The union, under the columns of ``rows``, and a further column that is true for the rows that exist.
    """
    tag = Column(expressions.names.fresh("exists"), unknown)
    values = tuple(column for column in rows.columns if column.name not in dependent)
    there = Project(rows, (*rows.columns, tag), (*(col(c.name) for c in rows.columns), text("TRUE")))
    padded: Operator = domain.rows
    if values:
        padded = Pad(domain.rows, Project(rows, values, tuple(col(c.name) for c in values)))
    own = dict(zip(dependent, domain.names, strict=True))
    exprs = tuple(col(own.get(column.name, column.name)) for column in rows.columns)
    absent = Project(padded, (*rows.columns, tag), (*exprs, text("FALSE")))
    return UnionAll((there, absent), there.columns), tag.name


def filter_calls(nodes: Iterable[ast.Node], tag: str, expressions: Expressions) -> None:
    """Let the aggregates among some nodes see only the rows whose column ``tag`` is true; in place."""
    for node in tuple(nodes):
        if expressions.is_aggregate(node):
            call = node if isinstance(node, ast.FuncCall) else node.constructor
            only = expressions.names.placeholder(col(tag))
            call.agg_filter = all_of((only, *split_and(call.agg_filter)))


# --- values ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unnester:
    """Attaches the values of subqueries to the rows of the query around them."""

    expressions: Expressions
    unknown: Type
    nested: Nested

    def value(self, asked: Asked) -> Expr:
        """What stands for the subquery in its expression, over the columns that `attach` adds."""
        match asked.kind:
            case enums.SubLinkType.EXISTS_SUBLINK:
                return text(col(asked.column), " > 0")
            case enums.SubLinkType.ANY_SUBLINK:
                assert asked.test is not None
                matches, rows, nulls = (col(f"{asked.column}{suffix}") for suffix in ("", "_r", "_n"))
                unknown = text("(", asked.test, ") IS NOT DISTINCT FROM NULL OR ", nulls, " > 0")
                return text(
                    "CASE WHEN ", matches, " > 0 THEN TRUE WHEN ", rows, " = 0 THEN FALSE WHEN ", unknown,
                    " THEN NULL::pg_catalog.bool ELSE FALSE END",
                )  # fmt: skip
            case _:
                return col(asked.column)

    def attach(self, child: Operator, asked: Asked, base: Operator) -> Operator:
        """The rows of ``child`` with the columns that stand for a subquery.

        Args:
            child: the outer rows.
            asked: the subquery.
            base: the rows whose outer values make the domain: ``child``, or what it was made of.
        """
        own = {column.name for column in base.columns}
        source = base if frozenset[str]().union(*(expr.refs for expr in asked.outer)) <= own else child
        domain = Domain.of(source, asked.outer, self.unknown) if asked.outer else None
        match asked.kind:
            case enums.SubLinkType.EXISTS_SUBLINK:
                rows = self._bare(asked, domain)
                calls = (self._count(asked.column),)
                return self._grouped(child, rows, domain, calls)
            case enums.SubLinkType.ANY_SUBLINK:
                return self._member(child, source, asked, domain)
            case _:
                one_row = self._is_one_row(asked.query)  # before parsing, which replaces parts of it
                rows, _ = self.nested(asked.query, domain)
                if one_row:
                    return self._joined(child, self._renamed(rows, (asked.column,)), domain)
                return self._single(child, rows, domain, asked.column)

    def lateral(
        self, left: Operator, query: ast.SelectStmt, outer: dict[Expr, str], *, keep: bool, marked: bool
    ) -> tuple[Operator, tuple[Column, ...], tuple[str, ...]]:
        """A LATERAL query: the rows to the left with its rows, its columns, and their names; ``keep``: LEFT JOIN.

        ``marked``: a further column, behind those of the query, is true for the rows that it has.
        """
        domain = Domain.of(left, outer, self.unknown) if outer else None
        complete = not keep or self._is_one_row(query)
        rows, names = self.nested(query, domain)
        rows = self._renamed(rows, ())
        width = len(names)
        if marked:
            there = Column(self.expressions.names.fresh("there"), self.unknown)
            values, dependent = rows.columns[:width], rows.columns[width:]
            exprs = (*(col(c.name) for c in values), text("TRUE"), *(col(c.name) for c in dependent))
            rows, width = Project(rows, (*values, there, *dependent), exprs), width + 1
        if not complete:
            rows = self._padded(rows, domain)
        joined = self._joined(left, rows, domain)
        return joined, rows.columns[:width], names

    def _padded(self, rows: Project, domain: Domain | None) -> UnionAll:
        """The rows, and one of NULLs for each combination of the domain that has none."""
        if domain is None:
            raise unsupported("LEFT JOIN LATERAL", "it is evaluated as a whole where it reads no outer column")
        dependent = tuple(column.name for column in rows.columns[-len(domain.names) :])
        keys = Project(rows, self._fresh(rows.columns[-len(dependent) :]), tuple(map(col, dependent)))
        union, tag = with_absent(keys, domain, tuple(c.name for c in keys.columns), self.expressions, self.unknown)
        count = self._count(self.expressions.names.fresh("rows"), col(tag))
        none = Filter(
            Aggregate(union, tuple(c.name for c in keys.columns), (count,)), (text(col(count.column.name), " = 0"),)
        )
        bare = Project(none, self._fresh(keys.columns), tuple(col(c.name) for c in keys.columns))
        values = rows.columns[: -len(dependent)]
        padded = Pad(bare, Project(rows, values, tuple(col(c.name) for c in values)))
        exprs = (*(col(c.name) for c in values), *(col(c.name) for c in bare.columns))
        absent = Project(padded, self._fresh(rows.columns), exprs)
        return UnionAll((rows, absent), self._fresh(rows.columns))

    def _is_one_row(self, query: ast.SelectStmt) -> bool:
        """Whether a query has exactly one row whatever the tables hold."""
        picked = (query.groupClause, query.havingClause, query.limitCount, query.limitOffset, query.valuesLists)
        if any(picked) or query.op != enums.SetOperation.SETOP_NONE or query.distinctClause:
            return False
        if not self.expressions.has_aggregate(query.targetList):
            return False
        return not any(
            isinstance(node, ast.FuncCall) and node.over is None and self.expressions.returns_set(node)
            for node in walk(query.targetList)
        )

    def _bare(self, asked: Asked, domain: Domain | None) -> Operator:
        """The rows of a subquery of which only the number matters."""
        query = asked.query
        if query.limitCount is not None and query.limitOffset is None and _is_positive(query.limitCount):
            query.limitCount = None
        rows, _ = self.nested(query, domain)
        kept = rows.columns[len(rows.columns) - len(domain.names) :] if domain else rows.columns[:1]
        if not kept:
            one = Column(self.expressions.names.fresh("one"), self.unknown)
            return Project(rows, (one,), (text("1"),))
        return Project(rows, kept, tuple(col(c.name) for c in kept))

    def _renamed(self, rows: Operator, names: tuple[str, ...]) -> Project:
        """The rows with the given names for the first columns."""
        columns = tuple(
            Column(names[i] if i < len(names) else self.expressions.names.fresh(c.name), c.type, c.nullable)
            for i, c in enumerate(rows.columns)
        )
        return Project(rows, columns, tuple(col(c.name) for c in rows.columns))

    def _count(self, name: str, condition: Expr | None = None) -> AggregateCall:
        expr = text("count(*)") if condition is None else text("count(*) FILTER (WHERE ", condition, ")")
        return AggregateCall(Column(name, self.unknown), expr, "count", (), condition, True)

    def _grouped(
        self, child: Operator, rows: Operator, domain: Domain | None, calls: tuple[AggregateCall, ...]
    ) -> Operator:
        """Counts of a subquery's rows, per combination of the domain (its columns are the last ones of ``rows``)."""
        if domain is None:
            return Attach(child, Aggregate(rows, (), calls, scalar=True), ())
        dependent = tuple(column.name for column in rows.columns[-len(domain.names) :])
        union, tag = with_absent(rows, domain, dependent, self.expressions, self.unknown)
        counted = tuple(
            self._count(c.column.name, col(tag) if c.filter is None else text(col(tag), " AND (", c.filter, ")"))
            for c in calls
        )
        grouped = Aggregate(union, dependent, counted)
        return self._joined(child, self._domain_last(grouped, dependent), domain)

    def _domain_last(self, op: Operator, dependent: tuple[str, ...]) -> Project:
        values = tuple(column for column in op.columns if column.name not in dependent)
        keys = tuple(column for name in dependent for column in op.columns if column.name == name)
        columns = (*values, *(Column(self.expressions.names.fresh(c.name), c.type, c.nullable) for c in keys))
        return Project(op, columns, tuple(col(c.name) for c in (*values, *keys)))

    def _joined(self, child: Operator, rows: Operator, domain: Domain | None) -> Operator:
        """Each outer row with the row of its combination; there is exactly one."""
        if domain is None:
            return Attach(child, rows, ())
        child, mine = self.shown(child, domain.outer)
        theirs = tuple(column.name for column in rows.columns[-len(domain.names) :])
        return Attach(child, rows, tuple(zip(mine, theirs, strict=True)))

    def shown(self, child: Operator, exprs: tuple[Expr, ...]) -> tuple[Operator, tuple[str, ...]]:
        """The rows with a column for each of some expressions, and the names of these."""
        computed = {
            expr: Column(self.expressions.names.fresh("outer"), self.unknown) for expr in exprs if expr.column is None
        }
        if computed:
            columns = (*child.columns, *computed.values())
            child = Project(child, columns, (*(col(c.name) for c in child.columns), *computed))
        return child, tuple(expr.column or computed[expr].name for expr in exprs)

    def _single(self, child: Operator, rows: Operator, domain: Domain | None, column: str) -> Operator:
        """The value of the only row, NULL if there is none; more than one is an error."""
        if domain is None:
            return Single(child, None, self._renamed(rows, (column,)), (), column)
        child, mine = self.shown(child, domain.outer)
        named = self._renamed(rows, (column,))
        theirs = tuple(c.name for c in named.columns[-len(domain.names) :])
        return Single(child, domain.rows, named, tuple(zip(mine, theirs, domain.names, strict=True)), column)

    def _member(self, child: Operator, source: Operator, asked: Asked, domain: Domain | None) -> Operator:
        """``x IN (...)``: how many rows are equal to x, how many there are, and how many are NULL."""
        assert asked.test is not None
        rows, _ = self.nested(asked.query, domain)
        value, *dependent = self._renamed(rows, ()).columns
        rows = Project(rows, (value, *dependent), tuple(col(c.name) for c in rows.columns))
        null = text(col(value.name), " IS NOT DISTINCT FROM NULL")
        totals = (self._count(f"{asked.column}_r"), self._count(f"{asked.column}_n", null))
        child = self._grouped(child, rows, domain, totals)
        # A second domain, with x in it, finds the equal rows.
        again, _ = self.nested_again(rows)
        names = self.expressions.names
        outer = {**{expr: names.fresh("outer") for expr in asked.outer}, asked.test: names.fresh("tested")}
        tested = Domain.of(
            source if asked.test.refs <= {c.name for c in source.columns} else child, outer, self.unknown
        )
        equal = equals(col(outer[asked.test]), col(again.columns[0].name))
        linked = tuple((outer[expr], column.name) for expr, column in zip(asked.outer, again.columns[1:], strict=True))
        matches = Attach(tested.rows, again, linked, (equal,))
        kept = Project(matches, self._fresh(tested.rows.columns), tuple(col(c.name) for c in tested.rows.columns))
        return self._grouped(child, kept, tested, (self._count(asked.column),))

    def nested_again(self, rows: Operator) -> tuple[Project, tuple[str, ...]]:
        """The same rows under fresh names, for a second use beside the first."""
        renamed = self._renamed(rows, ())
        return renamed, tuple(column.name for column in renamed.columns)

    def _fresh(self, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        return tuple(Column(self.expressions.names.fresh(c.name), c.type, c.nullable) for c in columns)


def _is_positive(node: ast.Node) -> bool:
    return isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer) and node.val.ival > 0
