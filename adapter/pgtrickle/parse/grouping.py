"""GROUP BY, aggregates and HAVING: from one SELECT to projection, grouping and what comes after it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import combinations, islice

from pglast import ast, enums

from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import Aggregate, AggregateCall, GroupingSets, Operator, Project
from pgtrickle.ir.schema import INT4, Column, Type
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.lateral import SetReturning
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.refuse import refuse_in_expression, unsupported
from pgtrickle.parse.scope import Scope
from pgtrickle.parse.tree import function_name, transform, walk

#: Aggregates for which neither the order of the rows matters nor whether a value comes more than once.
_REPEATABLE = frozenset({"min", "max", "bit_and", "bit_or", "bool_and", "bool_or", "every"})
#: Types that the server prints of a constant in GROUP BY only, where a number alone would be a position.
_IMPLIED = ("integer", "numeric", "boolean")
#: Aggregates for which the order of the rows does not matter.
_ORDERLESS = _REPEATABLE | {"count", "sum", "avg"}


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
    sets: tuple[tuple[str, ...], ...] = ()
    markers: dict[tuple[str, ...], Column] = field(default_factory=dict)
    expanded: dict[Expr, Expr] = field(default_factory=dict)
    elements: SetReturning | None = None

    @classmethod
    def of(
        cls, stmt: ast.SelectStmt, expressions: Expressions, scope: Scope, unknown: Type, child: Operator
    ) -> Grouping:
        """Start with the keys that GROUP BY names."""
        below = {column.name: column for column in child.columns}
        grouping = cls(expressions, scope, unknown, below, {}, {})
        if any(isinstance(node, ast.GroupingSet) for node in stmt.groupClause or ()):
            constants: list[ast.Node] = []

            def convert(node: ast.Node) -> Expr:
                target = _target(stmt, node)
                if not _is_constant(target):
                    return grouping.key(target)
                constants.append(target)
                return grouping.constant_key(stmt, target)

            exprs = grouping_sets(stmt.groupClause, convert)
            grouping.sets = tuple(tuple(grouping.add_key(expr).name for expr in one) for one in exprs)
            if stmt.groupDistinct:
                grouping.sets = tuple(dict.fromkeys(tuple(sorted(one)) for one in grouping.sets))
            if len(grouping.sets) == 1:
                grouping.sets = ()
            else:
                _refuse_elsewhere(stmt, constants)
            return grouping
        for node in stmt.groupClause or ():
            for expr in expressions.keys_of(grouping.key(_target(stmt, node))):
                grouping.add_key(expr)
        return grouping

    def key(self, node: ast.Node) -> Expr:
        """A grouping expression; functions in it that return sets multiply the rows before they are grouped."""
        expr = self.expressions.convert(node, self.scope)
        if any(isinstance(inner, ast.FuncCall) and self.expressions.returns_set(inner) for inner in walk(node)):
            if self.elements is None:
                self.elements = SetReturning(
                    self.expressions, lambda inner: self.expressions.convert(inner, self.scope)
                )
            self.expanded[expr] = self.elements.expression(deepcopy(node))
        return expr

    def constant_key(self, stmt: ast.SelectStmt, node: ast.Node) -> Expr:
        """A constant as a key of grouping sets: in the sets without it, the output column that it is becomes NULL.

        PostgreSQL takes the first one that equals it.
        """
        expr = text(f"({print_node(node)})")
        if expr not in self.keys:
            key = col(self.add_key(expr).name)
            same = (target for target in stmt.targetList or () if _is_same_constant(target.val, node))
            for target in islice(same, 1):
                target.val = self.expressions.names.placeholder(key)
        return expr

    def with_elements(self, node: ast.Node) -> ast.Node:
        """The expression with keys that contain functions returning sets replaced: these are evaluated already."""
        if not self.expanded:
            return node

        def resolve(inner: ast.Node) -> ast.Node | None:
            if isinstance(inner, ast.SubLink):
                return inner
            return self.expressions.resolve(inner, self.scope) if isinstance(inner, ast.ColumnRef) else None

        def keyed(inner: ast.Node) -> ast.Node | None:
            if isinstance(inner, ast.SubLink) or self.expressions.is_aggregate(inner):
                return inner
            if not _is_expression(inner):
                return None
            expr = self.expressions.names.split(print_node(inner))
            return self.expressions.names.placeholder(col(self.keys[expr].name)) if expr in self.expanded else None

        replaced = transform(transform(node, resolve), keyed)
        assert isinstance(replaced, ast.Node)
        return replaced

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
        own |= {column.name for column in self.markers.values()}
        parts = tuple(
            Ref(self._dependent(part.name)) if isinstance(part, Ref) and part.name in self.below.keys() - own else part
            for part in expr.parts
        )
        return Expr(parts)

    def settle_tests(self, clauses: object) -> None:
        """Express the left sides of IN, ANY and ALL over keys and aggregates, in place."""
        for node in tuple(walk(clauses)):
            if isinstance(node, ast.SubLink) and node.testexpr is not None:
                row = isinstance(node.testexpr, ast.RowExpr)
                tests = node.testexpr.args if row else (node.testexpr,)
                settled = tuple(self._settled(test) for test in tests)
                if row:
                    node.testexpr.args = settled
                else:
                    node.testexpr = settled[0]

    def _settled(self, test: ast.Node) -> ast.Node:
        deferred = any(
            isinstance(inner, ast.SubLink) or (isinstance(inner, ast.FuncCall) and inner.over is not None)
            for inner in walk(test)
        )
        constant = not any(
            isinstance(inner, ast.ColumnRef) or self.expressions.is_aggregate(inner) for inner in walk(test)
        )
        return test if deferred or constant else self.expressions.names.placeholder(self.convert(test))

    def _dependent(self, name: str) -> str:
        """The column for one that the keys determine: a further key, or any value if its type cannot be a key."""
        column = self.below[name]
        if column.type.equals is not None or column.type.oid == 0 or column.type.category == "A":
            return self.add_key(col(name)).name
        expr = text("(pg_catalog.array_agg(", col(name), "))[1]")
        if expr not in self.calls:
            self.calls[expr] = AggregateCall(Column(self.expressions.names.fresh(name), self.unknown), expr)
        return self.calls[expr].column.name

    def operator(self, child: Operator) -> Aggregate | GroupingSets:
        """The grouping of ``child`` by everything collected."""
        if not self.calls and () in self.sets:  # groups of nothing are told apart by their rows alone
            count = AggregateCall(Column(self.expressions.names.fresh("rows"), self.unknown), text("count(*)"), "count")
            self.calls[count.expr] = replace(count, plain=True)
        needed: dict[str, None] = {}
        computed = {column.name for column in self.args.values()}
        for call in self.calls.values():
            needed |= dict.fromkeys(sorted(call.expr.refs - computed))
        by_name = {column.name: column for column in child.columns}
        columns = (*self.keys.values(), *self.args.values(), *(by_name[name] for name in needed))
        exprs = (*(self.expanded.get(key, key) for key in self.keys), *self.args, *(col(name) for name in needed))
        if self.elements is not None:
            child = self.elements.under(child, self.unknown)
        below = Project(child, tuple(columns), tuple(exprs))
        keys = tuple(column.name for column in self.keys.values())
        if self.sets:
            markers = tuple((column, names) for names, column in self.markers.items())
            return GroupingSets(below, keys, self.sets, tuple(self.calls.values()), markers)
        return Aggregate(below, keys, tuple(self.calls.values()), scalar=not keys)

    def _replace(self, node: ast.Node) -> ast.Node | None:
        if self.expressions.is_aggregate(node):
            return self.expressions.names.placeholder(col(self._call(node).column.name))
        if isinstance(node, ast.GroupingFunc):
            if not self.sets:  # every row is grouped by all keys
                return self.expressions.names.placeholder(text("0::pg_catalog.int4"))
            return self.expressions.names.placeholder(col(self._marker(node).name))
        return self._key_reference(node) if self.keys else None

    def _marker(self, node: ast.GroupingFunc) -> Column:
        names = tuple(self._marked(arg).name for arg in node.args)
        if names not in self.markers:
            self.markers[names] = Column(self.expressions.names.fresh("grouping"), INT4)
        return self.markers[names]

    def _marked(self, node: ast.Node) -> Column:
        """The key that an argument of GROUPING means; constants are spelled out in GROUP BY."""
        printed = print_node(node)
        spelled = (
            text(f"({constant})") for constant in (printed, *(f"CAST({printed} AS {kind})" for kind in _IMPLIED))
        )
        known = (self.expressions.names.split(printed), *spelled)
        return next(self.keys[expr] for expr in known if expr in self.keys)

    def _key_reference(self, node: ast.Node) -> ast.Node | None:
        if not _is_expression(node):
            return None
        column = self.keys.get(self.expressions.names.split(print_node(node)))
        return self.expressions.names.placeholder(col(column.name)) if column else None

    def _call(self, node: ast.Node) -> AggregateCall:
        refuse_in_expression(node)
        original = self.expressions.names.split(print_node(node))
        if original not in self.calls:
            self.calls[original] = self._described(node, original)
        return self.calls[original]

    def _described(self, node: ast.Node, original: Expr) -> AggregateCall:
        if not isinstance(node, ast.FuncCall):
            return AggregateCall(Column(self.expressions.names.fresh("agg"), self.unknown), original)
        schema, name = function_name(node)
        column = Column(self.expressions.names.fresh(name), self.unknown)
        if schema != "pg_catalog" or node.agg_within_group or node.func_variadic:
            return AggregateCall(column, original)
        if name in _ORDERLESS:
            node.agg_order = None
            node.agg_distinct = node.agg_distinct and name not in _REPEATABLE
        if name == "any_value" and _takes_the_least(node):
            node.agg_order = None
        distinct = bool(node.agg_distinct) and len(node.args or ()) == 1
        plain = not (node.agg_distinct or node.agg_order)
        if not plain and (not distinct or node.agg_order):
            return AggregateCall(column, original)
        condition = node.agg_filter
        condition = self.expressions.names.split(print_node(condition)) if condition is not None else None
        node.args = tuple(self._argument(arg, condition) for arg in node.args) if node.args else None
        args = tuple(self.expressions.names.split(print_node(arg)) for arg in node.args or ())
        expr = self.expressions.names.split(print_node(node))
        return AggregateCall(column, expr, name, args, condition, plain, distinct)

    def _argument(self, node: ast.Node, condition: Expr | None) -> ast.Node:
        """Compute an argument below the grouping, so that its type is known; only for rows that FILTER lets in."""
        expr = self.expressions.names.split(print_node(node))
        if expr.column is not None or expr in self.expressions.records:
            return node
        if condition is not None and expr.refs:
            expr = text("CASE WHEN ", condition, " THEN ", expr, " END")
        if expr not in self.args:
            self.args[expr] = Column(self.expressions.names.fresh("arg"), self.unknown)
        return self.expressions.names.placeholder(col(self.args[expr].name))


def _target(stmt: ast.SelectStmt, node: ast.Node) -> ast.Node:
    """What an item of GROUP BY means: an integer is an output column."""
    if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer):
        return stmt.targetList[node.val.ival - 1].val
    return node


def _is_constant(node: ast.Node) -> bool:
    return isinstance(node, ast.A_Const) or (isinstance(node, ast.TypeCast) and _is_constant(node.arg))


def _refuse_elsewhere(stmt: ast.SelectStmt, constants: list[ast.Node]) -> None:
    """Refuse a key that stands anywhere else: there PostgreSQL's plans disagree (HAVING: 18.6) on whether it is NULL.

    Raises:
        UnsupportedQuery: naming the constant.
    """
    clauses = (stmt.targetList, stmt.havingClause, stmt.sortClause, stmt.distinctClause, stmt.windowClause)
    marked = {id(arg) for node in walk(clauses) if isinstance(node, ast.GroupingFunc) for arg in walk(node.args)}
    nodes = (node for node in walk(clauses, into_subqueries=True) if id(node) not in marked)
    shown = {print_node(node) for node in nodes if isinstance(node, ast.A_Const)}
    for key in constants:
        if print_node(_uncast(key)) in shown:
            raise unsupported(
                "a constant as the key of several grouping sets",
                "PostgreSQL does not say what it is elsewhere in the query",
                detail=print_node(key),
            )


def _uncast(node: ast.Node) -> ast.Node:
    return _uncast(node.arg) if isinstance(node, ast.TypeCast) else node


def _is_same_constant(shown: ast.Node, key: ast.Node) -> bool:
    """Whether an output column is the constant of GROUP BY; in the select list the server leaves out some types.

    Raises:
        UnsupportedQuery: it cannot be told.
    """
    if not _is_constant(shown):
        return False
    mine, theirs = print_node(shown), print_node(key)
    if mine == theirs or theirs in (f"CAST({mine} AS {kind})" for kind in _IMPLIED):
        return True
    if isinstance(key, ast.TypeCast) and not isinstance(shown, ast.TypeCast) and print_node(key.arg) == mine:
        raise unsupported("a constant as the key of several grouping sets", "its type is not known", detail=theirs)
    return False


def _takes_the_least(node: ast.FuncCall) -> bool:
    """Whether the order of an aggregate's rows begins with its argument, so that any value is the least."""
    first = (node.agg_order or (None,))[0]
    if first is None or node.agg_distinct or first.useOp or first.sortby_dir != enums.SortByDir.SORTBY_DEFAULT:
        return False
    return print_node(first.node) == print_node(node.args[0])


