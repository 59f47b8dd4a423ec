"""Subqueries in expressions.

EXISTS and IN as a condition of WHERE become semi and anti joins; most others are unnested (`parse.unnest`). What is
left stays the text that PostgreSQL evaluates, once per combination of the outer values it reads; its value is a column
of an `Apply` below the expression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeGuard

from pglast import ast, enums

from pgtrickle.ir.describe import show
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Apply, InputKey, Operator, Project, SubqueryCall
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.ctes import with_ctes
from pgtrickle.parse.expression import Expressions, all_of, split_and
from pgtrickle.parse.guards import Branching, combined, lift_branches, may_fail
from pgtrickle.parse.limits import left_to_chance
from pgtrickle.parse.membership import Membership
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.quantified import as_aggregate
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.tree import transform, walk
from pgtrickle.parse.unnest import (
    Asked,
    Unnester,
    bind_outer,
    can_be_dependent,
    can_unnest,
    hoist_outer,
    reads_outer,
)

#: The expression for a column reference of the outer query.
Resolve = Callable[[ast.ColumnRef], Expr]

#: Operators that equal values are the same to.
_BY_ORDER = frozenset({"=", "<>", "<", "<=", ">", ">="})


@dataclass(slots=True)
class Subqueries:
    """Replaces the subqueries of some expressions by columns, and remembers what the columns are.

    ``ctes`` are the common table expressions around the query, as text; ``grouped``: the expressions stand above a
    grouping, whose keys have names of their own, and this converts them.
    """

    expressions: Expressions
    unknown: Type
    ctes: Mapping[str, str]
    resolve: Resolve
    unnester: Unnester | None = None
    grouped: Callable[[ast.Node], Expr] | None = None
    steps: list[Step] = field(default_factory=list)
    #: What has to be true for what is being lifted to be evaluated.
    _conditions: tuple[ast.Node, ...] = ()

    def lift(self, node: ast.Node) -> ast.Node:
        """The expression without subqueries; changes the node in place."""
        lifted = transform(node, self._replace)
        assert isinstance(lifted, ast.Node)
        return lifted

    def under(self, child: Operator) -> Operator:
        """The rows below, with the columns that the lifted expressions read."""
        base = child
        for step in self.steps:
            if isinstance(step, Guard):
                columns = (*child.columns, step.column)
                child = Project(child, columns, (*(col(c.name) for c in child.columns), step.expr))
            elif isinstance(step, SubqueryCall):
                beside = isinstance(child, Apply) and child is not base and _reads_only(step, child.child)
                child = Apply(child.child, (*child.calls, step)) if beside else Apply(child, (step,))
            elif self.unnester is not None:
                child = self.unnester.attach(child, step, base)
        return child

    def shared(self, sides: tuple[frozenset[str], ...]) -> tuple[Subqueries, ...] | None:
        """The subqueries, each given to the first side that has all columns it reads; None if one has no such side."""
        known = [set(names) for names in sides]
        shares = tuple(replace(self, steps=[]) for _ in sides)
        for step in self.steps:
            number = next((n for n, names in enumerate(known) if _columns_of(step) <= names), None)
            if number is None:
                return None
            shares[number].steps.append(step)
            known[number] |= _added_by(step)
        return shares

    def _lift_under(self, node: ast.Node, conditions: tuple[ast.Node, ...]) -> ast.Node:
        before = self._conditions
        self._conditions = (*before, *conditions)
        lifted = self.lift(node)
        self._conditions = before
        return lifted

    def _guard(self, node: ast.SubLink) -> Expr | None:
        """A column that tells the rows for which a subquery is evaluated; None if it may be evaluated for others."""
        if not self._conditions or not may_fail(node, self.expressions):
            return None
        condition = combined(self._conditions)
        if self.grouped:
            expr = self.grouped(condition)
        else:
            expr = self.expressions.names.split(print_node(transform(condition, self._outer(None))))
        step = Guard(Column(self.expressions.names.fresh("asked"), self.unknown), expr)
        self.steps.append(step)
        self.expressions.note("guard", "a subquery that may fail is asked only for rows that need its value")
        return col(step.column.name)

    def _replace(self, node: ast.Node) -> ast.Node | None:
        if isinstance(node, Branching) and has_subquery(node):
            lift_branches(node, self._lift_under)
            return node
        if _compares_row(node):
            return self._row_comparison(node)
        if not isinstance(node, ast.SubLink):
            return None
        guard = self._guard(node)
        test = frozenset[str]()
        if node.testexpr is not None:
            node.testexpr = transform(self.lift(node.testexpr), self._outer(None))
            test = self._only_compared(node)
        unnested = self._unnested(node, guard)
        if unnested is not None:
            return self.expressions.names.placeholder(unnested)
        subselect, inputs = self.text_of(node.subselect)
        return self._as_text(node, guard, inputs, test - subselect.refs)

    def _row_comparison(self, node: ast.A_Expr) -> ast.Node:
        """``(a, b) < (SELECT c, d ...)`` is computed as a whole: the value of the subquery is no column."""
        guard = self._guard(node.rexpr)
        node.lexpr = transform(self.lift(node.lexpr), self._outer(None))
        _, inputs = self.text_of(node.rexpr.subselect)
        return self._as_text(node, guard, inputs, frozenset())

    def _as_text(
        self, node: ast.Node, guard: Expr | None, inputs: frozenset[InputKey], compared: frozenset[str]
    ) -> ast.Node:
        """What stands for an expression with a subquery that PostgreSQL evaluates as it is."""
        expr = _guarded(self.expressions.names.split(print_node(node)), guard)
        column = Column(self.expressions.names.fresh("subquery"), self.unknown)
        self.steps.append(SubqueryCall(column, expr, inputs, compared))
        self.expressions.note("subquery", f"{show(expr)} becomes a column that is computed below the expression")
        return self.expressions.names.placeholder(col(column.name))

    def _only_compared(self, node: ast.SubLink) -> frozenset[str]:
        """The columns on the left of IN that are compared as they are: what is equal to one value is to another that
        equals it. Converted, or by another operator, they may differ."""
        if (node.operName or (ast.String(sval="="),))[-1].sval not in _BY_ORDER:
            return frozenset()
        test = node.testexpr
        parts = test.args if isinstance(test, ast.RowExpr) else (test,)
        exprs = [self.expressions.names.split(print_node(part)) for part in parts]
        computed = frozenset[str]().union(*(expr.refs for expr in exprs if expr.column is None))
        return frozenset(expr.column for expr in exprs if expr.column is not None) - computed

    def _unnested(self, node: ast.SubLink, guard: Expr | None) -> Expr | None:
        """The value of a subquery that can be unnested; what it needs is added to the steps."""
        if self.unnester is None:
            return None
        is_outer = self._is_outer(node.subselect)
        if guard is not None and not reads_outer(node.subselect, is_outer):
            return None  # as text, it is not even begun where nobody needs it
        plain = as_aggregate(node, self.expressions, correlated=reads_outer(node.subselect, is_outer)) or node
        if not can_unnest(plain, is_outer, self.expressions):
            return None
        return self.unnester.value(self._asked(plain, guard))

    def lateral(
        self, left: Operator, query: ast.SelectStmt, *, outer: bool, marked: bool
    ) -> tuple[Operator, tuple[Column, ...], tuple[str, ...]] | None:
        """A LATERAL query unnested: the rows to the left with its rows; None if it has to be evaluated row by row.

        Returns:
            The rows, the columns of the query among them, and the names of these. If ``marked``, a further column is
            true where the query has a row.
        """
        is_outer = self._is_outer(query)
        if self.unnester is None or not can_be_dependent(query, is_outer, self.expressions):
            return None
        bound = bind_outer(query, is_outer, self._resolved, self.expressions)
        return self.unnester.lateral(left, query, bound, keep=outer, marked=marked)

    def _asked(self, node: ast.SubLink, guard: Expr | None) -> Asked:
        """A subquery to be unnested. Rows that do not need its value ask for that of NULLs, which is harmless."""
        names = self.expressions.names
        bound = bind_outer(node.subselect, self._is_outer(node.subselect), self._resolved, self.expressions)
        outer = {_guarded(expr, guard): name for expr, name in bound.items()}
        test = _guarded(names.split(print_node(node.testexpr)), guard) if node.testexpr is not None else None
        over = f"all combinations of {len(outer)} outer columns" if outer else "the whole query"
        self.expressions.note("unnest", f"a subquery is asked once for {over} and joined")
        asked = Asked(node.subLinkType, node.subselect, outer, test, names.fresh("subquery"))
        self.steps.append(asked)
        return asked

    def joins_alone(self, query: ast.SelectStmt) -> bool:
        """Whether the joins of a nested query read no column of the query around it.

        Conditions in ON of its inner joins that do are moved to its WHERE first, in place.
        """
        is_outer = self._is_outer(query)
        hoist_outer(query, is_outer)
        nodes = walk(query.fromClause, into_subqueries=True)
        return not any(isinstance(node, ast.ColumnRef) and is_outer(node) for node in nodes)

    def stands_alone(self, found: Membership) -> bool:
        """Whether the query of a membership reads tables and no column of the query around it."""
        is_outer = self._is_outer(found.subselect)
        reads_tables = any(isinstance(node, ast.RangeVar) for node in walk(found.subselect, into_subqueries=True))
        return reads_tables and not reads_outer(found.subselect, is_outer)

    def _is_outer(self, query: ast.SelectStmt) -> Callable[[ast.ColumnRef], bool]:
        """Tells the references in a nested query that are columns of the query around it."""
        inside = aliases_in(query)

        def is_outer(node: ast.ColumnRef) -> bool:
            if self.expressions.names.is_placeholder(node):
                return True
            # The server qualifies every column inside a subquery, and no alias appears at two levels.
            qualifiers = [part.sval for part in node.fields[:-1] if isinstance(part, ast.String)]
            return bool(qualifiers) and qualifiers[-1] not in inside

        return is_outer

    def _resolved(self, node: ast.ColumnRef) -> Expr:
        """An outer reference; one that was resolved further outside is a column of this query's domain."""
        if self.expressions.names.is_placeholder(node) and not self.grouped:
            return self.expressions.names.split(print_node(node))
        return self.resolve(node)

    def text_of(self, query: ast.SelectStmt, known: frozenset[str] = frozenset()) -> tuple[Expr, frozenset[InputKey]]:
        """A nested query as text with holes for outer columns, and the tables that it reads.

        Args:
            query: the query; its outer references are replaced in place.
            known: names in FROM that are neither tables nor common table expressions.
        """
        transform(query, self._outer(aliases_in(query) | known))
        inputs = self._inputs(query) | with_ctes(query, self.ctes, self._inputs)
        free = (node for node in walk(query, into_subqueries=True) if isinstance(node, ast.SelectStmt))
        if inputs and any(left_to_chance(node, self.expressions) for node in free):
            raise unsupported("LIMIT without ORDER BY", "which rows are returned is left to chance")
        return self.expressions.names.split(print_node(query)), inputs

    def _outer(self, inside: frozenset[str] | None) -> Callable[[ast.Node], ast.Node | None]:
        """Replaces references to columns of the outer query."""

        def replace(node: ast.Node) -> ast.Node | None:
            if not isinstance(node, ast.ColumnRef):
                return None
            if self.expressions.names.is_placeholder(node):
                return self.expressions.names.placeholder(self._resolved(node))
            # The server qualifies every column inside a subquery, and no alias appears at two levels.
            qualifiers = [part.sval for part in node.fields[:-1]]
            if inside is not None and (not qualifiers or qualifiers[-1] in inside):
                return None
            return self.expressions.names.placeholder(self.resolve(node))

        return replace

    def _inputs(self, node: object) -> frozenset[InputKey]:
        """The tables that a query text reads."""
        found = set()
        for inner in walk(node, into_subqueries=True):
            if isinstance(inner, ast.RangeVar) and inner.schemaname is not None:
                facts = self.expressions.facts.relations.get((inner.schemaname, inner.relname))
                if facts is None or facts.obstacle:
                    name = f"{inner.schemaname}.{inner.relname}"
                    raise unsupported("subquery", "changes of a relation in it cannot be captured", detail=name)
                found.add(InputKey(facts.kind, facts.relid))
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Guard:
    """A column that is true for the rows for which a subquery that may fail is evaluated."""

    column: Column
    expr: Expr


