"""FROM items that are computed anew for every row to their left: functions and LATERAL subqueries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.operators import Expand, InputKey, Operator, Values
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.outputs import output_names
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import refuse_in_expression, unsupported
from pgtrickle.parse.scope import Scope, Table, Visible
from pgtrickle.parse.subquery import Subqueries, has_subquery
from pgtrickle.parse.tree import transform
from pgtrickle.parse.unnest import Unnester

_UNIT = Values(((),), ())


def is_lateral(node: ast.Node) -> bool:
    """Whether a FROM item may read the columns of those before it."""
    if isinstance(node, ast.RangeSubselect):
        return bool(node.lateral)
    return isinstance(node, ast.RangeFunction | ast.RangeTableFunc | ast.JsonTable)


@dataclass(frozen=True, slots=True)
class Laterals:
    """Turns such FROM items into `Expand`."""

    expressions: Expressions
    unknown: Type
    ctes: Mapping[str, str]
    unnester: Unnester | None = None

    def item(
        self, left: Operator | None, scope: Scope, node: ast.Node, *, outer: bool = False
    ) -> tuple[Operator, Scope]:
        """The rows to the left, each with the rows that the item has for it.

        Args:
            left: the rows to the left; None if the item stands first.
            scope: their names.
            node: the FROM item.
            outer: LEFT JOIN: rows without any stay, with NULL.
        """
        if isinstance(node, ast.RangeSubselect):
            return self._subquery(left, scope, node, outer=outer)
        alias = node.alias.aliasname if node.alias else ""
        whole = alias in self.expressions.rows
        query, shown, inputs = self._function(node, scope, alias if whole else None)
        columns = self._fresh((*shown, "row") if whole else shown)
        expanded = Expand(left if left is not None else _UNIT, query, columns, inputs, outer)
        return expanded, Scope((Table(alias, _visible(shown, columns), row=col(columns[-1].name) if whole else None),))

    def _subquery(
        self, left: Operator | None, scope: Scope, node: ast.RangeSubselect, *, outer: bool
    ) -> tuple[Operator, Scope]:
        """A LATERAL subquery. Its whole row is NULL where there is none: a further column tells where there is one."""
        alias = node.alias.aliasname if node.alias else ""
        whole = alias in self.expressions.rows
        marked = whole and outer
        attached = None
        if left is not None and self.unnester is not None:
            attached = self.subqueries(scope).lateral(left, node.subquery, outer=outer, marked=marked)
        if attached is not None:
            rows, columns, names = attached
            shown = _shown(node.alias, names)
        else:
            query, shown, inputs = self._subselect(node, scope)
            columns = self._fresh((*shown, "there") if marked else shown)
            if marked:
                query = text("(SELECT q.*, TRUE FROM ", query, " AS q)")
            rows = Expand(left if left is not None else _UNIT, query, columns, inputs, outer)
        visible = _visible(shown, columns)
        row = row_of(tuple((column.name, column.expr) for column in visible)) if whole else None
        if row is not None:
            made_of = [column.expr for column in visible]
            if marked:
                there = col(columns[-1].name)
                row, made_of = text("CASE WHEN ", there, " THEN ", row, " END"), [*made_of, there]
            row = self.expressions.record(row, made_of)
        return rows, Scope((Table(alias, visible, row=row),))

    def _fresh(self, names: tuple[str, ...]) -> tuple[Column, ...]:
        return tuple(Column(self.expressions.names.fresh(name), self.unknown) for name in names)

    def columns(self, node: ast.Node) -> tuple[str, ...]:
        """The names of an item's columns."""
        if isinstance(node, ast.RangeSubselect):
            return _shown(node.alias, output_names(node.subquery))
        return _columns_of(node)

    def subqueries(self, scope: Scope) -> Subqueries:
        """Collects the subqueries of expressions over a scope."""
        return Subqueries(self.expressions, self.unknown, self.ctes, scope.resolve, self.unnester)

    def _function(
        self, node: ast.Node, scope: Scope, alias: str | None
    ) -> tuple[Expr, tuple[str, ...], frozenset[InputKey]]:
        """The rows of a function; if it has an ``alias`` here, its whole row is a further column."""
        shown = _columns_of(node)
        if has_subquery(node):
            targets = [ast.ResTarget(val=ast.ColumnRef(fields=(ast.A_Star(),)))]
            if alias is not None:
                row = ast.ColumnRef(fields=(ast.String(sval=alias), ast.A_Star()))
                targets.append(ast.ResTarget(val=ast.CoalesceExpr(args=(row,))))
            query = ast.SelectStmt(targetList=tuple(targets), fromClause=(node,), op=enums.SetOperation.SETOP_NONE)
            query.limitOption = enums.LimitOption.LIMIT_OPTION_DEFAULT
            return self._query(query, shown, scope)
        refuse_in_expression(node)
        self.expressions.resolve(node, scope)
        row = f", COALESCE({quoted(alias)}.*)" if alias is not None else ""  # a whole row, not the columns one by one
        return text("(SELECT *", row, " FROM ", self.expressions.names.split(print_node(node)), ")"), shown, frozenset()

    def _subselect(self, node: ast.RangeSubselect, scope: Scope) -> tuple[Expr, tuple[str, ...], frozenset[InputKey]]:
        return self._query(node.subquery, self.columns(node), scope)

    def _query(
        self, stmt: ast.SelectStmt, shown: tuple[str, ...], scope: Scope
    ) -> tuple[Expr, tuple[str, ...], frozenset[InputKey]]:
        subqueries = Subqueries(self.expressions, self.unknown, self.ctes, scope.resolve)
        query, inputs = subqueries.text_of(stmt)
        return text("(", query, ")"), shown, inputs

    def whole(self, stmt: ast.SelectStmt) -> tuple[Operator, tuple[str, ...]]:
        """A query that reads nothing around it, computed as a whole."""
        query, shown, inputs = self._query(stmt, output_names(stmt), Scope(()))
        columns = tuple(Column(self.expressions.names.fresh(name), self.unknown) for name in shown)
        return Expand(_UNIT, query, columns, inputs, False), shown

    def recursive(self, name: str, cte: ast.CommonTableExpr) -> tuple[Operator, tuple[str, ...]]:
        """A recursive common table expression: computed as a whole."""
        renames = tuple(part.sval for part in cte.aliascolnames or ())
        shown = renames or output_names(cte.ctequery)
        subqueries = Subqueries(self.expressions, self.unknown, self.ctes, Scope(()).resolve)
        printed = print_node(cte)
        _, inputs = subqueries.text_of(cte.ctequery, known=frozenset({name}))
        before = [part for definition in self.ctes.values() for part in (definition, ", ")]
        query = text("(WITH RECURSIVE ", *before, printed, " SELECT * FROM ", quoted(name), ")")
        columns = tuple(Column(self.expressions.names.fresh(one), self.unknown) for one in shown)
        return Expand(_UNIT, query, columns, inputs, False), shown


