"""Fix an order where the query leaves one free on which its result depends.

PostgreSQL may return any of several answers then: the input order of array_agg, the numbers of peers in row_number,
the rows that LIMIT keeps among equals. A stream table has to be equal to one and the same answer at every comparison,
so the order is made total. Rows that are equal in everything that is added are interchangeable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from enum import Enum

from pglast import ast, enums

from pgtrickle.parse.copies import Keys, may_repeat, number_copies, own_refs
from pgtrickle.parse.inherited_order import inherited_order, takes_rows_as_they_come
from pgtrickle.parse.json_constructs import settle_json
from pgtrickle.parse.limits import drop_void_limits
from pgtrickle.parse.tree import function_name, walk


class Texts(Enum):
    """Whether the text of an expression takes part in an order."""

    NEVER = "never"
    BEHIND = "behind"
    INSTEAD = "instead"


#: Aggregates of PostgreSQL whose result depends on the order of their input.
ORDER_SENSITIVE = frozenset(
    {
        "any_value",
        "array_agg",
        "json_agg",
        "json_agg_strict",
        "json_object_agg",
        "json_object_agg_strict",
        "json_object_agg_unique",
        "json_object_agg_unique_strict",
        "jsonb_agg",
        "jsonb_agg_strict",
        "jsonb_object_agg",
        "jsonb_object_agg_strict",
        "string_agg",
        "xmlagg",
    }
)
#: Window functions that tell peers apart and ignore their frame.
_PEER_BLIND = frozenset({"row_number", "ntile", "lag", "lead"})
#: Window functions that are about peers: a longer order would change what they mean.
_PEER_AWARE = frozenset({"rank", "dense_rank", "percent_rank", "cume_dist"})
_FRAME_ROWS = 0x00004
_FRAME_FROM_FIRST = 0x00020
_FRAME_DEFAULT = 0x00422
#: EXCLUDE GROUP and EXCLUDE TIES.
_FRAME_EXCLUDES_PEERS = 0x30000


def determinise(
    stmt: ast.SelectStmt,
    is_aggregate: Callable[[ast.Node], bool],
    *,
    texts: Texts = Texts.NEVER,
    keys: Keys | None = None,
) -> bool:
    """Make all orders total, in place.

    Args:
        stmt: the query, views expanded.
        is_aggregate: tells calls of aggregates.
        keys: of tables by schema and name: sets of columns that no two rows share.
        texts: whether to order by the text of what is added too: behind it, if equal values may look different; in its
            place, for types that have no order (json, xml, point ...).

    Returns:
        Whether anything was changed.
    """
    changed = drop_void_limits(stmt) | settle_json(stmt)
    for node in list(walk(stmt, into_subqueries=True)):
        if isinstance(node, ast.SelectStmt):
            changed |= _inherit(node, is_aggregate)
            changed |= _windows(node, texts, keys or {})
            changed |= _picks(node, texts)
    for node in list(walk(stmt, into_subqueries=True)):
        if isinstance(node, ast.FuncCall | ast.JsonArrayAgg):
            changed |= _aggregate(node, texts)
        elif isinstance(node, ast.SubLink) and node.subLinkType == enums.SubLinkType.ARRAY_SUBLINK:
            changed |= _array(node.subselect, is_aggregate, texts)
    return changed


def _array(stmt: ast.SelectStmt, is_aggregate: Callable[[ast.Node], bool], texts: Texts) -> bool:
    """ARRAY(...): the elements in the order of the query, then by themselves."""
    if not stmt.sortClause and takes_rows_as_they_come(stmt, is_aggregate):
        stmt.sortClause = inherited_order(stmt) or None
    if stmt.limitCount is not None or stmt.limitOffset is not None or stmt.lockingClause:
        return False  # a total order already
    if stmt.op != enums.SetOperation.SETOP_NONE or stmt.distinctClause:
        texts = Texts.NEVER  # they sort by output columns only
    order = _extended(stmt.sortClause, _outputs(stmt), texts)
    changed = order != (stmt.sortClause or ())
    stmt.sortClause = order or None
    return changed


def _inherit(stmt: ast.SelectStmt, is_aggregate: Callable[[ast.Node], bool]) -> bool:
    """Where the order is free, the rows come as the only item of FROM is ordered."""
    calls = [node for node in _own_nodes((stmt.targetList, stmt.havingClause, stmt.sortClause)) if _is_sensitive(node)]
    free = [call for call in map(_ordered_part, calls) if not call.agg_order]
    windows = [
        node
        for node in _own_nodes((stmt.targetList, stmt.sortClause))
        if isinstance(node, ast.FuncCall) and node.over is not None and _is_bare(node.over)
    ]
    numbering = [node.over for node in windows if _tells_peers_apart(node, node.over)]
    picks = _is_limited(stmt) and takes_rows_as_they_come(stmt, is_aggregate)
    order = inherited_order(stmt) if free or numbering or picks else ()
    if not order:
        return False
    for call in free:
        call.agg_order = tuple(map(copy, order))
    for window in numbering:
        window.orderClause = tuple(map(copy, order))
    if picks:
        stmt.sortClause = tuple(map(copy, order))
    return True


def _is_limited(stmt: ast.SelectStmt) -> bool:
    return not stmt.sortClause and (stmt.limitCount is not None or stmt.limitOffset is not None)


def _is_bare(window: ast.WindowDef) -> bool:
    """Whether a window without a name and a frame leaves the order of its rows free."""
    return window.name is None and window.refname is None and not window.orderClause


def _is_sensitive(call: ast.Node) -> bool:
    """Whether a call is that of an aggregate whose order is free or may go on."""
    if isinstance(call, ast.JsonArrayAgg):
        return call.constructor.over is None
    if not isinstance(call, ast.FuncCall) or call.over is not None or call.agg_distinct or call.agg_within_group:
        return False
    schema, name = function_name(call)
    return schema == "pg_catalog" and name in ORDER_SENSITIVE


def _ordered_part(call: ast.Node) -> ast.FuncCall | ast.JsonAggConstructor:
    return call.constructor if isinstance(call, ast.JsonArrayAgg) else call


def _aggregate(call: ast.FuncCall | ast.JsonArrayAgg, texts: Texts) -> bool:
    if not _is_sensitive(call):
        return False
    args = (call.arg.raw_expr,) if isinstance(call, ast.JsonArrayAgg) else call.args or ()
    arguments = tuple(a for a in args if any(isinstance(inner, ast.ColumnRef) for inner in walk(a)))
    ordered = _ordered_part(call)
    order = _extended(ordered.agg_order, arguments, texts)
    changed = order != (ordered.agg_order or ())
    ordered.agg_order = order or None
    return changed


def _picks(stmt: ast.SelectStmt, texts: Texts) -> bool:
    """ORDER BY of LIMIT and DISTINCT ON: all output columns behind what the user gave."""
    on = tuple(node for node in stmt.distinctClause or () if node is not None)
    limited = stmt.sortClause and (stmt.limitCount is not None or stmt.limitOffset is not None)
    ties = stmt.limitOption == enums.LimitOption.LIMIT_OPTION_WITH_TIES
    if ties or not (on or limited):
        return False
    added = (*on, *_outputs(stmt))
    if stmt.distinctClause and not on:
        texts = Texts.NEVER  # SELECT DISTINCT leaves no peers, and sorts by output columns only
    order = _extended(stmt.sortClause, added, texts)
    changed = order != (stmt.sortClause or ())
    stmt.sortClause = order
    return changed


def _outputs(stmt: ast.SelectStmt) -> tuple[ast.Node, ...]:
    """The output columns as sort expressions; by number where only that is allowed."""
    if stmt.op == enums.SetOperation.SETOP_NONE and not stmt.valuesLists:
        return tuple(target.val for target in stmt.targetList or () if _varies(target.val))
    leaf = stmt
    while leaf.op != enums.SetOperation.SETOP_NONE:
        leaf = leaf.larg
    width = len(leaf.valuesLists[0]) if leaf.valuesLists else len(leaf.targetList or ())
    return tuple(ast.A_Const(isnull=False, val=ast.Integer(ival=number + 1)) for number in range(width))


def _varies(node: ast.Node) -> bool:
    return any(isinstance(inner, ast.ColumnRef | ast.FuncCall | ast.SubLink) for inner in walk(node))


def _windows(stmt: ast.SelectStmt, texts: Texts, keys: Keys) -> bool:
    """Orders of window functions that tell peers apart: what identifies a row of this SELECT behind what was given."""
    changed = False
    named = {window.name: window for window in stmt.windowClause or ()}
    totals: list[ast.WindowDef] = []
    for node in _own_nodes((stmt.targetList, stmt.sortClause)):
        if isinstance(node, ast.FuncCall) and node.over is not None:
            window = _inlined(node.over, named)
            if not _tells_peers_apart(node, window):
                continue
            if function_name(node)[1] in _PEER_BLIND:
                window.frameOptions, window.startOffset, window.endOffset = _FRAME_DEFAULT, None, None
            order = _extended(window.orderClause, _identity(stmt), texts)
            changed |= order != (window.orderClause or ())
            window.orderClause = order
            node.over = window
            totals.append(window)
    if len({repr((w.partitionClause, w.orderClause)) for w in totals}) > 1 and may_repeat(stmt, keys):
        # Each order is total up to rows that are equal, but two of them have to agree which of these is which.
        number = number_copies(stmt, lambda ref: tuple(item.node for item in _sort_items(ref, texts)))
        for window in totals if number is not None else ():
            window.orderClause = (*window.orderClause, _ascending(number))
            changed = True
    return changed


def _tells_peers_apart(call: ast.FuncCall, window: ast.WindowDef) -> bool:
    """Whether an order that goes on behind the given one still means an answer that PostgreSQL could give."""
    _, name = function_name(call)
    if name in _PEER_AWARE:
        return False
    if name in _PEER_BLIND:
        return True
    if window.frameOptions & _FRAME_EXCLUDES_PEERS:
        return False
    from_first = name == "first_value" and bool(window.frameOptions & _FRAME_FROM_FIRST)
    return bool(window.frameOptions & _FRAME_ROWS) or (from_first and not (window.startOffset or window.endOffset))


def _inlined(window: ast.WindowDef, named: dict[str, ast.WindowDef]) -> ast.WindowDef:
    """A copy of the window with names resolved, so that functions that share a name do not share the change."""
    return _resolved(named[window.name] if window.name is not None else window, named)


def _resolved(window: ast.WindowDef, named: dict[str, ast.WindowDef]) -> ast.WindowDef:
    """A definition, whose ``name`` is its own, without the name of the window that it extends."""
    result = _copied(window)
    if window.refname is not None:
        base = _resolved(named[window.refname], named)
        result.refname = None
        result.partitionClause = base.partitionClause
        result.orderClause = window.orderClause or base.orderClause
    return result


def _copied(window: ast.WindowDef) -> ast.WindowDef:
    result = ast.WindowDef(**{attribute: getattr(window, attribute) for attribute in window})
    result.name = None
    return result


def _identity(stmt: ast.SelectStmt) -> tuple[ast.Node, ...]:
    """What tells the rows of a SELECT apart, as far as its output can show: grouping keys, or all columns it reads."""
    if any(isinstance(node, ast.GroupingSet) for node in stmt.groupClause or ()):
        refs = {repr(node): node for node in walk(stmt.groupClause) if isinstance(node, ast.ColumnRef)}
        return tuple(refs.values())
    if stmt.groupClause:
        targets = stmt.targetList or ()
        return tuple(
            targets[node.val.ival - 1].val
            if isinstance(node, ast.A_Const) and isinstance(node.val, ast.Integer)
            else node
            for node in stmt.groupClause
        )
    return tuple({repr(ref.fields): ref for ref in own_refs(stmt)}.values())


def _own_nodes(clauses: object) -> Iterator[ast.Node]:
    """The nodes of these clauses, those of subqueries left out."""
    for node in walk(clauses):
        if not isinstance(node, ast.SelectStmt):
            yield node


def _extended(given: tuple[ast.Node, ...] | None, added: tuple[ast.Node, ...], texts: Texts) -> tuple[ast.Node, ...]:
    """The sort items with the expressions that are not yet among them behind."""
    items = tuple(given or ())
    known = {repr(item.node) for item in items}
    for node in added:
        for item in _sort_items(node, texts):
            if repr(item.node) not in known:
                known.add(repr(item.node))
                items = (*items, item)
    return items


def _sort_items(node: ast.Node, texts: Texts) -> tuple[ast.SortBy, ...]:
    if isinstance(node, ast.A_Const):
        return (_ascending(node),)
    name = (ast.String(sval="pg_catalog"), ast.String(sval="text"))
    image = ast.TypeCast(arg=copy(node), typeName=ast.TypeName(names=name, typemod=-1))
    match texts:
        case Texts.NEVER:
            return (_ascending(copy(node)),)
        case Texts.BEHIND:
            return (_ascending(copy(node)), _ascending(image))
        case Texts.INSTEAD:
            return (_ascending(image),)


def _ascending(node: ast.Node) -> ast.SortBy:
    return ast.SortBy(
        node=node,
        sortby_dir=enums.SortByDir.SORTBY_DEFAULT,
        sortby_nulls=enums.SortByNulls.SORTBY_NULLS_DEFAULT,
    )