#: What happens below an expression, in this order.
Step: TypeAlias = SubqueryCall | Asked | Guard


def _compares_row(node: ast.Node) -> TypeGuard[ast.A_Expr]:
    """Whether a row is compared with the only row of a subquery."""
    return (
        isinstance(node, ast.A_Expr)
        and isinstance(node.lexpr, ast.RowExpr)
        and isinstance(node.rexpr, ast.SubLink)
        and node.rexpr.subLinkType == enums.SubLinkType.EXPR_SUBLINK
    )


def _guarded(expr: Expr, guard: Expr | None) -> Expr:
    return expr if guard is None else text("CASE WHEN ", guard, " THEN ", expr, " END")


def _reads_only(step: SubqueryCall, rows: Operator) -> bool:
    return step.expr.refs <= {column.name for column in rows.columns}


def _columns_of(step: Step) -> frozenset[str]:
    """The columns of the outer rows that a subquery reads."""
    if isinstance(step, SubqueryCall | Guard):
        return step.expr.refs
    exprs = (*step.outer, *((step.test,) if step.test is not None else ()))
    return frozenset[str]().union(*(expr.refs for expr in exprs))


def _added_by(step: Step) -> frozenset[str]:
    """The columns that stand for a subquery."""
    if isinstance(step, SubqueryCall | Guard):
        return frozenset({step.column.name})
    return frozenset(f"{step.column}{suffix}" for suffix in ("", "_r", "_n"))


