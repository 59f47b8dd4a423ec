"""How the items of FROM are put together: joins of every kind, and what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace

from pglast import ast, enums

from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr, text
from pgtrickle.ir.operators import Join, Operator, OuterJoin, OuterKind
from pgtrickle.parse.expression import all_of
from pgtrickle.parse.lateral import is_lateral
from pgtrickle.parse.names import Names
from pgtrickle.parse.scope import Scope, Table, Visible
from pgtrickle.parse.tree import transform, walk

#: Only here can the right side read the left one; elsewhere a function in FROM is a relation like others.
READS_LEFT = (enums.JoinType.JOIN_INNER, enums.JoinType.JOIN_LEFT)


def sideways(items: tuple[ast.Node, ...]) -> tuple[ast.Node, ...]:
    """A FROM list in which a join reads the items before it, with these moved to the join's left end."""
    for position, node in enumerate(items):
        leaf = _left_end(node) if position and isinstance(node, ast.JoinExpr) else None
        if leaf is not None:
            before = items[0]
            for item in (*items[1:position], leaf.larg):
                before = ast.JoinExpr(jointype=enums.JoinType.JOIN_INNER, isNatural=False, larg=before, rarg=item)
            leaf.larg = before
            return sideways((node, *items[position + 1 :]))
    return items


def _left_end(join: ast.JoinExpr) -> ast.JoinExpr | None:
    """The innermost join on the left, if what stands to its left may join it first and a join above it is lateral."""
    lateral = False
    while join.jointype in READS_LEFT and not (join.alias or join.usingClause):
        lateral = lateral or (is_lateral(join.rarg) and has_columns(join.rarg))
        if not isinstance(join.larg, ast.JoinExpr):
            return join if lateral and not is_lateral(join.larg) else None
        join = join.larg
    return None


def has_columns(node: ast.Node) -> bool:
    """Whether a lateral item reads columns of anything: those of a function are then of the items before it."""
    return isinstance(node, ast.RangeSubselect) or any(isinstance(inner, ast.ColumnRef) for inner in walk(node))


def is_true(node: ast.Node) -> bool:
    """Whether a condition is the constant TRUE."""
    constant = isinstance(node, ast.A_Const) and isinstance(node.val, ast.Boolean)
    return constant and bool(node.val.boolval)


def columns_read(node: ast.Node, scope: Scope) -> frozenset[str]:
    """The columns of a join that a condition reads, also those that its subqueries read."""
    aliases = {table.alias for table in scope.tables}
    found = frozenset[str]()
    for inner in walk(node, into_subqueries=True):
        if isinstance(inner, ast.ColumnRef) and (len(inner.fields) == 1 or inner.fields[-2].sval in aliases):
            found |= scope.resolve(inner).refs
    return found


#: Types of numbers (smallint, integer, bigint, numeric, real, double precision): each becomes those after it.
_NUMBERS = (21, 23, 20, 1700, 700, 701)


def merged_column(left: Expr, right: Expr, kind: enums.JoinType, types: Mapping[str, int]) -> Expr:
    """The value of a merged column. The CASE gives it the common type of both sides, as PostgreSQL does.

    Of two types that both become the other (varchar and char) the first is taken: in a CASE that is the one of ELSE.
    An inner join shows the left side, but the right one where that has the common type and the left one has not:
    numbers that are equal look different then (2 and 2.0, 0 and -0).
    """
    if kind == enums.JoinType.JOIN_FULL:
        return text("COALESCE(", left, ", ", right, ")")
    shows_right = kind == enums.JoinType.JOIN_RIGHT
    mine, theirs = (types.get(side.column or "", 0) for side in (left, right))
    if kind == enums.JoinType.JOIN_INNER and mine in _NUMBERS and theirs in _NUMBERS:
        shows_right = _NUMBERS.index(theirs) > _NUMBERS.index(mine)
    of_right = "true" if shows_right else "false"
    return text(f"CASE WHEN {of_right} THEN ", right, " ELSE ", left, " END")


def aliased_join(scope: Scope, alias: ast.Alias) -> Scope:
    """The one table as which a join with an alias is seen."""
    renames = tuple(part.sval for part in alias.colnames or ())
    columns = scope.all_columns()
    shown = renames + tuple(column.name for column in columns[len(renames) :])
    return Scope((Table(alias.aliasname, tuple(replace(c, name=n) for n, c in zip(shown, columns, strict=True))),))


def inner_join(inputs: tuple[Operator, ...], conditions: tuple[Expr, ...]) -> Join:
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


