"""SEARCH and CYCLE of WITH RECURSIVE as ordinary columns, as PostgreSQL's documentation spells them out.

PostgreSQL adds arrays of records, which no table can store. Here a record is replaced by its text, which is equal where
the record is for types of which equal values look the same; that is checked once types are known (`Recursion.texts`).
The mark of CYCLE is an ordinary column. A query that reads one of the arrays is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pglast import ast, enums, parse_sql

from pgtrickle.parse.expression import all_of, split_and
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.tree import function_name, walk

#: Tells the names of a query's output columns.
NamesOf = Callable[[ast.SelectStmt], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Added:
    """A column that a clause adds, and its SQL in the base and in the step, over the columns of ``s``."""

    name: str
    first: str
    next: str


def has_clauses(stmt: ast.SelectStmt) -> bool:
    """Whether a common table expression of this very query has such a clause."""
    return any(cte.search_clause is not None or cte.cycle_clause is not None for cte in _ctes(stmt))


def spell_out(stmt: ast.SelectStmt, names_of: NamesOf) -> Mapping[str, tuple[str, ...]] | None:
    """Replace the clauses by columns, in place.

    Args:
        stmt: a query with a WITH.
        names_of: tells the names of a query's output columns.

    Returns:
        Name of a common table expression -> its columns that are compared by their text. None, with the query partly
        changed, if it reads an array of records or a term has a form that does not allow this.
    """
    compared: dict[str, tuple[str, ...]] = {}
    for cte in _ctes(stmt):
        if cte.search_clause is None and cte.cycle_clause is None:
            continue
        keys = _spelled(cte, names_of) if not _arrays(cte) & _read(stmt, cte) else None
        if keys is None:
            return None
        compared[cte.ctename] = keys
    return compared


def _ctes(stmt: ast.SelectStmt) -> tuple[ast.CommonTableExpr, ...]:
    return stmt.withClause.ctes if stmt.withClause is not None else ()


def _arrays(cte: ast.CommonTableExpr) -> frozenset[str]:
    """The columns of records."""
    search, cycle = cte.search_clause, cte.cycle_clause
    names = [search.search_seq_column] if search is not None else []
    return frozenset([*names, *([cycle.cycle_path_column] if cycle is not None else [])])


def _read(stmt: ast.SelectStmt, cte: ast.CommonTableExpr) -> frozenset[str]:
    """The names of all columns that a query may read of a common table expression; ORDER BY alone reads none."""
    limited = stmt.limitCount is not None or stmt.limitOffset is not None
    on = any(node is not None for node in stmt.distinctClause or ())
    parts = [getattr(stmt, name) for name in stmt if name != "withClause" and (name != "sortClause" or limited or on)]
    parts += [other for other in _ctes(stmt) if other is not cte]
    found: set[str] = set()
    indifferent: set[int] = set()
    for node in walk(tuple(parts), into_subqueries=True):
        indifferent |= {id(arg) for arg in _indifferent(node)}
        if isinstance(node, ast.ColumnRef) and isinstance(node.fields[-1], ast.A_Star):
            return _arrays(cte)
        if isinstance(node, ast.RangeVar) and node.relname == cte.ctename and node.alias and node.alias.colnames:
            return _arrays(cte)
        if isinstance(node, ast.ColumnRef) and id(node) not in indifferent:
            found.add(node.fields[-1].sval)
        if isinstance(node, ast.JoinExpr):
            found |= {part.sval for part in node.usingClause or ()}
    return frozenset(found)


def _indifferent(node: ast.Node) -> tuple[ast.Node, ...]:
    """What is under a function that returns the same for an array of records and for that of their texts."""
    if isinstance(node, ast.FuncCall) and function_name(node) in _LENGTHS and node.args:
        return (node.args[0],)
    if isinstance(node, ast.TypeCast) and node.typeName.names[-1].sval == "text" and not node.typeName.arrayBounds:
        return (node.arg,)
    return ()


_LENGTHS = {("pg_catalog", "array_length"), ("pg_catalog", "cardinality")}


def _spelled(cte: ast.CommonTableExpr, names_of: NamesOf) -> tuple[str, ...] | None:
    query = cte.ctequery
    own = _own_name(query.rarg, cte.ctename) if query.op == enums.SetOperation.SETOP_UNION else None
    if query.withClause is not None or own is None:
        return None
    names = tuple(part.sval for part in cte.aliascolnames or ())
    names += names_of(query.larg)[len(names) :]
    added = tuple(_added(cte, distinct=not query.all))
    base = print_node(query.larg)
    step = _extended(query.rarg, own, added, cte.cycle_clause)
    shown = ", ".join(f"s.{_quoted(name)}" for name in names)
    first = ", ".join((shown, *(column.first for column in added)))
    after = ", ".join((shown, *(column.next for column in added)))
    inner = (*names, *(column.name for column in added))
    word = "UNION ALL" if query.all else "UNION"
    cte.ctequery = parse_sql(" ".join((_over(first, base, names), word, _over(after, step, inner))))[0].stmt
    cte.aliascolnames = tuple(ast.String(sval=name) for name in inner)
    keys = tuple(part.sval for part in cte.cycle_clause.cycle_col_list) if cte.cycle_clause is not None else ()
    if cte.search_clause is not None:
        keys += tuple(part.sval for part in cte.search_clause.search_col_list)
    cte.search_clause = cte.cycle_clause = None
    return keys


def _over(targets: str, query: str, names: tuple[str, ...]) -> str:
    return " ".join(("SELECT", targets, "FROM (", query, ") AS s (", ", ".join(map(_quoted, names)), ")"))


def _added(cte: ast.CommonTableExpr, *, distinct: bool) -> Iterator[_Added]:
    """The columns in PostgreSQL's order. Without UNION, that of SEARCH tells nothing about the rows."""
    search, cycle = cte.search_clause, cte.cycle_clause
    if search is not None and distinct:
        name = search.search_seq_column
        if search.search_breadth_first:
            yield _Added(name, "0::pg_catalog.int8", f"s.{_quoted(name)} + 1")
        else:
            yield _path(name, search.search_col_list)
    if cycle is not None:
        name, path = cycle.cycle_mark_column, _path(cycle.cycle_path_column, cycle.cycle_col_list)
        value, default = print_node(cycle.cycle_mark_value), print_node(cycle.cycle_mark_default)
        met = f"{_record(cycle.cycle_col_list)} = ANY (s.{_quoted(path.name)})"
        yield _Added(name, default, f"CASE WHEN {met} THEN {value} ELSE {default} END")
        yield path