def aliases_in(subselect: ast.SelectStmt) -> frozenset[str]:
    """All names under which the FROM items of a query, at any depth, can be referred to."""
    found: set[str] = set()
    for node in walk(subselect, into_subqueries=True):
        alias = getattr(node, "alias", None)
        if isinstance(alias, ast.Alias):
            found.add(alias.aliasname)
        elif isinstance(node, ast.RangeVar):
            found.add(node.relname)
        using = getattr(node, "join_using_alias", None)
        if isinstance(using, ast.Alias):
            found.add(using.aliasname)
    return frozenset(found)


def lift_keys(stmt: ast.SelectStmt, subqueries: Subqueries) -> None:
    """Evaluate the subqueries of GROUP BY below the grouping; elsewhere the same expression means the key, in place."""
    lifted: dict[str, ast.Node] = {}

    def replace(node: ast.Node) -> ast.Node | None:
        return lifted.get(print_node(node)) if has_subquery(node) and not isinstance(node, _CLAUSES) else None

    for node in tuple(walk(stmt.groupClause)):
        if has_subquery(node) and not isinstance(node, ast.GroupingSet):
            lifted.setdefault(print_node(node), subqueries.lift(deepcopy(node)))
    for clause in ("groupClause", "targetList", "havingClause", "sortClause", "distinctClause", "windowClause"):
        setattr(stmt, clause, transform(getattr(stmt, clause), replace))


