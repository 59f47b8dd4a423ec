"""The operators of the relational algebra that the compiler works on.

Two kinds of relation flow between them: *plain* rows, and *weighted* rows (Z-sets, as in DBSP) in which every row
carries a signed multiplicity. `weighted` tells them apart; operators that are neither linear nor bilinear refuse
weighted children, so a tree that exists is a tree that means something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

from pgtrickle.errors import InternalError
from pgtrickle.ir.expr import Expr
from pgtrickle.ir.schema import Column


@dataclass(frozen=True, slots=True)
class InputKey:
    """What a scan reads: ``table`` and ``stream_table`` by OID, ``stage`` by its number in the plan."""

    kind: str
    ident: int


class _Plain:
    """An operator whose rows are plain."""

    __slots__ = ()

    @property
    def weighted(self) -> bool:
        return False


class _Weighted:
    """An operator whose rows are weighted."""

    __slots__ = ()

    @property
    def weighted(self) -> bool:
        return True


class _Linear:
    """An operator that passes the weights of its child on."""

    __slots__ = ()
    child: Operator

    @property
    def weighted(self) -> bool:
        return self.child.weighted


class _Shows:
    """An operator with the columns of its child."""

    __slots__ = ()
    child: Operator

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns


@dataclass(frozen=True, slots=True)
class Scan(_Plain):
    """The rows of a table, a stream table or the output of an earlier stage, as they are now.

    ``attributes`` are (attribute number, attribute name) in step with ``columns``; ``keys`` are sets of columns that
    are unique and not null; ``alias`` is for people. ``only``: not the rows of tables below it.
    """

    input: InputKey
    attributes: tuple[tuple[int, str], ...]
    columns: tuple[Column, ...]
    keys: tuple[frozenset[str], ...] = ()
    alias: str = ""
    only: bool = False


@dataclass(frozen=True, slots=True)
class Change(_Weighted):
    """The changes of a scan's source since the frontier: weighted rows."""

    scan: Scan

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.scan.columns


