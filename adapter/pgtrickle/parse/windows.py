"""Window functions: collected from a SELECT, grouped by what they are partitioned by."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from pglast import ast

from pgtrickle.ir.expr import Expr, col
from pgtrickle.ir.operators import AggregateCall, Operator, Project, Window
from pgtrickle.ir.schema import Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.tree import transform, walk

#: Converts a node of the select list whose window functions are gone, over the rows that the windows look at.
Convert = Callable[[ast.Node], Expr]


def asks_in_frame(stmt: ast.SelectStmt) -> bool:
    """Whether the offset of a window frame is a subquery, which only a query as a whole can contain: not a column."""
    windows = (node for node in walk((stmt.targetList, stmt.sortClause, stmt.windowClause)))
    offsets = ((w.startOffset, w.endOffset) for w in windows if isinstance(w, ast.WindowDef))
    return any(isinstance(node, ast.SubLink) for node in walk(tuple(offsets)))


@dataclass(slots=True)
class Windows:
    """Replaces window functions by columns and remembers what to compute.

    ``convert`` resolves columns (and aggregates, in a grouped query) of everything inside a call, ``lift`` takes the
    subqueries out of it.
    """

    expressions: Expressions
    unknown: Type
    definitions: dict[str, ast.WindowDef]
    convert: Convert
    lift: Callable[[ast.Node], ast.Node]
    calls: dict[frozenset[Expr], dict[Expr, AggregateCall]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stmt: ast.SelectStmt,
        expressions: Expressions,
        unknown: Type,
        convert: Convert,
        lift: Callable[[ast.Node], ast.Node],
    ) -> Windows:
        """Start with the windows that the WINDOW clause names."""
        return cls(expressions, unknown, {d.name: d for d in stmt.windowClause or ()}, convert, lift)

    def replace(self, node: ast.Node) -> ast.Node:
        """An expression without its window functions; changes the node in place."""
        replaced = transform(node, self._replace)
        assert isinstance(replaced, ast.Node)
        return replaced

    def expression(self, node: ast.Node) -> Expr:
        """An expression that may contain window functions."""
        return self.convert(self.replace(node))

    def operator(self, child: Operator) -> Operator:
        """The windows over ``child``, one operator for each set of partition columns."""
        for partition, calls in self.calls.items():
            keys: list[str] = []
            computed: list[tuple[Column, Expr]] = []
            for expr in sorted(partition, key=lambda e: str(e.parts)):
                if expr.column is not None:
                    keys.append(expr.column)
                    continue
                column = Column(self.expressions.names.fresh("partition"), self.unknown)
                computed.append((column, expr))
                keys.append(column.name)
            if computed:
                columns = (*child.columns, *(column for column, _ in computed))
                exprs = (*(col(c.name) for c in child.columns), *(expr for _, expr in computed))
                child = Project(child, columns, exprs)
            child = Window(child, tuple(keys), tuple(calls.values()))
        return child

    def add(self, partition: tuple[Expr, ...], expr: Expr, hint: str) -> Column:
        """A column for a window function that is given as text."""
        calls = self.calls.setdefault(frozenset(partition), {})
        if expr not in calls:
            calls[expr] = AggregateCall(Column(self.expressions.names.fresh(hint), self.unknown), expr)
        return calls[expr].column

    def _replace(self, node: ast.Node) -> ast.Node | None:
        if isinstance(node, ast.SubLink):  # window functions inside are its own
            node.testexpr = self.replace(node.testexpr) if node.testexpr is not None else None
            return node
        if not isinstance(node, ast.FuncCall) or node.over is None:
            return None
        node.over = self._definition(node.over)
        self.lift(node)
        parts = (self.convert(part) for part in node.over.partitionClause or ())
        partition = tuple(key for part in parts for key in self.expressions.keys_of(part))
        column = self.add(partition, self.convert(node), node.funcname[-1].sval)
        return self.expressions.names.placeholder(col(column.name))

    def _definition(self, over: ast.WindowDef) -> ast.WindowDef:
        """The window itself instead of its name."""
        if over.name is not None:
            named = self.definitions[over.name]
            return self._definition(_unnamed(named, named.orderClause))
        if over.refname is None:
            return over
        base = self._definition(_unnamed(self.definitions[over.refname], None))
        merged = _unnamed(over, over.orderClause or self.definitions[over.refname].orderClause)
        merged.refname = None
        merged.partitionClause = base.partitionClause
        return merged


def _unnamed(window: ast.WindowDef, order: tuple[ast.Node, ...] | None) -> ast.WindowDef:
    return ast.WindowDef(
        refname=window.refname,
        partitionClause=deepcopy(window.partitionClause),
        orderClause=deepcopy(order),
        frameOptions=window.frameOptions,
        startOffset=window.startOffset,
        endOffset=window.endOffset,
    )
