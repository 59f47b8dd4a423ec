"""The FROM clause: tables, views, subqueries and joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pglast import ast, enums

from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Filter, InputKey, Join, Operator, OuterJoin, OuterKind, Project, Scan
from pgtrickle.ir.schema import Column
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.facts import RelationFacts
from pgtrickle.parse.lateral import Laterals, is_lateral
from pgtrickle.parse.refuse import unsupported
from pgtrickle.parse.scope import Scope, Table, Visible


@dataclass(frozen=True, slots=True)
class Item:
    """A FROM item: its rows and the names that it shows."""

    operator: Operator
    scope: Scope


#: Parses a nested query; returns its rows, its columns carry the visible names in the second element.
Subquery = Callable[[ast.SelectStmt], tuple[Operator, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class FromClause:
    """Parses FROM items. ``subquery`` parses nested queries, ``cte`` finds a common table expression by name."""

    expressions: Expressions
    subquery: Subquery
    cte: Callable[[str], tuple[Operator, tuple[str, ...]] | None]
    laterals: Laterals

    def parse(self, items: tuple[ast.Node, ...], first: Item | None = None) -> Item:
        """All items of a FROM list, joined without a condition, behind a first one that it does not show."""
        result = first
        for node in items:
            if is_lateral(node):
                result = self._lateral(result, node)
                continue
            item = self._item(node)
            if result is None:
                result = item
            else:
                result = Item(_join((result.operator, item.operator), ()), result.scope.joined(item.scope))
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
        if facts is None:
            raise InternalError(f"nothing is known of the relation {node.schemaname}.{node.relname}")
        if not node.inh and facts.kind == "table":
            raise unsupported("FROM ONLY", "capture cannot tell rows of a table from those of its children")
        if facts.obstacle:
            raise unsupported(facts.obstacle, "its changes cannot be captured", detail=f"{facts.schema}.{facts.name}")
        if facts.kind == "view":
            raise unsupported("system view", "its changes cannot be captured", detail=f"{facts.schema}.{facts.name}")
        operator, visible = self._scan(facts, node.alias.aliasname if node.alias else facts.name)
        return self._aliased((operator, visible), node.alias, facts.name, schema=facts.schema)

    def _scan(self, facts: RelationFacts, alias: str) -> tuple[Operator, tuple[str, ...]]:
        names = {attribute.name: self.expressions.names.fresh(attribute.name) for attribute in facts.attributes}
        stored = [attribute for attribute in facts.attributes if attribute.generation is None]
        scan = Scan(
            InputKey(facts.kind, facts.relid),
            tuple((attribute.number, attribute.name) for attribute in stored),
            tuple(Column(names[a.name], a.type, not a.not_null) for a in stored),
            tuple(frozenset(names[name] for name in key) for key in facts.keys),
            alias,
        )
        visible = tuple(attribute.name for attribute in facts.attributes)
        if len(stored) == len(facts.attributes):
            return scan, visible
        raise unsupported("virtual generated column", "triggers do not see its value", detail=facts.name)

    def _subselect(self, node: ast.RangeSubselect) -> Item:
        return self._aliased(self.subquery(node.subquery), node.alias, "")

    def _aliased(
        self,
        parsed: tuple[Operator, tuple[str, ...]],
        alias: ast.Alias | None,
        name: str,
        *,
        schema: str | None = None,
    ) -> Item:
        """Show an operator's columns under an alias; fresh columns, so that a query used twice does not clash."""
        operator, visible = parsed
        if not isinstance(operator, Scan):
            operator = self._renamed(operator)
        renames = tuple(part.sval for part in (alias.colnames or ())) if alias else ()
        shown = renames + visible[len(renames) :]
        columns = tuple(Visible(n, col(c.name)) for n, c in zip(shown, operator.columns, strict=True))
        return Item(operator, Scope((Table(alias.aliasname if alias else name, columns, schema),)))

    def _renamed(self, operator: Operator) -> Project:
        columns = tuple(replace(c, name=self.expressions.names.fresh(c.name)) for c in operator.columns)
        return Project(operator, columns, tuple(col(c.name) for c in operator.columns))

    def _join(self, node: ast.JoinExpr) -> Item:
        if is_lateral(node.rarg):
            return self._lateral_join(node)
        left, right = self._item(node.larg), self._item(node.rarg)
        using = tuple(part.sval for part in node.usingClause or ())
        equalities, merged = self._using(using, left.scope, right.scope, node.jointype)
        if using:
            self.expressions.note("using", f"USING ({', '.join(using)}) becomes equalities and merged columns")
        if node.jointype == enums.JoinType.JOIN_RIGHT:
            self.expressions.note("right join", "RIGHT JOIN becomes LEFT JOIN with its sides swapped")
        scope = left.scope.joined(right.scope, merged)
        conditions = equalities + self.expressions.conjuncts(node.quals, scope)
        operator = _join_of_kind(node.jointype, left.operator, right.operator, conditions)
        if node.alias is not None:
            return Item(operator, _aliased_join(scope, node.alias))
        if node.join_using_alias is not None:
            scope = replace(scope, tables=(*scope.tables, Table(node.join_using_alias.aliasname, merged)))
        return Item(operator, scope)

    def _lateral_join(self, node: ast.JoinExpr) -> Item:
        left = self._item(node.larg)
        always = isinstance(node.quals, ast.A_Const) and isinstance(node.quals.val, ast.Boolean)
        always = always and bool(node.quals.val.boolval)
        outer = node.jointype == enums.JoinType.JOIN_LEFT
        if node.usingClause or node.alias or (outer and not always):
            raise unsupported("LATERAL", "a lateral join with this condition has no delta rule yet")
        item = self._lateral(left, node.rarg, outer=outer)
        conditions = self.expressions.conjuncts(node.quals, item.scope) if not always else ()
        return Item(Filter(item.operator, conditions) if conditions else item.operator, item.scope)

    def _using(
        self, using: tuple[str, ...], left: Scope, right: Scope, kind: enums.JoinType
    ) -> tuple[tuple[Expr, ...], tuple[Visible, ...]]:
        """The equalities that USING means, and its merged columns."""
        equalities: list[Expr] = []
        merged: list[Visible] = []
        for name in using:
            ref = ast.ColumnRef(fields=(ast.String(sval=name),))
            mine, theirs = left.resolve(ref), right.resolve(ref)
            equalities.append(Expr(text("(", mine, ") = (", theirs, ")").parts, (mine, theirs)))
            merged.append(Visible(name, _merged(mine, theirs, kind)))
        return tuple(equalities), tuple(merged)


