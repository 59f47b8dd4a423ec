"""One SELECT, and the queries that are put together from several."""

from __future__ import annotations

from dataclasses import dataclass, field

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError

from pgtrickle.errors import InvalidQuery
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Filter, Join, Operator, Project, UnionAll, Values
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions, split_and
from pgtrickle.parse.facts import RelationFacts
from pgtrickle.parse.from_clause import FromClause
from pgtrickle.parse.grouping import Grouping
from pgtrickle.parse.refuse import refuse_in_select, unsupported
from pgtrickle.parse.scope import Scope

#: A parsed query: its rows, and the names that its columns show.
Parsed = tuple[Operator, tuple[str, ...]]


@dataclass(slots=True)
class QueryParser:
    """Parses queries; one instance per level of WITH, each knowing the common table expressions around it."""

    expressions: Expressions
    unknown: Type
    notices: list[tuple[str, str]]
    outer_ctes: dict[str, Parsed] = field(default_factory=dict)

    def parse(self, stmt: ast.SelectStmt, *, top: bool = False) -> Parsed:
        """The operator tree of a query.

        Raises:
            UnsupportedQuery: for a construct without a delta rule.
        """
        inner = self._with(stmt.withClause)
        refuse_in_select(stmt)
        if stmt.sortClause and top:
            self.notices.append(("order_by_ignored", "ORDER BY without LIMIT has no effect on a table and is ignored"))
        if stmt.op != enums.SetOperation.SETOP_NONE:
            return inner._set_operation(stmt)
        if stmt.valuesLists:
            return inner._values(stmt)
        return inner._select(stmt)

    def _with(self, clause: ast.WithClause | None) -> QueryParser:
        if clause is None:
            return self
        if clause.recursive:
            raise unsupported("WITH RECURSIVE", "recursive queries have no delta rule yet")
        inner = QueryParser(self.expressions, self.unknown, self.notices, dict(self.outer_ctes))
        for cte in clause.ctes:
            if not isinstance(cte.ctequery, ast.SelectStmt):
                raise unsupported("data-modifying WITH", "a defining query must not change data")
            operator, names = inner.parse(cte.ctequery)
            renames = tuple(part.sval for part in cte.aliascolnames or ())
            inner.outer_ctes[cte.ctename] = (operator, renames + names[len(renames) :])
        return inner

    def _view(self, facts: RelationFacts) -> Parsed:
        """A view is its query; it sees none of our common table expressions."""
        stmt = parse_sql(facts.view_query or "")[0].stmt
        operator, _ = QueryParser(self.expressions, self.unknown, self.notices).parse(stmt)
        return operator, tuple(attribute.name for attribute in facts.attributes)

    def _select(self, stmt: ast.SelectStmt) -> Parsed:
        operator, scope = self._from(stmt)
        operator = _filtered(operator, self.expressions.conjuncts(stmt.whereClause, scope))
        targets = stmt.targetList or ()
        names = tuple(target.name or _implied_name(target.val) for target in targets)
        grouped = stmt.groupClause or stmt.havingClause
        if grouped or self.expressions.has_aggregate(targets):
            operator, exprs = self._grouped(stmt, operator, scope)
        else:
            exprs = tuple(self.expressions.convert(target.val, scope) for target in targets)
        operator = self._project(operator, names, exprs)
        return (self._distinct(operator) if stmt.distinctClause else operator), names

    def _from(self, stmt: ast.SelectStmt) -> tuple[Operator, Scope]:
        if not stmt.fromClause:
            return Values(((),), ()), Scope(())
        clause = FromClause(self.expressions, self.parse, self.outer_ctes.get, self._view)
        item = clause.parse(stmt.fromClause)
        return item.operator, item.scope

    def _grouped(self, stmt: ast.SelectStmt, child: Operator, scope: Scope) -> tuple[Operator, tuple[Expr, ...]]:
        grouping = Grouping.of(stmt, self.expressions, scope, self.unknown)
        having = tuple(grouping.convert(part) for part in split_and(stmt.havingClause))
        exprs = tuple(grouping.convert(target.val) for target in stmt.targetList or ())
        return _filtered(grouping.operator(child), having), exprs

    def _project(self, child: Operator, names: tuple[str, ...], exprs: tuple[Expr, ...]) -> Project:
        known = {column.name: column for column in child.columns}
        columns = []
        for name, expr in zip(names, exprs, strict=True):
            source = known.get(expr.column or "")
            fresh = self.expressions.names.fresh(name)
            columns.append(Column(fresh, source.type, source.nullable) if source else Column(fresh, self.unknown))
        return Project(child, tuple(columns), exprs)

    def _distinct(self, child: Operator) -> Aggregate:
        return Aggregate(child, tuple(column.name for column in child.columns), ())

    def _values(self, stmt: ast.SelectStmt) -> Parsed:
        rows = tuple(tuple(self.expressions.convert(value, Scope(())) for value in row) for row in stmt.valuesLists)
        names = tuple(f"column{number + 1}" for number in range(len(rows[0])))
        columns = tuple(Column(self.expressions.names.fresh(name), self.unknown) for name in names)
        return Values(rows, columns), names

    def _set_operation(self, stmt: ast.SelectStmt) -> Parsed:
        left, names = self.parse(stmt.larg)
        right, _ = self.parse(stmt.rarg)
        if stmt.op == enums.SetOperation.SETOP_UNION:
            union = self._union((left, right))
            return (union if stmt.all else self._distinct(union)), names
        if stmt.all:
            raise unsupported("INTERSECT/EXCEPT ALL", "it has no delta rule yet")
        return self._tagged(left, right, stmt.op == enums.SetOperation.SETOP_INTERSECT), names

    def _union(self, branches: tuple[Operator, ...]) -> UnionAll:
        columns = tuple(
            Column(self.expressions.names.fresh(column.name), self.unknown) for column in branches[0].columns
        )
        return UnionAll(branches, columns)

    def _tagged(self, left: Operator, right: Operator, intersect: bool) -> Operator:
        """INTERSECT and EXCEPT count, per distinct row, how often each side has it."""
        tagged = []
        for number, branch in enumerate((left, right)):
            tag = Column(self.expressions.names.fresh("side"), self.unknown)
            exprs = (*(col(column.name) for column in branch.columns), text(f"{number}"))
            fresh = tuple(Column(self.expressions.names.fresh(c.name), c.type, c.nullable) for c in branch.columns)
            tagged.append(Project(branch, (*fresh, tag), exprs))
        union = self._union(tuple(tagged))
        *keys, side = (column.name for column in union.columns)
        calls = tuple(self._count_of_side(side, number) for number in range(2))
        grouped = Aggregate(union, tuple(keys), calls)
        mine, theirs = (col(call.column.name) for call in calls)
        condition = (text(mine, " > 0"), text(theirs, " > 0" if intersect else " = 0"))
        return self._project(Filter(grouped, condition), tuple(keys), tuple(col(key) for key in keys))

    def _count_of_side(self, side: str, number: int) -> AggregateCall:
        condition = text(col(side), f" = {number}")
        expr = text("count(*) FILTER (WHERE ", condition, ")")
        column = Column(self.expressions.names.fresh("rows"), self.unknown)
        return AggregateCall(column, expr, "count", (), condition, True)


def _filtered(operator: Operator, conditions: tuple[Expr, ...]) -> Operator:
    """WHERE; over an inner join its conditions become join conditions, so that every join step can use them."""
    if not conditions:
        return operator
    if isinstance(operator, Join):
        return Join(operator.inputs, (*operator.conditions, *conditions))
    return Filter(operator, conditions)


def _implied_name(node: ast.Node) -> str:
    """The column name when the server printed no AS: that of the column itself."""
    if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.String):
        return node.fields[-1].sval
    if isinstance(node, ast.FuncCall):
        return node.funcname[-1].sval
    return "?column?"


def parse_query(sql: str) -> ast.SelectStmt:
    """Parse the text of one SELECT.

    Raises:
        InvalidQuery: a syntax error, several statements, or a statement that is not a SELECT.
    """
    try:
        statements = parse_sql(sql)
    except ParseError as error:
        raise InvalidQuery(f"the defining query has a syntax error: {error}", hint="Try it in psql.") from error
    if len(statements) != 1 or not isinstance(statements[0].stmt, ast.SelectStmt):
        raise InvalidQuery("the defining query has to be one SELECT statement", clause=sql.strip()[:80])
    return statements[0].stmt