def _visible(shown: tuple[str, ...], columns: tuple[Column, ...]) -> tuple[Visible, ...]:
    return tuple(Visible(name, col(column.name)) for name, column in zip(shown, columns, strict=False))


def row_of(columns: tuple[tuple[str, Expr], ...]) -> Expr:
    """A row of no named type, but with the names of its columns."""
    parts: list[str | Expr] = []
    for name, expr in columns:
        parts += [", " if parts else "", expr, f" AS {quoted(name)}"]
    return text("(SELECT r FROM (SELECT ", *parts, ") AS r)")


def quoted(name: str) -> str:
    """An identifier as it can stand in any text."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(slots=True)
class SetReturning:
    """Functions that return sets in a select list: all of them advance in step, as PostgreSQL does it.

    ``convert`` converts expressions without such functions.
    """

    expressions: Expressions
    convert: Callable[[ast.Node], Expr]
    calls: dict[Expr, str] = field(default_factory=dict)

    def expression(self, node: ast.Node) -> Expr:
        """An expression that may contain such functions; they become columns."""
        replaced = transform(node, self._replace)
        assert isinstance(replaced, ast.Node)
        return self.convert(replaced)

    def under(self, child: Operator, unknown: Type) -> Operator:
        """The rows below, once for each element."""
        if not self.calls:
            return child
        parts: list[str | Expr] = ["(SELECT "]
        for position, call in enumerate(self.calls):
            parts += [", ", call] if position else [call]
        columns = tuple(Column(name, unknown) for name in self.calls.values())
        return Expand(child, text(*parts, ")"), columns, frozenset(), False)

    def _replace(self, node: ast.Node) -> ast.Node | None:
        if not isinstance(node, ast.FuncCall) or node.over is not None or not self.expressions.returns_set(node):
            return None
        call = self.convert(node)
        name = self.calls.setdefault(call, self.expressions.names.fresh("element"))
        return self.expressions.names.placeholder(col(name))


def _columns_of(node: ast.Node) -> tuple[str, ...]:
    """The columns of a function in FROM; the server prints them all with the alias."""
    if isinstance(node, ast.RangeFunction) and node.coldeflist:
        return tuple(column.colname for column in node.coldeflist)
    if node.alias is not None and node.alias.colnames:
        return tuple(part.sval for part in node.alias.colnames)
    if isinstance(node, ast.JsonTable):
        return tuple(_json_columns(node.columns or ()))
    if isinstance(node, ast.RangeTableFunc):
        return tuple(column.colname for column in node.columns or ())
    raise unsupported("function in FROM", "the names of its columns are not known", detail=print_node(node))


def _json_columns(columns: tuple[ast.JsonTableColumn, ...]) -> list[str]:
    names: list[str] = []
    for column in columns:
        if column.columns:
            names += _json_columns(column.columns)
        else:
            names.append(column.name)
    return names


def _shown(alias: ast.Alias | None, names: tuple[str, ...]) -> tuple[str, ...]:
    renames = tuple(part.sval for part in alias.colnames or ()) if alias else ()
    return renames + names[len(renames) :]
