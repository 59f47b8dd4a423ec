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
from pgtrickle.parse.expression import Expressions, all_of, split_and
from pgtrickle.parse.facts import RelationFacts
from pgtrickle.parse.generated import visible_columns
from pgtrickle.parse.joins import (
    READS_LEFT,
    aliased_join,
    columns_read,
    has_columns,
    inner_join,
    is_true,
    join_of_kind,
    merged_column,
    sideways,
)
from pgtrickle.parse.lateral import Laterals, is_lateral, quoted, row_of
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.scope import Scope, Table, Visible
from pgtrickle.parse.subquery import has_subquery
from pgtrickle.parse.tree import transform


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
            return row_of(tuple((column.name, column.expr) for column in shown))
        return text("ROW(", *parts, f")::{quoted(schema)}.{quoted(row_type)}")

    def _nullable(self, item: Item) -> Item:
        """The side of an outer join that it may fill with NULL.

        Whole rows become columns, to be filled too. What is computed (it may fail) stays so, for rows that are there:
        a further column tells them.
        """
        tables, merged = item.scope.tables, item.scope.merged
        shown = (*(column for table in tables for column in table.columns), *merged)
        rows = [table.row for table in tables if table.row is not None and table.row.column is None]
        made = {row: Column(self.expressions.names.fresh("row"), self.laterals.unknown) for row in rows}
        there = Column(self.expressions.names.fresh("there"), BOOL, False)
        if any(column.computed for column in shown):
            made[text("TRUE")] = there
        if not made:
            return item

        def guarded(column: Visible) -> Visible:
            expr = text("CASE WHEN ", col(there.name), " THEN ", column.expr, " END")
            return replace(column, expr=expr, computed=False) if column.computed else column

        tables = tuple(
            replace(
                table,
                columns=tuple(map(guarded, table.columns)),
                row=col(made[table.row].name) if table.row in made else table.row,
            )
            for table in tables
        )
        columns = item.operator.columns
        operator = Project(item.operator, (*columns, *made.values()), (*(col(c.name) for c in columns), *made))
        return Item(operator, Scope(tables, tuple(map(guarded, merged))))

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
        right = node.rarg
        if outer and (parts or using):
            alias = right.alias.aliasname
            equal = tuple(self._equal(left.scope, alias, name) for name in using)
            names = ((alias, self.laterals.columns(right)),)
            right = self._filtered_item(left.scope, right, names, (*equal, *parts))
        operator, added = self.laterals.item(left.operator, left.scope, right, outer=outer)
        equalities, merged = self._using(using, left.scope, added, node.jointype)
        scope = left.scope.joined(added, merged)
        if outer:
            return operator, scope, merged
        filtered = Filter(operator, equalities) if equalities else operator
        return self.where(filtered, scope, parts) if parts else filtered, scope, merged

    def _row_by_row(self, node: ast.JoinExpr) -> _Joined:
        """An outer join of which a subquery reads both sides: partners are looked up for each row of the kept one."""
        if node.jointype == enums.JoinType.JOIN_FULL:
            raise unsupported("subquery in ON", "in a FULL JOIN it has no delta rule if it reads columns of both sides")
        turned = node.jointype == enums.JoinType.JOIN_RIGHT
        larg, rarg = (node.rarg, node.larg) if turned else (node.larg, node.rarg)
        left, right = self._item(larg), self._item(deepcopy(rarg)).scope
        if node.usingClause or right.merged:
            raise unsupported("subquery in ON", "together with USING it has no delta rule yet")
        names = tuple((table.alias, tuple(column.name for column in table.columns)) for table in right.tables)
        item = self._filtered_item(left.scope, rarg, names, split_and(node.quals))
        operator, added = self.laterals.item(left.operator, left.scope, item, outer=True)
        columns = iter(added.tables[0].columns)
        tables = tuple(
            replace(table, columns=tuple(replace(next(columns), name=c.name) for c in table.columns))
            for table in right.tables
        )
        looked_up = Scope(tables)
        return operator, looked_up.joined(left.scope) if turned else left.scope.joined(looked_up), ()

    def _equal(self, left: Scope, alias: str, name: str) -> ast.Node:
        mine = left.resolve(ast.ColumnRef(fields=(ast.String(sval=name),)))
        theirs = ast.ColumnRef(fields=(ast.String(sval=alias), ast.String(sval=name)))
        return ast.A_Expr(
            kind=enums.A_Expr_Kind.AEXPR_OP,
            name=(ast.String(sval="="),),
            lexpr=self.expressions.names.placeholder(mine),
            rexpr=theirs,
        )

    def _filtered_item(
        self,
        left: Scope,
        item: ast.Node,
        names: tuple[tuple[str, tuple[str, ...]], ...],
        conditions: tuple[ast.Node, ...],
    ) -> ast.RangeSubselect:
        """``LATERAL (SELECT columns FROM item WHERE conditions)``: a condition of LEFT JOIN inside its right side."""
        aliases = {table.alias for table in left.tables}

        def resolved(node: ast.Node) -> ast.Node | None:
            if not isinstance(node, ast.ColumnRef) or self.expressions.names.is_placeholder(node):
                return None
            outside = len(node.fields) == 1 or node.fields[-2].sval in aliases
            return self.expressions.names.placeholder(left.resolve(node)) if outside else None

        shown = (
            ast.ColumnRef(fields=(ast.String(sval=alias), ast.String(sval=name)))
            for alias, columns in names
            for name in columns
        )
        query = ast.SelectStmt(
            targetList=tuple(ast.ResTarget(val=ref) for ref in shown),
            fromClause=(item,),
            whereClause=transform(all_of(conditions), resolved),
            op=enums.SetOperation.SETOP_NONE,
            limitOption=enums.LimitOption.LIMIT_OPTION_DEFAULT,
        )
        return ast.RangeSubselect(lateral=True, subquery=query, alias=ast.Alias(aliasname=names[0][0]))

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