@dataclass(frozen=True, slots=True)
class Empty(_Weighted):
    """No rows, weighted. The delta of what has not changed."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Values(_Plain):
    """Constant rows."""

    rows: tuple[tuple[Expr, ...], ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Filter(_Shows, _Linear):
    """The rows for which every condition is true."""

    child: Operator
    conditions: tuple[Expr, ...]

    def __post_init__(self) -> None:
        _require_columns(self.child.columns, self.conditions)


@dataclass(frozen=True, slots=True)
class Project(_Linear):
    """One output row per input row; ``exprs`` are in step with ``columns``."""

    child: Operator
    columns: tuple[Column, ...]
    exprs: tuple[Expr, ...]

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.exprs):
            raise InternalError("a projection needs one expression per column")
        _require_columns(self.child.columns, self.exprs)


@dataclass(frozen=True, slots=True)
class Join:
    """Inner join of any number of inputs; weights are multiplied."""

    inputs: tuple[Operator, ...]
    conditions: tuple[Expr, ...]
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _set_columns(self, tuple(column for child in self.inputs for column in child.columns))
        _require_columns(self.columns, self.conditions)

    @property
    def weighted(self) -> bool:
        return any(child.weighted for child in self.inputs)


class OuterKind(Enum):
    """Which side of an outer join is kept."""

    LEFT = "LEFT"
    FULL = "FULL"


@dataclass(frozen=True, slots=True)
class OuterJoin(_Plain):
    """Left or full outer join of plain relations (a right join is a left join with its sides swapped)."""

    kind: OuterKind
    left: Operator
    right: Operator
    conditions: tuple[Expr, ...]
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_plain(self.left, self.right)
        _require_columns(self.left.columns + self.right.columns, self.conditions)
        left = self.left.columns if self.kind is OuterKind.LEFT else _nullable(self.left.columns)
        _set_columns(self, left + _nullable(self.right.columns))


@dataclass(frozen=True, slots=True)
class Anti:
    """Rows of ``left`` that match no row of ``right`` (or, if ``semi``, at least one). Linear in ``left``."""

    left: Operator
    right: Operator
    conditions: tuple[Expr, ...]
    semi: bool = False

    def __post_init__(self) -> None:
        _require_plain(self.right)
        _require_columns(self.left.columns + self.right.columns, self.conditions)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.left.columns

    @property
    def weighted(self) -> bool:
        return self.left.weighted


@dataclass(frozen=True, slots=True)
class UnionAll:
    """All rows of all children, matched by position."""

    children: tuple[Operator, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if len({child.weighted for child in self.children}) > 1:
            raise InternalError("a union mixes plain and weighted rows")
        if any(len(child.columns) != len(self.columns) for child in self.children):
            raise InternalError("the branches of a union differ in their number of columns")

    @property
    def weighted(self) -> bool:
        return self.children[0].weighted


@dataclass(frozen=True, slots=True)
class Negate(_Shows, _Weighted):
    """The same weighted rows with the opposite sign."""

    child: Operator


@dataclass(frozen=True, slots=True)
class Consolidate(_Shows, _Weighted):
    """The same weighted rows, each once: the weights of rows that look the same are added up."""

    child: Operator


@dataclass(frozen=True, slots=True)
class Fence(_Shows, _Weighted):
    """The same weighted rows, planned apart from what reads them."""

    child: Operator


@dataclass(frozen=True, slots=True)
class Weigh(_Shows, _Weighted):
    """A plain relation made weighted by an integer expression over its columns; rows of weight 0 are dropped."""

    child: Operator
    weight: Expr

    def __post_init__(self) -> None:
        _require_plain(self.child)
        _require(self.child, self.weight)


@dataclass(frozen=True, slots=True)
class Expose(_Plain):
    """A weighted relation read as plain rows, its weight in a column of its own."""

    child: Operator
    weight: Column

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.child.columns, self.weight)


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """One aggregate of a grouping.

    ``expr`` is the call as the user wrote it. The other fields are what rules may look at: ``function`` is the name
    in pg_catalog, or None for any other function; ``plain`` is False for DISTINCT, ORDER BY or WITHIN GROUP;
    ``distinct`` is True if DISTINCT is all that is not plain, and there is one argument; ``complete`` is True if no
    argument can be NULL.
    """

    column: Column
    expr: Expr
    function: str | None = None
    args: tuple[Expr, ...] = ()
    filter: Expr | None = None
    plain: bool = False
    distinct: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate(_Plain):
    """One row per group; without ``keys`` always exactly one row. Columns: the keys, then the aggregates."""

    child: Operator
    keys: tuple[str, ...]
    calls: tuple[AggregateCall, ...]
    scalar: bool = False

    def __post_init__(self) -> None:
        _require_plain(self.child)
        for call in self.calls:
            _require(self.child, call.expr)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The keys as the columns of ``child`` that they are."""
        by_name = {column.name: column for column in self.child.columns}
        return tuple(by_name[key] for key in self.keys)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.key_columns + tuple(call.column for call in self.calls)


@dataclass(frozen=True, slots=True)
class Window(_Plain):
    """Every row of ``child`` with the values of window functions that share the columns they are partitioned by."""

    child: Operator
    keys: tuple[str, ...]
    calls: tuple[AggregateCall, ...]

    def __post_init__(self) -> None:
        _require_plain(self.child)
        for call in self.calls:
            _require(self.child, call.expr)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns + tuple(call.column for call in self.calls)


@dataclass(frozen=True, slots=True)
class Pick(_Shows, _Plain):
    """The first rows of ``child`` in an order that is total: ORDER BY ``items`` LIMIT ``limit``."""

    child: Operator
    items: tuple[Expr, ...]
    limit: Expr

    def __post_init__(self) -> None:
        _require_plain(self.child)
        _require_columns(self.child.columns, self.items)