#: Nodes of a SELECT that are no expressions.
_CLAUSES = (ast.ResTarget, ast.SortBy, ast.WindowDef, ast.GroupingSet)


def hoist_conditions(stmt: ast.SelectStmt) -> bool:
    """Move conditions with subqueries from the ON of inner joins to WHERE, where they mean the same.

    Returns:
        Whether there was any.
    """
    moved: list[ast.Node] = []

    def visit(node: ast.Node) -> None:
        if not isinstance(node, ast.JoinExpr):
            return
        inner = node.jointype == enums.JoinType.JOIN_INNER
        if inner and not node.usingClause:
            parts = split_and(node.quals)
            moved.extend(part for part in parts if has_subquery(part))
            node.quals = all_of(tuple(part for part in parts if not has_subquery(part)))
        if inner or node.jointype == enums.JoinType.JOIN_LEFT:
            visit(node.larg)
        if inner or node.jointype == enums.JoinType.JOIN_RIGHT:
            visit(node.rarg)

    for item in stmt.fromClause or ():
        visit(item)
    if moved:
        stmt.whereClause = all_of((*split_and(stmt.whereClause), *moved))
    return bool(moved)


def has_subquery(node: object) -> bool:
    """Whether a subquery stands in an expression."""
    return any(isinstance(inner, ast.SubLink) for inner in walk(node))


def conditions_of(parts: tuple[ast.Node, ...]) -> tuple[tuple[ast.Node, ...], tuple[ast.Node, ...]]:
    """The conditions of a WHERE without and with subqueries."""
    return tuple(p for p in parts if not has_subquery(p)), tuple(p for p in parts if has_subquery(p))