def grouping_sets(clause: tuple[ast.Node, ...], convert: Callable[[ast.Node], Expr]) -> list[tuple[Expr, ...]]:
    """The grouping sets that a GROUP BY means: the items' sets combined, each with each."""
    combined: list[tuple[Expr, ...]] = [()]
    for node in clause:
        sets = _sets_of(node, convert)
        combined = [(*one, *other) for one in combined for other in sets]
    return [tuple(dict.fromkeys(one)) for one in combined]


def _sets_of(node: ast.Node, convert: Callable[[ast.Node], Expr]) -> list[tuple[Expr, ...]]:
    if not isinstance(node, ast.GroupingSet):
        return [_columns(node, convert)]
    content = node.content or ()
    match node.kind:
        case enums.GroupingSetKind.GROUPING_SET_SETS:
            return [one for inner in content for one in _sets_of(inner, convert)]
        case enums.GroupingSetKind.GROUPING_SET_ROLLUP:
            parts = [_columns(inner, convert) for inner in content]
            return [tuple(e for part in parts[:length] for e in part) for length in range(len(parts), -1, -1)]
        case enums.GroupingSetKind.GROUPING_SET_CUBE:
            parts = [_columns(inner, convert) for inner in content]
            chosen = (c for size in range(len(parts), -1, -1) for c in combinations(parts, size))
            return [tuple(e for part in one for e in part) for one in chosen]
        case _:
            return [()]


def _columns(node: ast.Node, convert: Callable[[ast.Node], Expr]) -> tuple[Expr, ...]:
    if isinstance(node, ast.RowExpr):
        return tuple(convert(arg) for arg in node.args or ())
    return (convert(node),)


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
