"""Scalar expressions: from pglast nodes to text with holes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, text
from pgtrickle.parse.facts import Facts
from pgtrickle.parse.names import Names
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import refuse_in_expression
from pgtrickle.parse.scope import Scope
from pgtrickle.parse.tree import function_name, transform, walk
from pgtrickle.plan import Rewrite

_AGGREGATE_NODES = (ast.JsonObjectAgg, ast.JsonArrayAgg)


@dataclass(frozen=True, slots=True)
class Expressions:
    """Turns nodes into expressions; holds what all clauses of a query share."""

    facts: Facts
    names: Names
    rewrites: list[Rewrite] = field(default_factory=list)
    #: Names of FROM items that an expression refers to as a whole row; the server tells all names apart.
    rows: frozenset[str] = frozenset()
    #: Whether anything refers to ``tableoid``.
    tableoids: bool = False
    #: Whole rows that are nothing but columns: rows are equal where all of these are. Such a row cannot be stored.
    records: dict[Expr, tuple[Expr, ...]] = field(default_factory=dict)

    def note(self, step: str, sentence: str) -> None:
        """Tell what was read as something else; ``explain`` shows it."""
        self.rewrites.append(Rewrite(step, sentence))

    def record(self, row: Expr, columns: Iterable[Expr]) -> Expr:
        """Remember of a whole row without a type what it is made of, if that is columns alone; returns the row."""
        columns = tuple(columns)
        if all(column.column is not None for column in columns):
            self.records[row] = columns
            self.records[text("(", row, ")")] = columns  # as it comes back from the printer
        return row

    def keys_of(self, expr: Expr) -> tuple[Expr, ...]:
        """What to group rows by instead of an expression: those of a whole row are its columns."""
        return self.records.get(expr, (expr,))

    def convert(self, node: ast.Node, scope: Scope) -> Expr:
        """The expression for a node whose columns are resolved in this scope.

        Raises:
            UnsupportedQuery: for a subquery, window function or column that has no rule.
        """
        refuse_in_expression(node)
        return self.names.split(print_node(self.resolve(node, scope)))

    def resolve(self, node: ast.Node, scope: Scope) -> ast.Node:
        """Replace column references by placeholders, in place. Does nothing to those that are placeholders already."""

        def replace(inner: ast.Node) -> ast.Node | None:
            if isinstance(inner, ast.ColumnRef) and not self.names.is_placeholder(inner):
                return self.names.placeholder(scope.resolve(inner))
            return None

        resolved = transform(node, replace)
        assert isinstance(resolved, ast.Node)
        return resolved

    def conjuncts(self, node: ast.Node | None, scope: Scope) -> tuple[Expr, ...]:
        """The conditions of an ON, WHERE or HAVING, split at its ANDs."""
        return tuple(self.condition(part, scope) for part in split_and(node))

    def condition(self, node: ast.Node, scope: Scope) -> Expr:
        """One condition; an equality keeps its sides, and an OR what its branches demand."""
        expr = self.convert(node, scope)
        if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.OR_EXPR:
            branches = [tuple(self.names.split(print_node(part)) for part in split_and(arg)) for arg in node.args]
            return Expr(expr.parts, branches=tuple(branches))
        if not is_equality(node):
            return expr
        left, right = (self.names.split(print_node(side)) for side in (node.lexpr, node.rexpr))
        return Expr(expr.parts, (left, right))

    def is_aggregate(self, node: ast.Node) -> bool:
        """Whether this very node is an aggregate call (and not a window function)."""
        if isinstance(node, _AGGREGATE_NODES):
            return node.constructor.over is None
        if not isinstance(node, ast.FuncCall) or node.over is not None:
            return False
        if node.agg_within_group or node.agg_star or node.agg_filter is not None or node.agg_distinct or node.agg_order:
            return True
        known = self.facts.functions.get(function_name(node))
        return known is not None and "a" in known.kinds

    def returns_set(self, node: ast.FuncCall) -> bool:
        """Whether a function returns a set."""
        known = self.facts.functions.get(function_name(node))
        return known is not None and known.returns_set

    def has_aggregate(self, node: object) -> bool:
        """Whether an aggregate call stands anywhere in this clause (not in its subqueries)."""
        return any(self.is_aggregate(inner) for inner in walk(node))


def whole_rows(stmt: ast.SelectStmt) -> frozenset[str]:
    """The names of FROM items of which a query, at any depth, uses the whole row (other stars are expanded)."""
    refs = (node for node in walk(stmt, into_subqueries=True) if isinstance(node, ast.ColumnRef))
    return frozenset(r.fields[-2].sval for r in refs if len(r.fields) > 1 and isinstance(r.fields[-1], ast.A_Star))


def reads_tableoid(stmt: ast.SelectStmt) -> bool:
    """Whether a query, at any depth, refers to a column ``tableoid``."""
    refs = (node.fields[-1] for node in walk(stmt, into_subqueries=True) if isinstance(node, ast.ColumnRef))
    return any(isinstance(name, ast.String) and name.sval == "tableoid" for name in refs)


def reads_only(stmt: ast.SelectStmt) -> bool:
    """Whether a query, at any depth, reads a table without those that inherit from it."""
    return any(isinstance(node, ast.RangeVar) and not node.inh for node in walk(stmt, into_subqueries=True))


def is_equality(node: ast.Node) -> bool:
    """Whether a condition compares two values (not rows) by ``=``."""
    if not isinstance(node, ast.A_Expr) or node.kind != enums.A_Expr_Kind.AEXPR_OP or node.lexpr is None:
        return False
    is_row = isinstance(node.lexpr, ast.RowExpr) or isinstance(node.rexpr, ast.RowExpr)
    return not is_row and tuple(part.sval for part in node.name) == ("=",)


def split_and(node: ast.Node | None) -> tuple[ast.Node, ...]:
    """The conditions that an AND connects; none for a missing clause."""
    if node is None:
        return ()
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.AND_EXPR:
        return tuple(part for arg in node.args for part in split_and(arg))
    if isinstance(node, ast.BoolExpr) and node.boolop == enums.BoolExprType.OR_EXPR:
        return _factored(node)
    return (node,)


def _factored(node: ast.BoolExpr) -> tuple[ast.Node, ...]:
    """What all branches of an OR demand, and the OR of the rest: ``a AND b OR a AND c`` is ``a AND (b OR c)``.

    As in the server's ``prepqual.c``. The conditions of joins are often written like this.
    """
    if any(isinstance(inner, ast.SubLink) for inner in walk(node)):
        return (node,)
    branches = [{print_node(part): part for part in split_and(arg)} for arg in node.args]
    shared = {key: part for key, part in branches[0].items() if all(key in branch for branch in branches)}
    if not shared:
        return (node,)
    rests = [all_of(tuple(part for key, part in branch.items() if key not in shared)) for branch in branches]
    if None in rests:  # a branch that demands no more
        return tuple(shared.values())
    return (*shared.values(), ast.BoolExpr(boolop=enums.BoolExprType.OR_EXPR, args=tuple(rests)))


def all_of(parts: tuple[ast.Node, ...]) -> ast.Node | None:
    """The conditions connected by AND; None if there is none."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return ast.BoolExpr(boolop=enums.BoolExprType.AND_EXPR, args=parts)