def join_of_kind(kind: enums.JoinType, left: Operator, right: Operator, conditions: tuple[Expr, ...]) -> Operator:
    """The operator for a join; a right join is a left join with its sides swapped."""
    match kind:
        case enums.JoinType.JOIN_INNER:
            return inner_join((left, right), conditions)
        case enums.JoinType.JOIN_LEFT:
            return OuterJoin(OuterKind.LEFT, left, right, conditions)
        case enums.JoinType.JOIN_RIGHT:
            return OuterJoin(OuterKind.LEFT, right, left, conditions)
        case enums.JoinType.JOIN_FULL:
            return OuterJoin(OuterKind.FULL, left, right, conditions)
        case _:
            raise InternalError(f"the grammar has no join of kind {kind}")


def filtered_item(
    names: Names, left: Scope, item: ast.Node, tables: tuple[Table, ...] | Table, conditions: tuple[ast.Node, ...]
) -> ast.RangeSubselect:
    """``LATERAL (SELECT columns FROM item WHERE conditions)``: a condition of LEFT JOIN inside its right side.

    Args:
        names: makes placeholders.
        left: what stands to the left, columns of which the conditions may read.
        item: the right side.
        tables: what it shows; `shown_as` tells them apart again.
        conditions: of the join.
    """
    tables = tables if isinstance(tables, tuple) else (tables,)
    aliases = {table.alias for table in left.tables}

    def resolved(node: ast.Node) -> ast.Node | None:
        if not isinstance(node, ast.ColumnRef) or names.is_placeholder(node):
            return None
        outside = len(node.fields) == 1 or node.fields[-2].sval in aliases
        return names.placeholder(left.resolve(node)) if outside else None

    query = _select(tuple(_all_shown(tables)), item, transform(all_of(conditions), resolved))
    return ast.RangeSubselect(lateral=True, subquery=query, alias=ast.Alias(aliasname=tables[0].alias))


def full_as_union(node: ast.JoinExpr, tables: tuple[Table, ...]) -> ast.SelectStmt:
    """A full join as the rows of the left join and those of the right side without a partner, beside NULLs.

    Args:
        node: the join.
        tables: what its sides show; `shown_as` tells them apart again.
    """
    never = ast.A_Const(isnull=False, val=ast.Boolean(boolval=False))
    partner = _select((), deepcopy(node.larg), deepcopy(node.quals))
    found = ast.SubLink(subLinkType=enums.SubLinkType.EXISTS_SUBLINK, subselect=partner)
    alone = ast.BoolExpr(boolop=enums.BoolExprType.NOT_EXPR, args=(found,))
    kept = _left_join(deepcopy(node.larg), deepcopy(node.rarg), deepcopy(node.quals))
    added = _left_join(deepcopy(node.rarg), deepcopy(node.larg), never)
    return ast.SelectStmt(
        op=enums.SetOperation.SETOP_UNION,
        all=True,
        larg=_select(tuple(_all_shown(tables)), kept, None),
        rarg=_select(tuple(_all_shown(tables)), added, alone),
        limitOption=enums.LimitOption.LIMIT_OPTION_DEFAULT,
    )


def _left_join(left: ast.Node, right: ast.Node, condition: ast.Node) -> ast.JoinExpr:
    return ast.JoinExpr(
        jointype=enums.JoinType.JOIN_LEFT, isNatural=False, larg=left, rarg=right, quals=condition, rtindex=0
    )


def _select(targets: tuple[ast.ResTarget, ...], item: ast.Node, where: ast.Node | None) -> ast.SelectStmt:
    return ast.SelectStmt(
        targetList=targets or None,
        fromClause=(item,),
        whereClause=where,
        op=enums.SetOperation.SETOP_NONE,
        limitOption=enums.LimitOption.LIMIT_OPTION_DEFAULT,
    )


def _all_shown(tables: tuple[Table, ...]) -> Iterator[ast.ResTarget]:
    """Everything that can be read of some tables, in the order in which `shown_as` takes it."""
    for table in tables:
        alias = ast.String(sval=table.alias)
        for column in (*table.columns, *table.hidden):
            if column.obstacle is None:
                yield ast.ResTarget(name=column.name, val=ast.ColumnRef(fields=(alias, ast.String(sval=column.name))))
        if table.row is not None:  # in COALESCE it is a row, not the columns one by one
            row = ast.CoalesceExpr(args=(ast.ColumnRef(fields=(alias, ast.A_Star())),))
            yield ast.ResTarget(name=table.alias, val=row)


def shown_as(tables: tuple[Table, ...], columns: tuple[Visible, ...]) -> tuple[Table, ...]:
    """Tables of which everything is now in these columns."""
    given = iter(columns)

    def shown(column: Visible) -> Visible:
        return column if column.obstacle is not None else replace(next(given), name=column.name)

    return tuple(
        replace(
            table,
            columns=tuple(map(shown, table.columns)),
            hidden=tuple(map(shown, table.hidden)),
            row=next(given).expr if table.row is not None else None,
        )
        for table in tables
    )
