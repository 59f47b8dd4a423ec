"""One SELECT, and the queries that are put together from several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pglast import ast, enums, parse_sql
from pglast.parser import ParseError

from pgtrickle.errors import InvalidQuery
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Expand, Filter, Join, Operator, Project, UnionAll, Values
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.ctes import unqualified_relations
from pgtrickle.parse.cycle import has_clauses, spell_out
from pgtrickle.parse.depth import MAX_DEPTH, too_deep
from pgtrickle.parse.expression import Expressions, split_and
from pgtrickle.parse.from_clause import FromClause, Item
from pgtrickle.parse.grouping import Grouping
from pgtrickle.parse.lateral import Laterals, SetReturning
from pgtrickle.parse.limits import drop_idle_limits, has_limit, left_to_chance
from pgtrickle.parse.membership import is_plain, join_membership, member_of, membership_of
from pgtrickle.parse.outer_aggregates import OUTER_AGGREGATES, take_outer_aggregates
from pgtrickle.parse.outputs import implied_name, output_names
from pgtrickle.parse.pick import Attach, Ordering, order_by_position, pick
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.recursive import recursion
from pgtrickle.parse.refuse import refuse_in_select, unsupported
from pgtrickle.parse.scope import Scope, Table, Visible
from pgtrickle.parse.subquery import Subqueries, conditions_of, has_subquery, hoist_conditions, lift_keys
from pgtrickle.parse.tree import walk
from pgtrickle.parse.unnest import Domain, Unnester, filter_calls, with_absent
from pgtrickle.parse.windows import Windows, asks_in_frame

#: A parsed query: its rows, and the names that its columns show.
Parsed = tuple[Operator, tuple[str, ...]]


@dataclass(slots=True)
class QueryParser:
    """Parses queries; one instance per level of WITH, each knowing the common table expressions around it."""

    expressions: Expressions
    unknown: Type
    notices: list[tuple[str, str]]
    outer_ctes: dict[str, Parsed] = field(default_factory=dict)
    cte_texts: dict[str, str] = field(default_factory=dict)
    unnest: bool = True
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def parse(self, stmt: ast.SelectStmt, domain: Domain | None = None, *, top: bool = False) -> Parsed:
        """The operator tree of a query.

        Args:
            stmt: the query.
            domain: the outer values for which it is asked; their columns follow those of the query.
            top: whether this is the defining query itself.

        Raises:
            UnsupportedQuery: for a construct without a delta rule.
        """
        if has_clauses(stmt):
            printed = parse_query(print_node(stmt))
            texts = spell_out(stmt, output_names) if self.unnest else None
            if domain is not None:
                raise unsupported("correlated SEARCH or CYCLE", "it is evaluated once per outer value instead")
            if texts is None:
                return Laterals(self.expressions, self.unknown, self.cte_texts).whole(printed)
            return replace(self, texts=texts).parse(stmt, domain, top=top)
        if top:
            drop_idle_limits(stmt, self.expressions)
        whole = _needs_whole(stmt, self.expressions)
        if whole is not None:
            if domain is not None:
                raise unsupported(*whole)
            return Laterals(self.expressions, self.unknown, self.cte_texts).whole(parse_query(print_node(stmt)))
        refuse_in_select(stmt)
        inner = self._with(stmt.withClause)
        if stmt.sortClause and top and not has_limit(stmt):
            self.notices.append(("order_by_ignored", "ORDER BY without LIMIT has no effect on a table and is ignored"))
        if stmt.op != enums.SetOperation.SETOP_NONE or stmt.valuesLists:
            if domain is not None:
                raise unsupported("correlated set operation", "it is evaluated once per outer value instead")
            parsed = inner._values(stmt) if stmt.valuesLists else inner._set_operation(stmt)
            return inner._limited(stmt, parsed)
        return inner._select(stmt, domain)

    def _limited(self, stmt: ast.SelectStmt, parsed: Parsed) -> Parsed:
        """LIMIT over a set operation or VALUES, whose ORDER BY can only name output columns."""
        rows, names = parsed
        if not has_limit(stmt):
            return parsed
        shown = tuple(Visible(name, col(column.name)) for name, column in zip(names, rows.columns, strict=True))
        scope = Scope((Table("", shown),))
        convert = partial(self.expressions.convert, scope=scope)
        order = Ordering.of(stmt, self.expressions, tuple(visible.expr for visible in shown), convert)
        asked = self._asked_by_limits(stmt)
        picked = pick(rows, order, stmt, self.expressions, self.unknown, asked=asked)
        self.expressions.note("pick", "LIMIT becomes row numbers and a filter on them")
        exprs = tuple(col(column.name) for column in rows.columns)
        return self._project(picked, tuple(column.name for column in rows.columns), exprs), names

    def _with(self, clause: ast.WithClause | None) -> QueryParser:
        if clause is None:
            return self
        inner = replace(self, outer_ctes=dict(self.outer_ctes), cte_texts=dict(self.cte_texts))
        for cte in clause.ctes:
            if not isinstance(cte.ctequery, ast.SelectStmt):
                raise unsupported("data-modifying WITH", "a defining query must not change data")
            printed = print_node(cte)
            if clause.recursive and cte.ctename in unqualified_relations(cte.ctequery):
                inner.outer_ctes[cte.ctename] = inner._recursive(cte)
                inner.cte_texts[cte.ctename] = printed
                continue
            operator, names = inner.parse(cte.ctequery)
            inner.cte_texts[cte.ctename] = printed
            self.expressions.note("with", f"{cte.ctename} is put in the place of its name")
            renames = tuple(part.sval for part in cte.aliascolnames or ())
            inner.outer_ctes[cte.ctename] = (operator, renames + names[len(renames) :])
        return inner

    def _recursive(self, cte: ast.CommonTableExpr) -> Parsed:
        """A recursive common table expression; as text where it has no operator tree."""
        printed = f"WITH RECURSIVE {print_node(cte)} SELECT 1"
        for unnest in dict.fromkeys((self.unnest, False)):
            # Unnested, a subquery may read the recursion a second time; evaluated row by row it does not.
            terms = parse_query(printed).withClause.ctes[0]
            around = replace(self, unnest=unnest)._with(terms.ctequery.withClause)
            texts = self.texts.get(cte.ctename, ())
            found = recursion(terms, around.parse_with, self.expressions.names, self.unknown, texts)
            if found is not None:
                return found
        if cte.ctename in self.texts:
            raise unsupported("SEARCH and CYCLE", "a term of the recursion has no operator tree")
        return Laterals(self.expressions, self.unknown, self.cte_texts).recursive(cte.ctename, cte)

    def parse_with(self, stmt: ast.SelectStmt, names: dict[str, Parsed]) -> Parsed:
        """A query in which these names in FROM stand for these rows."""
        return replace(self, outer_ctes={**self.outer_ctes, **names}).parse(stmt)

    def _select(self, stmt: ast.SelectStmt, domain: Domain | None) -> Parsed:
        if hoist_conditions(stmt):
            self.expressions.note("hoist", "conditions of ON with subqueries move to WHERE")
        if stmt.distinctClause and stmt.distinctClause[0] is None:
            order_by_position(stmt)
        child, scope = self._from(stmt, domain)
        child = self._where(child, scope, split_and(stmt.whereClause))
        taken = take_outer_aggregates(stmt, frozenset(table.alias for table in scope.tables), self.expressions)
        child = self._below_grouping(stmt, child, scope, taken)
        names = tuple(target.name or implied_name(target.val) for target in stmt.targetList or ())
        child, grouping = self._grouping(stmt, scope, child, domain, taken)
        dependent = tuple(col(name) for name in domain.names) if domain else ()
        if grouping:
            dependent = tuple(col(grouping.add_key(expr).name) for expr in dependent)
        convert = grouping.convert if grouping else partial(self.expressions.convert, scope=scope)
        over = grouping.convert if grouping else None
        below = self._subqueries(convert, grouped=over)
        windows = Windows.of(stmt, self.expressions, self.unknown, convert, below.lift)
        above = self._subqueries(convert, grouped=over)

        sets = SetReturning(self.expressions, windows.expression)

        def expression(node: ast.Node) -> Expr:
            node = grouping.with_elements(node) if grouping else node
            return sets.expression(above.lift(windows.replace(node)))

        targets = tuple(expression(target.val) for target in stmt.targetList or ())
        picky = _is_picky(stmt) or self._returns_sets(stmt.sortClause)
        order = Ordering.of(stmt, self.expressions, targets, expression) if picky else None
        if grouping:
            inside = self._subqueries(convert, grouped=over)
            simple, nested = conditions_of(split_and(stmt.havingClause))
            having = tuple(grouping.convert(part) for part in simple)
            asking = tuple(grouping.convert(inside.lift(part)) for part in nested)
            child = _filtered(inside.under(_filtered(grouping.operator(child), having)), asking)
            if having or asking:
                self.expressions.note("having", "HAVING becomes a filter over the grouping")
        if len(windows.calls) > 1:
            self.expressions.note("windows", f"window functions become {len(windows.calls)} operators, by PARTITION BY")
        child = sets.under(above.under(windows.operator(below.under(child))), self.unknown)
        rows = self._project(child, (*names, *("outer" for _ in dependent)), (*targets, *dependent))
        if order is not None and _is_picky(stmt):
            rows = self._picked(stmt, rows, child, order, len(dependent))
        elif stmt.distinctClause:
            rows = self._distinct(rows)
        return rows, names

    def _subqueries(
        self, resolve: Callable[[ast.ColumnRef], Expr], *, grouped: Callable[[ast.Node], Expr] | None = None
    ) -> Subqueries:
        return Subqueries(self.expressions, self.unknown, self.cte_texts, resolve, self._unnester(), grouped)

    def _unnester(self) -> Unnester | None:
        return Unnester(self.expressions, self.unknown, self.parse) if self.unnest else None

    def _where(self, child: Operator, scope: Scope, parts: tuple[ast.Node, ...]) -> Operator:
        """WHERE: simple conditions first, then semi and anti joins, then what needs subqueries evaluated."""
        simple, nested = conditions_of(parts)
        child = _filtered(child, tuple(self.expressions.condition(part, scope) for part in simple))
        subqueries = self._subqueries(scope.resolve)
        rest: list[Expr] = []
        for part in nested:
            found = membership_of(part)
            plain = found is not None and is_plain(found.subselect, self.expressions)
            if found is not None and plain and subqueries.joins_alone(found.subselect):
                inner, inner_scope = self._from(found.subselect)
                child = join_membership(found, child, scope, inner, inner_scope, self.expressions)
            elif found is not None and found.test is not None and self.unnest and subqueries.stands_alone(found):
                inner, _ = self.parse(found.subselect)
                child = member_of(found, child, scope, inner, self.expressions)
            else:
                rest.append(self.expressions.convert(subqueries.lift(part), scope))
        return _filtered(subqueries.under(child), tuple(rest))

    def _below_grouping(
        self, stmt: ast.SelectStmt, child: Operator, scope: Scope, taken: dict[str, ast.Node]
    ) -> Operator:
        """Subqueries in GROUP BY and in the arguments of aggregates are evaluated first."""
        subqueries = self._subqueries(scope.resolve)
        if has_subquery(stmt.groupClause):
            lift_keys(stmt, subqueries)
        for node in tuple(walk((stmt.targetList, stmt.havingClause, stmt.sortClause, *taken.values()))):
            if self.expressions.is_aggregate(node):
                subqueries.lift(node)
        return subqueries.under(child)

    def _returns_sets(self, clause: object) -> bool:
        """Whether a function in ORDER BY returns a set: it multiplies the rows even if no output shows it."""
        return any(isinstance(node, ast.FuncCall) and self.expressions.returns_set(node) for node in walk(clause))

    def _grouping(
        self, stmt: ast.SelectStmt, scope: Scope, child: Operator, domain: Domain | None, taken: dict[str, ast.Node]
    ) -> tuple[Operator, Grouping | None]:
        clauses = (stmt.targetList, stmt.sortClause, stmt.havingClause, *taken.values())
        if not (stmt.groupClause or stmt.havingClause or self.expressions.has_aggregate(clauses)):
            return child, None
        if domain is not None and not stmt.groupClause:
            child, tag = with_absent(child, domain, domain.names, self.expressions, self.unknown)
            filter_calls(walk(clauses), tag, self.expressions)
        grouping = Grouping.of(stmt, self.expressions, scope, self.unknown, child)
        grouping.settle_tests(clauses)
        if taken:
            shown = tuple(Visible(name, grouping.convert(node)) for name, node in taken.items())
            grouping.scope = scope.joined(Scope((Table(OUTER_AGGREGATES, shown),)))
        return child, grouping

    def _picked(
        self, stmt: ast.SelectStmt, rows: Project, child: Operator, order: Ordering, dependent: int
    ) -> Operator:
        """DISTINCT ON and LIMIT: number the rows in their order, keep the first ones."""
        partition = tuple(col(column.name) for column in rows.columns[len(rows.columns) - dependent :])
        plain_distinct = bool(stmt.distinctClause) and stmt.distinctClause[0] is None
        if (stmt.distinctClause and not plain_distinct) or partition:
            self.expressions.note("pick", "DISTINCT ON or LIMIT becomes row numbers and a filter on them")
        if plain_distinct:
            below, order = self._distinct(rows), order.over(rows)
        else:
            below = order.carried(rows, child)
        asked = self._asked_by_limits(stmt)
        result = pick(below, order, stmt, self.expressions, self.unknown, partition, asked)
        return self._project(result, tuple(c.name for c in rows.columns), tuple(col(c.name) for c in rows.columns))

    def _asked_by_limits(self, stmt: ast.SelectStmt) -> Attach | None:
        """What adds the values of the subqueries in LIMIT and OFFSET, which are replaced in place; None without any."""
        if not has_subquery((stmt.limitCount, stmt.limitOffset)):
            return None
        subqueries = self._subqueries(Scope(()).resolve)
        for clause in ("limitCount", "limitOffset"):
            if getattr(stmt, clause) is not None:
                setattr(stmt, clause, subqueries.lift(getattr(stmt, clause)))
        return subqueries.under

    def _from(self, stmt: ast.SelectStmt, domain: Domain | None = None) -> tuple[Operator, Scope]:
        if not stmt.fromClause:
            return (domain.rows if domain else Values(((),), ())), Scope(())
        laterals = Laterals(self.expressions, self.unknown, self.cte_texts, self._unnester())
        clause = FromClause(self.expressions, self.parse, self.outer_ctes.get, laterals, self._where)
        item = clause.parse(stmt.fromClause, Item(domain.rows, Scope(())) if domain else None)
        return item.operator, item.scope

    def _project(self, child: Operator, names: tuple[str, ...], exprs: tuple[Expr, ...]) -> Project:
        known = {column.name: column for column in child.columns}
        columns = []
        for name, expr in zip(names, exprs, strict=True):
            source = known.get(expr.column or "")
            fresh = self.expressions.names.fresh(name)
            columns.append(Column(fresh, source.type, source.nullable) if source else Column(fresh, self.unknown))
        return Project(child, tuple(columns), exprs)

    def _distinct(self, child: Operator) -> Aggregate:
        self.expressions.note("distinct", "removing duplicates becomes a grouping by all columns")
        return Aggregate(child, tuple(column.name for column in child.columns), ())

    def _values(self, stmt: ast.SelectStmt) -> Parsed:
        if has_subquery(stmt.valuesLists):
            return self._values_of_subqueries(stmt)
        rows = tuple(tuple(self.expressions.convert(value, Scope(())) for value in row) for row in stmt.valuesLists)
        names = tuple(f"column{number + 1}" for number in range(len(rows[0])))
        columns = tuple(Column(self.expressions.names.fresh(name), self.unknown) for name in names)
        return Values(rows, columns), names

    def _values_of_subqueries(self, stmt: ast.SelectStmt) -> Parsed:
        """VALUES with subqueries in it: each row is a SELECT of its own."""
        names = tuple(f"column{number + 1}" for number in range(len(stmt.valuesLists[0])))
        rows: list[Operator] = []
        for row in stmt.valuesLists:
            subqueries = self._subqueries(Scope(()).resolve)
            exprs = tuple(self.expressions.convert(subqueries.lift(value), Scope(())) for value in row)
            rows.append(self._project(subqueries.under(Values(((),), ())), names, exprs))
        return self._union(tuple(rows)) if len(rows) > 1 else rows[0], names

    def _set_operation(self, stmt: ast.SelectStmt) -> Parsed:
        left, names = self.parse(stmt.larg)
        right, _ = self.parse(stmt.rarg)
        if stmt.op == enums.SetOperation.SETOP_UNION:
            union = self._union((left, right))
            return (union if stmt.all else self._distinct(union)), names
        return self._tagged(left, right, stmt.op == enums.SetOperation.SETOP_INTERSECT, bool(stmt.all)), names

    def _union(self, branches: tuple[Operator, ...]) -> UnionAll:
        columns = tuple(
            Column(self.expressions.names.fresh(column.name), self.unknown) for column in branches[0].columns
        )
        return UnionAll(branches, columns)

    def _tagged(self, left: Operator, right: Operator, intersect: bool, every: bool) -> Operator:
        """INTERSECT and EXCEPT count, per distinct row, how often each side has it."""
        word = "INTERSECT" if intersect else "EXCEPT"
        self.expressions.note("set operation", f"{word} becomes a count per row of how often each side has it")
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
        if every:
            copies = text("LEAST(", mine, ", ", theirs, ")") if intersect else text(mine, " - ", theirs)
            query = text("(SELECT pg_catalog.generate_series(1, ", copies, "))")
            copy = Column(self.expressions.names.fresh("copy"), self.unknown)
            repeated = Expand(grouped, query, (copy,), frozenset(), outer=False)
            return self._project(repeated, tuple(keys), tuple(col(key) for key in keys))
        condition = (text(mine, " > 0"), text(theirs, " > 0" if intersect else " = 0"))
        return self._project(Filter(grouped, condition), tuple(keys), tuple(col(key) for key in keys))

    def _count_of_side(self, side: str, number: int) -> AggregateCall:
        condition = text(col(side), f" = {number}")
        expr = text("count(*) FILTER (WHERE ", condition, ")")
        column = Column(self.expressions.names.fresh("rows"), self.unknown)
        return AggregateCall(column, expr, "count", (), condition, True)


def _needs_whole(stmt: ast.SelectStmt, expressions: Expressions) -> tuple[str, str] | None:
    """The construct, and why, for which a query is computed as a whole; None if it is not."""
    if left_to_chance(stmt, expressions):  # what reads no table has the same rows each time
        return "LIMIT without ORDER BY", "which rows are returned is left to chance"
    if asks_in_frame(stmt):
        refuse_in_select(stmt)
        return "correlated subquery with one in a window frame", "it is evaluated once per outer value instead"
    return None


def _is_picky(stmt: ast.SelectStmt) -> bool:
    """Whether the order of the rows decides which of them there are."""
    return has_limit(stmt) or bool(stmt.distinctClause and stmt.distinctClause[0] is not None)


def _filtered(operator: Operator, conditions: tuple[Expr, ...]) -> Operator:
    """WHERE; over an inner join its conditions become join conditions, so that every join step can use them."""
    if not conditions:
        return operator
    if isinstance(operator, Join):
        return Join(operator.inputs, (*operator.conditions, *conditions))
    return Filter(operator, conditions)


def parse_query(sql: str) -> ast.SelectStmt:
    """Parse the text of one SELECT.

    Raises:
        InvalidQuery: a syntax error, several statements, a statement that is not a SELECT, or one that is nested
            thousands of levels deep.
    """
    if too_deep(sql):
        raise InvalidQuery(
            f"the defining query is nested more than {MAX_DEPTH} levels deep",
            clause="depth",
            hint="A long chain of operators, UNIONs or JOINs counts as nested: use a table of values or views.",
        )
    try:
        statements = parse_sql(sql)
    except ParseError as error:
        raise InvalidQuery(f"the defining query has a syntax error: {error}", hint="Try it in psql.") from error
    if len(statements) != 1 or not isinstance(statements[0].stmt, ast.SelectStmt):
        raise InvalidQuery("the defining query has to be one SELECT statement", clause=sql.strip()[:80])
    return statements[0].stmt