def _merged(left: Expr, right: Expr, kind: enums.JoinType) -> Expr:
    """The value of a merged column. The CASE gives it the common type of both sides, as PostgreSQL does."""
    if kind == enums.JoinType.JOIN_FULL:
        return text("COALESCE(", left, ", ", right, ")")
    kept, other = (right, left) if kind == enums.JoinType.JOIN_RIGHT else (left, right)
    return text("CASE WHEN true THEN ", kept, " ELSE ", other, " END")


def _aliased_join(scope: Scope, alias: ast.Alias) -> Scope:
    renames = tuple(part.sval for part in alias.colnames or ())
    columns = scope.all_columns()
    shown = renames + tuple(column.name for column in columns[len(renames) :])
    return Scope((Table(alias.aliasname, tuple(Visible(n, c.expr) for n, c in zip(shown, columns, strict=True))),))


def _join(inputs: tuple[Operator, ...], conditions: tuple[Expr, ...]) -> Join:
    """An inner join; inner joins below are merged into it, so that all inputs can be ordered together."""
    flat: list[Operator] = []
    inherited: list[Expr] = []
    for child in inputs:
        if isinstance(child, Join):
            flat += child.inputs
            inherited += child.conditions
        else:
            flat.append(child)
    return Join(tuple(flat), (*inherited, *conditions))


def _join_of_kind(kind: enums.JoinType, left: Operator, right: Operator, conditions: tuple[Expr, ...]) -> Operator:
    match kind:
        case enums.JoinType.JOIN_INNER:
            return _join((left, right), conditions)
        case enums.JoinType.JOIN_LEFT:
            return OuterJoin(OuterKind.LEFT, left, right, conditions)
        case enums.JoinType.JOIN_RIGHT:
            return OuterJoin(OuterKind.LEFT, right, left, conditions)
        case enums.JoinType.JOIN_FULL:
            return OuterJoin(OuterKind.FULL, left, right, conditions)
        case _:
            raise InternalError(f"the grammar has no join of kind {kind}")
