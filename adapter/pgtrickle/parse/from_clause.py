"""The FROM clause: tables, views, subqueries and joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

from pglast import ast, enums

from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, col, equals, text
from pgtrickle.ir.operators import Filter, InputKey, Operator, Project, Scan
from pgtrickle.ir.schema import BOOL, Column
from pgtrickle.names import TABLEOID
from pgtrickle.parse.expression import Expressions, all_of, is_equality, split_and
from pgtrickle.parse.facts import RelationFacts
from pgtrickle.parse.generated import visible_columns
from pgtrickle.parse.joins import (
    READS_LEFT,
    aliased_join,
    columns_read,
    filtered_item,
    full_as_union,
    has_columns,
    inner_join,
    is_true,
    join_of_kind,
    merged_column,
    shown_as,
    sideways,
)
from pgtrickle.parse.lateral import Laterals, is_lateral, quoted, row_of
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.scope import Scope, Table, Visible
from pgtrickle.parse.subquery import has_subquery


@dataclass(frozen=True, slots=True)
class Item:
    """A FROM item: its rows and the names that it shows."""

    operator: Operator
    scope: Scope


#: Filters rows by conditions that may contain subqueries, as WHERE does.
Where = Callable[[Operator, Scope, tuple[ast.Node, ...]], Operator]

#: Parses a nested query; returns its rows, its columns carry the visible names in the second element.
Subquery = Callable[[ast.SelectStmt], tuple[Operator, tuple[str, ...]]]


class _BothSides(Exception):
    """A subquery in the condition of an outer join reads columns of both sides."""


#: A joined relation, what it shows, and the merged columns of USING.
_Joined = tuple[Operator, Scope, tuple[Visible, ...]]


@dataclass(frozen=True, slots=True)
class FromClause:
    """Parses FROM items.

    ``subquery`` parses nested queries, ``cte`` finds a common table expression by name, ``where`` applies conditions.
    """

    expressions: Expressions
    subquery: Subquery
    cte: Callable[[str], tuple[Operator, tuple[str, ...]] | None]
    laterals: Laterals
    where: Where

    def parse(self, items: tuple[ast.Node, ...], first: Item | None = None) -> Item:
        """All items of a FROM list, joined without a condition, behind a first one that it does not show."""
        result = first
        for node in sideways(items):
            if is_lateral(node):
                result = self._lateral(result, node)
                continue
            item = self._item(node)
            if result is None:
                result = item
            else:
                result = Item(inner_join((result.operator, item.operator), ()), result.scope.joined(item.scope))
        if result is None:
            raise InternalError("an empty FROM clause")
        return result

    def _lateral(self, left: Item | None, node: ast.Node, *, outer: bool = False) -> Item:
        scope = left.scope if left else Scope(())
        operator, added = self.laterals.item(left.operator if left else None, scope, node, outer=outer)
        return Item(operator, scope.joined(added))

    def _item(self, node: ast.Node) -> Item:
        match node:
            case ast.RangeVar():
                return self._relation(node)
            case ast.RangeSubselect():
                return self._subselect(node)
            case ast.JoinExpr():
                return self._join(node)
            case ast.RangeFunction() | ast.RangeTableFunc() | ast.JsonTable():
                return self._lateral(None, node)
            case ast.RangeTableSample():
                raise unsupported("TABLESAMPLE", "a random sample cannot be maintained")
            case _:
                raise unsupported(type(node).__name__, "this kind of FROM item has no delta rule yet")

    def _relation(self, node: ast.RangeVar) -> Item:
        if node.schemaname is None:
            found = self.cte(node.relname)
            if found is not None:
                return self._aliased(found, node.alias, node.relname)
        # Printed with search_path = pg_catalog, so what has no schema and is no common table expression is there.
        facts = self.expressions.facts.relations.get((node.schemaname or "pg_catalog", node.relname))
        if facts is None and node.schemaname is None:
            facts = self._temporary(node.relname)
        if facts is None:
            raise InternalError(f"nothing is known of the relation {node.schemaname}.{node.relname}")
        if facts.obstacle:
            raise unsupported(facts.obstacle, "its changes cannot be captured", detail=f"{facts.schema}.{facts.name}")
        if facts.kind == "view":
            raise unsupported("system view", "its changes cannot be captured", detail=f"{facts.schema}.{facts.name}")
        only = not node.inh and facts.kind == "table"
        scan, visible = self._scan(facts, node.alias.aliasname if node.alias else facts.name, only=only)
        return self._table(facts, scan, visible, node.alias)

    def _table(self, facts: RelationFacts, scan: Scan, visible: tuple[Visible, ...], alias: ast.Alias | None) -> Item:
        """A table under its alias, with the column that no star shows if anything refers to it."""
        item = self._named(scan, visible, alias, facts.name, schema=facts.schema, row_type=facts.name)
        if facts.tableoid is None or not self.expressions.tableoids:
            return item
        column = Column(self.expressions.names.fresh("tableoid"), facts.tableoid, nullable=False)
        scan = replace(scan, attributes=(*scan.attributes, (TABLEOID, "tableoid")), columns=(*scan.columns, column))
        (shown,) = item.scope.tables
        hidden = (Visible("tableoid", col(column.name)),)
        return Item(scan, replace(item.scope, tables=(replace(shown, hidden=hidden),)))

    def _temporary(self, name: str) -> RelationFacts | None:
        """A temporary table: its schema is searched first, whatever search_path says, and so never printed."""
        found = (f for (_, own), f in self.expressions.facts.relations.items() if own == name)
        return next((facts for facts in found if facts.schema.startswith("pg_temp")), None)

    def _scan(self, facts: RelationFacts, alias: str, *, only: bool) -> tuple[Scan, tuple[Visible, ...]]:
        stored = [attribute for attribute in facts.attributes if attribute.generation is None]
        names = {attribute.name: self.expressions.names.fresh(attribute.name) for attribute in stored}
        scan = Scan(
            InputKey(facts.kind, facts.relid),
            tuple((attribute.number, attribute.name) for attribute in stored),
            tuple(Column(names[a.name], a.type, not a.not_null) for a in stored),
            tuple(frozenset(names[name] for name in key) for key in (facts.only_keys if only else facts.keys)),
            alias,
            only,
        )
        return scan, visible_columns(facts, names, self.expressions)

    def _subselect(self, node: ast.RangeSubselect) -> Item:
        return self._aliased(self.subquery(node.subquery), node.alias, "")

    def _aliased(self, parsed: tuple[Operator, tuple[str, ...]], alias: ast.Alias | None, name: str) -> Item:
        """Show an operator's columns under an alias; fresh columns, so that a query used twice does not clash."""
        operator, names = parsed
        operator = self._renamed(operator)
        visible = tuple(Visible(n, col(c.name)) for n, c in zip(names, operator.columns, strict=True))
        return self._named(operator, visible, alias, name)

    def _named(
        self,
        operator: Operator,
        visible: tuple[Visible, ...],
        alias: ast.Alias | None,
        name: str,
        *,
        schema: str | None = None,
        row_type: str | None = None,
    ) -> Item:
        renames = tuple(part.sval for part in (alias.colnames or ())) if alias else ()
        shown = renames + tuple(column.name for column in visible[len(renames) :])
        columns = tuple(replace(column, name=n) for n, column in zip(shown, visible, strict=True))
        seen_as = alias.aliasname if alias else name
        return Item(operator, Scope((Table(seen_as, columns, schema, self._row(seen_as, columns, schema, row_type)),)))

    def _row(self, alias: str, shown: tuple[Visible, ...], schema: str | None, row_type: str | None) -> Expr | None:
        """The expression for the whole row of a FROM item, if anything refers to it."""
        if alias not in self.expressions.rows:
            return None
        parts: list[str | Expr] = []
        for column in shown:
            if column.obstacle is not None:
                raise unsupported("virtual generated column", column.obstacle, detail=f"{alias}.{column.name}")
            parts += [", ", column.expr] if parts else [column.expr]
        if schema is None or row_type is None:
            row = row_of(tuple((column.name, column.expr) for column in shown))
            return self.expressions.record(row, (column.expr for column in shown))
        return text("ROW(", *parts, f")::{quoted(schema)}.{quoted(row_type)}")

    def _nullable(self, item: Item) -> Item:
        """The side of an outer join that it may fill with NULL.

        What is computed stays so, for rows that are there (it may fail, or not be NULL for want of them), and so do
        whole rows: a further column tells the rows that are there.
        """
        tables, merged = item.scope.tables, item.scope.merged
        shown = (*(column for table in tables for column in table.columns), *merged)
        if not any(column.computed for column in shown) and all(table.row is None for table in tables):
            return item
        there = Column(self.expressions.names.fresh("there"), BOOL, False)

        def filled(expr: Expr) -> Expr:
            return text("CASE WHEN ", col(there.name), " THEN ", expr, " END")

        def guarded(column: Visible) -> Visible:
            return replace(column, expr=filled(column.expr), computed=False) if column.computed else column

        def row(whole: Expr) -> Expr:
            columns = self.expressions.records.get(whole)
            made = filled(whole)
            return made if columns is None else self.expressions.record(made, (*columns, col(there.name)))

        tables = tuple(
            replace(
                table, columns=tuple(map(guarded, table.columns)), row=row(table.row) if table.row is not None else None
            )
            for table in tables
        )
        columns = item.operator.columns
        exprs = (*(col(column.name) for column in columns), text("TRUE"))
        return Item(Project(item.operator, (*columns, there), exprs), Scope(tables, tuple(map(guarded, merged))))

    def _renamed(self, operator: Operator) -> Project:
        columns = tuple(replace(c, name=self.expressions.names.fresh(c.name)) for c in operator.columns)
        return Project(operator, columns, tuple(col(c.name) for c in operator.columns))

    def _join(self, node: ast.JoinExpr) -> Item:
        if is_lateral(node.rarg) and node.jointype in READS_LEFT and has_columns(node.rarg):
            return self._shown(node, self._lateral_join(node))
        nested = tuple(part for part in split_and(node.quals) if has_subquery(part))
        if nested and node.jointype != enums.JoinType.JOIN_INNER:
            whole = deepcopy(node)
            try:
                return self._shown(node, self._join_of(node, nested))
            except _BothSides:
                return self._shown(whole, self._row_by_row(whole))
        return self._shown(node, self._join_of(node, nested))

    def _join_of(self, node: ast.JoinExpr, nested: tuple[ast.Node, ...]) -> _Joined:
        left, right = self._item(node.larg), self._item(node.rarg)
        using = tuple(part.sval for part in node.usingClause or ())
        # Conditions look at rows that are there, what the join shows may be NULL for want of one.
        equalities, _ = self._using(using, left.scope, right.scope, node.jointype)
        plain = all_of(tuple(part for part in split_and(node.quals) if part not in nested))
        conditions = equalities + self.expressions.conjuncts(plain, left.scope.joined(right.scope))
        if node.jointype in (enums.JoinType.JOIN_LEFT, enums.JoinType.JOIN_FULL):
            right = self._nullable(right)
        if node.jointype in (enums.JoinType.JOIN_RIGHT, enums.JoinType.JOIN_FULL):
            left = self._nullable(left)
        types = {c.name: c.type.base_oid for item in (left, right) for c in item.operator.columns}
        merged = self._using(using, left.scope, right.scope, node.jointype, types)[1]
        scope = left.scope.joined(right.scope, merged)
        if node.jointype == enums.JoinType.JOIN_INNER:
            joined = inner_join((left.operator, right.operator), conditions)
            return self.where(joined, scope, nested) if nested else joined, scope, merged
        if nested:
            left, right, more = self._with_subqueries(node.jointype, left, right, scope, nested)
            conditions += more
        if node.jointype == enums.JoinType.JOIN_RIGHT:
            self.expressions.note("right join", "RIGHT JOIN becomes LEFT JOIN with its sides swapped")
        return join_of_kind(node.jointype, left.operator, right.operator, conditions), scope, merged

    def _shown(self, node: ast.JoinExpr, joined: _Joined) -> Item:
        operator, scope, merged = joined
        if node.alias is not None:
            return Item(operator, self._with_row(aliased_join(scope, node.alias)))
        if node.join_using_alias is not None:
            named = self._with_row(Scope((Table(node.join_using_alias.aliasname, merged),)))
            scope = replace(scope, tables=(*scope.tables, *named.tables))
        return Item(operator, scope)

    def _with_row(self, scope: Scope) -> Scope:
        """The scope of a join as one table, with its whole row."""
        (table,) = scope.tables
        return Scope((replace(table, row=self._row(table.alias, table.columns, None, None)),))

    def _with_subqueries(
        self, kind: enums.JoinType, left: Item, right: Item, scope: Scope, nested: tuple[ast.Node, ...]
    ) -> tuple[Item, Item, tuple[Expr, ...]]:
        """The sides of an outer join with the subqueries of its condition evaluated where they belong.

        A condition on the side that is not kept filters it. Of any other the subqueries become columns of the side
        whose columns they read.

        Raises:
            _BothSides: a subquery reads columns of both sides.
        """
        names = tuple(frozenset(c.name for c in side.operator.columns) for side in (left, right))
        conditions: list[Expr] = []
        sides = [left, right]
        dropped = {enums.JoinType.JOIN_LEFT: 1, enums.JoinType.JOIN_RIGHT: 0}.get(kind)
        for part in nested:
            if dropped is not None and columns_read(part, scope) <= names[dropped]:
                kept = sides[dropped]
                sides[dropped] = replace(kept, operator=self.where(kept.operator, kept.scope, (part,)))
                continue
            subqueries = self.laterals.subqueries(scope)
            lifted = subqueries.lift(part)
            shares = subqueries.shared((names[1], names[0]))
            if shares is None:
                raise _BothSides
            for number, share in zip((1, 0), shares, strict=True):
                sides[number] = replace(sides[number], operator=share.under(sides[number].operator))
            conditions.append(self.expressions.convert(lifted, scope))
        return sides[0], sides[1], tuple(conditions)

    def _lateral_join(self, node: ast.JoinExpr) -> _Joined:
        left = self._item(node.larg)
        outer = node.jointype == enums.JoinType.JOIN_LEFT
        parts = tuple(part for part in split_and(node.quals) if not is_true(part))
        using = tuple(part.sval for part in node.usingClause or ())
        right, looked_up = node.rarg, None
        if outer and (parts or using):
            alias = right.alias.aliasname
            equal = tuple(self._equal(left.scope, alias, name) for name in using)
            looked_up = self._named_only(right, alias)
            right = filtered_item(self.expressions.names, left.scope, right, looked_up, (*equal, *parts))
        operator, added = self.laterals.item(left.operator, left.scope, right, outer=outer)
        if looked_up is not None and looked_up.row is not None:
            added = Scope(shown_as((looked_up,), added.tables[0].columns))
        equalities, merged = self._using(using, left.scope, added, node.jointype)
        scope = left.scope.joined(added, merged)
        if outer:
            return operator, scope, merged
        filtered = Filter(operator, equalities) if equalities else operator
        return self.where(filtered, scope, parts) if parts else filtered, scope, merged

    def _named_only(self, node: ast.Node, alias: str) -> Table:
        """The names of a lateral item; the rows of a function have a type, which its columns alone would lose."""
        whole = alias in self.expressions.rows and not isinstance(node, ast.RangeSubselect)
        columns = tuple(Visible(name, text("NULL")) for name in self.laterals.columns(node))
        return Table(alias, columns, row=text("NULL") if whole else None)

    def _row_by_row(self, node: ast.JoinExpr) -> _Joined:
        """An outer join of which a subquery reads both sides: partners are looked up for each row of the kept one."""
        if node.jointype == enums.JoinType.JOIN_FULL:
            return self._both_kept(node)
        turned = node.jointype == enums.JoinType.JOIN_RIGHT
        larg, rarg = (node.rarg, node.larg) if turned else (node.larg, node.rarg)
        left, right = self._item(larg), self._item(deepcopy(rarg)).scope
        _refuse_merged(node, right)
        item = filtered_item(self.expressions.names, left.scope, rarg, right.tables, split_and(node.quals))
        operator, added = self.laterals.item(left.operator, left.scope, item, outer=True)
        looked_up = Scope(shown_as(right.tables, added.tables[0].columns))
        return operator, looked_up.joined(left.scope) if turned else left.scope.joined(looked_up), ()

    def _both_kept(self, node: ast.JoinExpr) -> _Joined:
        """A full join of which a subquery reads both sides: the left join, and the right rows without a partner."""
        left, right = (self._item(deepcopy(side)).scope for side in (node.larg, node.rarg))
        _refuse_merged(node, left)
        _refuse_merged(node, right)
        if not any(_connects(part, left, right) for part in split_and(node.quals)):
            raise unsupported("FULL JOIN", "PostgreSQL has no plan for it without an equality of both sides")
        tables = (*left.tables, *right.tables)
        operator, _ = self.subquery(full_as_union(node, tables))
        columns = tuple(Visible(column.name, col(column.name)) for column in operator.columns)
        self.expressions.note("full join", "FULL JOIN becomes a left join and the right rows without a partner")
        return operator, Scope(shown_as(tables, columns)), ()

    def _equal(self, left: Scope, alias: str, name: str) -> ast.Node:
        mine = left.resolve(ast.ColumnRef(fields=(ast.String(sval=name),)))
        theirs = ast.ColumnRef(fields=(ast.String(sval=alias), ast.String(sval=name)))
        return ast.A_Expr(
            kind=enums.A_Expr_Kind.AEXPR_OP,
            name=(ast.String(sval="="),),
            lexpr=self.expressions.names.placeholder(mine),
            rexpr=theirs,
        )

    def _using(
        self,
        using: tuple[str, ...],
        left: Scope,
        right: Scope,
        kind: enums.JoinType,
        types: Mapping[str, int] | None = None,
    ) -> tuple[tuple[Expr, ...], tuple[Visible, ...]]:
        """The equalities that USING means, and its merged columns; ``types`` are those of columns, where known."""
        equalities: list[Expr] = []
        merged: list[Visible] = []
        if using:
            self.expressions.note("using", f"USING ({', '.join(using)}) becomes equalities and merged columns")
        for name in using:
            ref = ast.ColumnRef(fields=(ast.String(sval=name),))
            sides = left.find(ref), right.find(ref)
            mine, theirs = (side.expr for side in sides)
            equalities.append(equals(mine, theirs))
            merged.append(
                Visible(name, merged_column(mine, theirs, kind, types or {}), any(side.computed for side in sides))
            )
        return tuple(equalities), tuple(merged)


def _connects(node: ast.Node, left: Scope, right: Scope) -> bool:
    """Whether a condition is an equality of columns of both sides."""
    if not is_equality(node) or has_subquery(node):
        return False
    sides = (node.lexpr, node.rexpr)
    return any(columns_read(one, left) and columns_read(other, right) for one, other in (sides, sides[::-1]))


def _refuse_merged(node: ast.JoinExpr, scope: Scope) -> None:
    if node.usingClause or scope.merged:
        raise unsupported("subquery in ON", "together with USING it has no delta rule yet")
