"""What the parser must be told about relations and functions; `analyze` asks the server for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pgtrickle.ir.schema import Type


@dataclass(frozen=True, slots=True)
class Generation:
    """What a virtual generated column is computed from whenever it is read.

    Attributes:
        text: its expression over the names of the table's columns, of the column's own type and collation.
        reads: attribute numbers of the columns in it.
        obstacle: why the expression cannot stand for the column, or None.
    """

    text: str
    reads: tuple[int, ...] = ()
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a relation. ``generation`` is that of a virtual generated column, else None."""

    number: int
    name: str
    type: Type
    not_null: bool = False
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class RelationFacts:
    """A relation that the query names.

    Attributes:
        relid: its OID.
        kind: ``table`` or ``stream_table`` (``view`` only until views are expanded).
        schema: its schema.
        name: its name.
        attributes: its columns in order.
        keys: sets of column names that are unique and not null.
        obstacle: why its changes cannot be captured as rows, or None.
        only_keys: like ``keys``, among the rows that FROM ONLY reads.
        tableoid: the type of the system column that tells the table of each row; None where it is not maintained.
    """

    relid: int
    kind: str
    schema: str
    name: str
    attributes: tuple[Attribute, ...]
    keys: tuple[frozenset[str], ...] = ()
    obstacle: str | None = None
    only_keys: tuple[frozenset[str], ...] = ()
    tableoid: Type | None = None


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """What the functions of one name (those that the query calls) are: ``kinds`` as in ``pg_proc.prokind``."""

    kinds: frozenset[str]
    returns_set: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the parser knows of the database."""

    relations: Mapping[tuple[str, str], RelationFacts]
    functions: Mapping[tuple[str, str], FunctionFacts] = field(default_factory=dict)
    unknown_type: Type | None = None