def _path(name: str, columns: tuple[ast.String, ...]) -> _Added:
    record = _record(columns)
    return _Added(name, f"ARRAY[{record}]", f"s.{_quoted(name)} || {record}")


def _record(columns: tuple[ast.String, ...]) -> str:
    listed = ", ".join(f"s.{_quoted(column.sval)}" for column in columns)
    return f"ROW({listed})::pg_catalog.text"


def _extended(step: ast.SelectStmt, own: str, added: tuple[_Added, ...], cycle: ast.CTECycleClause | None) -> str:
    """The step as text, with the added columns of the rows it reads behind its own, and without rows of a cycle."""
    targets = tuple(ast.ResTarget(val=_column(own, column.name)) for column in added)
    step.targetList = (*step.targetList, *targets)
    if cycle is not None:
        unmarked = ast.A_Expr(
            kind=enums.A_Expr_Kind.AEXPR_OP,
            name=(ast.String(sval="<>"),),
            lexpr=_column(own, cycle.cycle_mark_column),
            rexpr=cycle.cycle_mark_value,
        )
        step.whereClause = all_of((*split_and(step.whereClause), unmarked))
    return print_node(step)


def _column(table: str, name: str) -> ast.ColumnRef:
    return ast.ColumnRef(fields=(ast.String(sval=table), ast.String(sval=name)))


def _own_name(step: ast.SelectStmt, name: str) -> str | None:
    """The name under which a plain SELECT reads the recursion; None for any other form."""
    special = (
        step.withClause,
        step.distinctClause,
        step.groupClause,
        step.havingClause,
        step.windowClause,
        step.sortClause,
        step.limitCount,
        step.limitOffset,
        step.valuesLists,
        step.lockingClause,
    )
    if any(special) or step.op != enums.SetOperation.SETOP_NONE:
        return None
    nodes = tuple(walk(step.fromClause))
    own = [
        node for node in nodes if isinstance(node, ast.RangeVar) and node.schemaname is None and node.relname == name
    ]
    hidden = any(isinstance(node, ast.JoinExpr) and node.alias is not None for node in nodes)
    if len(own) != 1 or hidden or (own[0].alias is not None and own[0].alias.colnames):
        return None
    return own[0].alias.aliasname if own[0].alias is not None else name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
