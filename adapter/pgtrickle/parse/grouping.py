"""GROUP BY, aggregates and HAVING: from one SELECT to projection, grouping and what comes after it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pglast import ast

from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, Operator, Project
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import refuse_in_expression
from pgtrickle.parse.scope import Scope
from pgtrickle.parse.tree import function_name, transform


@dataclass(slots=True)
class Grouping:
    """Collects the keys and aggregates of one SELECT while its clauses are converted."""

    expressions: Expressions
    scope: Scope
    unknown: Type
    below: dict[str, Column]
    keys: dict[Expr, Column]
    calls: dict[Expr, AggregateCall]
    args: dict[Expr, Column] = field(default_factory=dict)

    @classmethod
    def of(
        cls, stmt: ast.SelectStmt, expressions: Expressions, scope: Scope, unknown: Type, child: Operator
    ) -> Grouping:
        """Start with the keys that GROUP BY names."""
        below = {column.name: column for column in child.columns}
        grouping = cls(expressions, scope, unknown, below, {}, {})
        for node in stmt.groupClause or ():
            target = node
            if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer):
                target = stmt.targetList[node.val.ival - 1].val
            grouping.add_key(expressions.convert(target, scope))
        return grouping

    def add_key(self, expr: Expr) -> Column:
        """The column of a grouping key, new or known."""
        if expr not in self.keys:
            name = self.expressions.names.fresh(expr.column or "key")
            self.keys[expr] = Column(name, self.unknown)
        return self.keys[expr]

    def convert(self, node: ast.Node) -> Expr:
        """An expression of the select list or HAVING, over keys and aggregates.

        A column that is neither is functionally dependent on the keys (PostgreSQL has checked that) and becomes a key.
        """
        node = self.expressions.resolve(node, self.scope)
        rewritten = transform(node, self._replace)
        assert isinstance(rewritten, ast.Node)
        expr = self.expressions.names.split(print_node(rewritten))
        own = {column.name for column in self.keys.values()} | {call.column.name for call in self.calls.values()}
        parts = tuple(
            Ref(self._dependent(part.name)) if isinstance(part, Ref) and part.name in self.below.keys() - own else part
            for part in expr.parts
        )
        return Expr(parts)

    def _dependent(self, name: str) -> str:
        """The column for one that the keys determine: a further key, or any value if its type cannot be a key."""
        column = self.below[name]
        if column.type.equals is not None or column.type.oid == 0 or column.type.category == "A":
            return self.add_key(col(name)).name
        expr = text("(pg_catalog.array_agg(", col(name), "))[1]")
        if expr not in self.calls:
            self.calls[expr] = AggregateCall(Column(self.expressions.names.fresh(name), self.unknown), expr)
        return self.calls[expr].column.name

    def operator(self, child: Operator) -> Aggregate:
        """The grouping of ``child`` by everything collected."""
        needed: dict[str, None] = {}
        computed = {column.name for column in self.args.values()}
        for call in self.calls.values():
            needed |= dict.fromkeys(sorted(call.expr.refs - computed))
        by_name = {column.name: column for column in child.columns}
        columns = (*self.keys.values(), *self.args.values(), *(by_name[name] for name in needed))
        exprs = (*self.keys, *self.args, *(col(name) for name in needed))
        below = Project(child, tuple(columns), tuple(exprs))
        keys = tuple(column.name for column in self.keys.values())
        return Aggregate(below, keys, tuple(self.calls.values()), scalar=not keys)

    def _replace(self, node: ast.Node) -> ast.Node | None:
        if self.expressions.is_aggregate(node):
            return self.expressions.names.placeholder(col(self._call(node).column.name))
        return self._key_reference(node) if self.keys else None

    def _key_reference(self, node: ast.Node) -> ast.Node | None:
        if not _is_expression(node):
            return None
        column = self.keys.get(self.expressions.names.split(print_node(node)))
        return self.expressions.names.placeholder(col(column.name)) if column else None

    def _call(self, node: ast.Node) -> AggregateCall:
        refuse_in_expression(node, self.expressions.facts)
        original = self.expressions.names.split(print_node(node))
        if original not in self.calls:
            self.calls[original] = self._described(node, original)
        return self.calls[original]

    def _described(self, node: ast.Node, original: Expr) -> AggregateCall:
        if not isinstance(node, ast.FuncCall):
            return AggregateCall(Column(self.expressions.names.fresh("agg"), self.unknown), original)
        schema, name = function_name(node)
        column = Column(self.expressions.names.fresh(name), self.unknown)
        plain = not (node.agg_distinct or node.agg_order or node.agg_within_group or node.func_variadic)
        if not plain or schema != "pg_catalog":
            return AggregateCall(column, original)
        node.args = tuple(self._argument(arg) for arg in node.args) if node.args else None
        args = tuple(self.expressions.names.split(print_node(arg)) for arg in node.args or ())
        condition = node.agg_filter
        condition = self.expressions.names.split(print_node(condition)) if condition is not None else None
        expr = self.expressions.names.split(print_node(node))
        return AggregateCall(column, expr, name, args, condition, plain)

    def _argument(self, node: ast.Node) -> ast.Node:
        """Compute an argument below the grouping, so that its type is known; constants stay where they are."""
        expr = self.expressions.names.split(print_node(node))
        if expr.column is not None or not expr.refs:
            return node
        if expr not in self.args:
            self.args[expr] = Column(self.expressions.names.fresh("arg"), self.unknown)
        return self.expressions.names.placeholder(col(self.args[expr].name))


def _is_expression(node: ast.Node) -> bool:
    return not isinstance(
        node,
        ast.TypeName
        | ast.String
        | ast.Integer
        | ast.Alias
        | ast.SortBy
        | ast.CaseWhen
        | ast.NamedArgExpr
        | ast.A_Const,
    )