@dataclass(frozen=True, slots=True)
class SubqueryCall:
    """A subquery in an expression, as the user wrote it, with holes for the outer columns that it reads.

    ``inputs`` are the tables inside it. ``compared`` are outer columns that are only compared with its result
    (``x IN (...)``): for them it is enough to know a value up to ``=``.
    """

    column: Column
    expr: Expr
    inputs: frozenset[InputKey]
    compared: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Apply(_Linear):
    """Every row of ``child`` with the values of subqueries for it; linear if these read no table."""

    child: Operator
    calls: tuple[SubqueryCall, ...]

    def __post_init__(self) -> None:
        if any(call.inputs for call in self.calls):
            _require_plain(self.child)
        for call in self.calls:
            _require(self.child, call.expr)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns + tuple(call.column for call in self.calls)

    @property
    def keys(self) -> tuple[str, ...]:
        """The outer columns: rows that agree in them have the same values."""
        return tuple(sorted(frozenset[str]().union(*(call.expr.refs for call in self.calls))))


@dataclass(frozen=True, slots=True)
class Expand(_Linear):
    """Every row of ``child`` with each row that a lateral query has for it; linear if the query reads no table.

    ``query`` is the text of the query with holes for columns of the row, ``added`` its columns, ``inputs`` the tables
    in it. ``outer`` keeps rows for which it has none, with NULL.
    """

    child: Operator
    query: Expr
    added: tuple[Column, ...]
    inputs: frozenset[InputKey]
    outer: bool

    def __post_init__(self) -> None:
        _require(self.child, self.query)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns + self.added

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that the query reads."""
        return tuple(sorted(self.query.refs))


@dataclass(frozen=True, slots=True)
class Attach(_Plain):
    """Every row of ``child`` with each row of ``rows`` that agrees with it in the paired columns (NULL equals NULL).

    ``conditions`` are further ones. Exists until types are known, then becomes a join.
    """

    child: Operator
    rows: Operator
    pairs: tuple[tuple[str, str], ...]
    conditions: tuple[Expr, ...] = ()

    def __post_init__(self) -> None:
        _require_plain(self.child, self.rows)
        _require_columns(self.columns, self.conditions)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.child.columns + self.rows.columns


@dataclass(frozen=True, slots=True)
class Single(_Plain):
    """Every row of ``child`` with the value of the only row of ``rows`` for it, NULL if there is none.

    More than one row is an error. ``domain`` has the combinations of outer values for which there may be rows (None:
    the same row for all); ``triples`` are the columns of such a value in child, rows and domain. Exists until types
    are known.
    """

    child: Operator
    domain: Operator | None
    rows: Operator
    triples: tuple[tuple[str, str, str], ...]
    column: str

    def __post_init__(self) -> None:
        _require_plain(self.child, self.rows)

    @property
    def columns(self) -> tuple[Column, ...]:
        value = next(column for column in self.rows.columns if column.name == self.column)
        return (*self.child.columns, Column(value.name, value.type, True))


@dataclass(frozen=True, slots=True)
class Keep(_Shows, _Plain):
    """The rows of ``child``, stored in a stage of their own. Exists until the stages are cut."""

    child: Operator

    def __post_init__(self) -> None:
        _require_plain(self.child)


@dataclass(frozen=True, slots=True)
class Pad(_Linear):
    """Each row of ``child`` with NULL in the columns of ``other``, which lends types and collations but no row."""

    child: Operator
    other: Operator
    columns: tuple[Column, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_plain(self.other)
        _set_columns(self, self.child.columns + _nullable(self.other.columns))


@dataclass(frozen=True, slots=True)
class GroupingSets(_Plain):
    """Several groupings of the same rows, keys that a set leaves out being NULL; ``markers`` are GROUPING() columns.

    Exists until types are known, then becomes a union of groupings.
    """

    child: Operator
    keys: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]
    calls: tuple[AggregateCall, ...]
    markers: tuple[tuple[Column, tuple[str, ...]], ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        by_name = {column.name: column for column in self.child.columns}
        keys = _nullable(tuple(by_name[key] for key in self.keys))
        return (*keys, *(call.column for call in self.calls), *(column for column, _ in self.markers))


@dataclass(frozen=True, slots=True)
class Lookup:
    """For each row of ``left``, aggregates over the matching rows of ``right``; no row of ``left`` is lost."""

    left: Operator
    right: Operator
    conditions: tuple[Expr, ...]
    calls: tuple[AggregateCall, ...]

    def __post_init__(self) -> None:
        _require_plain(self.right)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.left.columns + tuple(call.column for call in self.calls)

    @property
    def weighted(self) -> bool:
        return self.left.weighted


@dataclass(frozen=True, slots=True)
class Restrict(_Shows, _Plain):
    """The rows of ``child`` whose ``columns_of_key`` appear in ``keys`` (NULL matches NULL)."""

    child: Operator
    keys: Operator
    key: tuple[str, ...]

    def __post_init__(self) -> None:
        _require_plain(self.child, self.keys)


@dataclass(frozen=True, slots=True)
class Named:
    """Rows that the statement defines under a name."""

    name: str
    columns: tuple[Column, ...]
    weighted: bool = False


@dataclass(frozen=True, slots=True)
class SelfReference(_Plain):
    """Inside the step of a `Recursion` of the same name: the rows of the round before (or all, for a linear step)."""

    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Recursion(_Plain):
    """The rows of ``base``, and those that ``step`` makes of them, of these, and so on until none are added.

    ``step`` reads the rows of the round before through its only `SelfReference`, of the same name. ``distinct``: UNION,
    rows that were there before are dropped. ``texts`` are columns that the step compares by their text.
    """

    name: str
    base: Operator
    step: Operator
    columns: tuple[Column, ...]
    distinct: bool
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_plain(self.base, self.step)
        if not len(self.base.columns) == len(self.step.columns) == len(self.columns):
            raise InternalError("the terms of a recursion differ in their number of columns")


@dataclass(frozen=True, slots=True)
class Opaque(_Plain):
    """A whole query as text; nothing is known of it but its columns. FULL plans consist of it."""

    query: str
    columns: tuple[Column, ...]


Operator: TypeAlias = (
    Scan
    | Change
    | Empty
    | Values
    | Filter
    | Project
    | Join
    | OuterJoin
    | Anti
    | UnionAll
    | Negate
    | Consolidate
    | Fence
    | Weigh
    | Expose
    | Aggregate
    | GroupingSets
    | Window
    | Pick
    | Apply
    | Expand
    | Attach
    | Single
    | Keep
    | Pad
    | Lookup
    | Restrict
    | Named
    | SelfReference
    | Recursion
    | Opaque
)


#: The annotations of fields that hold the operators below.
CHILDREN = ("Operator", "Operator | None", "tuple[Operator, ...]")


@cache
def _child_fields(kind: type) -> tuple[str, ...]:
    """The fields of an operator that are operators."""
    return tuple(field.name for field in fields(kind) if field.type in CHILDREN)


def children_of(op: Operator) -> tuple[Operator, ...]:
    """The operators directly below, in the order of the fields."""
    if isinstance(op, Change):
        return (op.scan,)
    found: tuple[Operator, ...] = ()
    for name in _child_fields(type(op)):
        value = getattr(op, name)
        found += value if isinstance(value, tuple) else () if value is None else (value,)
    return found


def rebuild(op: Operator, change: Callable[[Operator], Operator]) -> Operator:
    """The same operator over changed children."""
    changed: dict[str, Any] = {}
    for name in _child_fields(type(op)):
        value = getattr(op, name)
        if value is not None:
            changed[name] = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
    return replace(op, **changed) if changed else op


def _nullable(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    return tuple(column if column.nullable else Column(column.name, column.type, True) for column in columns)


def _require(child: Operator, expr: Expr) -> None:
    _require_columns(child.columns, (expr,))


def _set_columns(op: Operator, columns: tuple[Column, ...]) -> None:
    """Once for all: above a chain of joins they are asked for often, and each join would ask those below it again."""
    object.__setattr__(op, "columns", columns)


def _require_columns(columns: tuple[Column, ...], exprs: tuple[Expr, ...]) -> None:
    known = {column.name for column in columns}
    for expr in exprs:
        missing = expr.refs - known
        if missing:
            raise InternalError(f"an expression reads columns that are not there: {', '.join(sorted(missing))}")


def _require_plain(*children: Operator) -> None:
    if any(child.weighted for child in children):
        raise InternalError("weighted rows reached an operator that is neither linear nor bilinear")
