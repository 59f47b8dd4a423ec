"""Relations of a PostgreSQL database, stream tables among them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from dbt.adapters.contracts.relation import ComponentName
from dbt.adapters.postgres.relation import PostgresRelation
from dbt.adapters.utils import classproperty
from dbt_common.dataclass_schema import StrEnum


class PgTrickleRelationType(StrEnum):
    """dbt's relation types and ours; an enumeration with members cannot be extended, so they are listed again."""

    Table = "table"
    View = "view"
    CTE = "cte"
    MaterializedView = "materialized_view"
    Ephemeral = "ephemeral"
    External = "external"
    PointerTable = "pointer_table"
    Function = "function"
    StreamTable = "stream_table"


def _renameable() -> frozenset[PgTrickleRelationType]:
    return frozenset({PgTrickleRelationType.View, PgTrickleRelationType.Table, PgTrickleRelationType.StreamTable})


def _replaceable() -> frozenset[PgTrickleRelationType]:
    return frozenset({PgTrickleRelationType.View, PgTrickleRelationType.Table})


@dataclass(frozen=True, eq=False, repr=False)
class PgTrickleRelation(PostgresRelation):
    """A relation that knows whether it is a stream table.

    A stream table is an ordinary table to everything that only reads it, so ``is_table`` stays true: dbt packages
    branch on it.
    """

    type: Optional[PgTrickleRelationType] = None  # type: ignore[assignment]  # noqa: UP045 - read by mashumaro
    renameable_relations: frozenset[PgTrickleRelationType] = field(default_factory=_renameable)  # type: ignore[assignment]
    replaceable_relations: frozenset[PgTrickleRelationType] = field(default_factory=_replaceable)  # type: ignore[assignment]

    @classproperty
    def get_relation_type(cls) -> type[PgTrickleRelationType]:  # type: ignore[override]
        """The enumeration that dbt converts type names with."""
        return PgTrickleRelationType

    @classproperty
    def StreamTable(cls) -> str:
        """The type's name, for macros."""
        return str(PgTrickleRelationType.StreamTable)

    @property
    def is_stream_table(self) -> bool:
        """Whether it is registered with the engine."""
        return self.type == PgTrickleRelationType.StreamTable

    @property
    def is_table(self) -> bool:
        """Whether it can be read and granted like a table; true for stream tables."""
        return self.type in (PgTrickleRelationType.Table, PgTrickleRelationType.StreamTable)

    @property
    def stored_schema(self) -> str:
        """The schema's name as the database stores it."""
        return self._stored(ComponentName.Schema)

    @property
    def stored_identifier(self) -> str:
        """The table's name as the database stores it."""
        return self._stored(ComponentName.Identifier)

    @property
    def engine_name(self) -> str:
        """The name as the engine reads it: both parts quoted, without the database."""
        parts = (self.stored_schema, self.stored_identifier)
        return ".".join('"{}"'.format(part.replace('"', '""')) for part in parts)

    def _stored(self, component: ComponentName) -> str:
        """PostgreSQL folds what dbt does not quote to lower case."""
        part = self.path.get_part(component) or ""
        return part if self.quote_policy.get_part(component) else part.lower()
