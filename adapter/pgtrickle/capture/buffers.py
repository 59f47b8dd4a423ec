"""Change buffers: their names and their DDL."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composable, Composed, Identifier

from pgtrickle.capture.relations import BufferColumn, Column
from pgtrickle.names import CHANGES_SCHEMA, WEIGHT_COLUMN, XID_COLUMN, change_column
from pgtrickle.plan import Relation
from pgtrickle.sql import comma_separated, qualified


def buffer_of(source_id: int) -> Relation:
    """The change buffer of a base table, by ``pgtrickle.sources.id``."""
    return Relation(CHANGES_SCHEMA, f"b_{source_id}")


def output_log_of(stream_table_id: int) -> Relation:
    """The output log of a stream table that has dependents, by ``pgtrickle.stream_tables.id``."""
    return Relation(CHANGES_SCHEMA, f"o_{stream_table_id}")


def buffer_name(source_id: int) -> Identifier:
    """The quoted name of a change buffer."""
    relation = buffer_of(source_id)
    return qualified(relation.schema, relation.name)


def create_buffer(source_id: int) -> tuple[Composed, ...]:
    """An empty change buffer without data columns.

    It has no primary key, so REPLICA IDENTITY FULL keeps deletes working under publications FOR ALL TABLES. Rows
    come and go all the time: autovacuum is to look often.
    """
    buffer = buffer_name(source_id)
    return (
        # Of a buffer that somebody has renamed.
        index_buffer(source_id, wanted=False),
        SQL(
            "CREATE TABLE {} ({} xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(), {} smallint NOT NULL)"
            " WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_threshold = 1000)"
        ).format(buffer, Identifier(XID_COLUMN), Identifier(WEIGHT_COLUMN)),
        SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(buffer),
    )


def _definition(column: Column) -> Composable:
    # Without type modifier: widening varchar(10) or numeric(8, 2) in the source must not break its writers.
    definition = SQL("{} {}").format(
        Identifier(change_column(column.number)), qualified(column.type_schema, column.type_name)
    )
    if column.collation_schema is None or column.collation_name is None:
        return definition
    return SQL("{} COLLATE {}").format(definition, qualified(column.collation_schema, column.collation_name))


def alter_buffer(source_id: int, present: Sequence[BufferColumn], needed: Sequence[Column]) -> tuple[Composed, ...]:
    """The statements, one at most, that give a change buffer exactly these data columns.

    A column whose type or collation moved is made anew: its old values are of no use to anybody, since a consumer
    of a column with another type recomputes.
    """
    want = {change_column(column.number): column for column in needed}
    right = {
        column.name
        for column in present
        if column.name in want
        and (want[column.name].base_type_oid, want[column.name].collation_oid)
        == (column.type_oid, column.collation_oid)
    }
    drop = [SQL("DROP COLUMN {}").format(Identifier(column.name)) for column in present if column.name not in right]
    add = [SQL("ADD COLUMN {}").format(_definition(column)) for name, column in want.items() if name not in right]
    if not drop and not add:
        return ()
    return (SQL("ALTER TABLE {} {}").format(buffer_name(source_id), comma_separated([*drop, *add])),)


def index_buffer(source_id: int, *, wanted: bool) -> Composed:
    """Create or drop the index on the transaction ids of a change buffer."""
    buffer = buffer_of(source_id)
    index = f"{buffer.name}_x"
    if not wanted:
        return SQL("DROP INDEX IF EXISTS {}").format(qualified(buffer.schema, index))
    return SQL("CREATE INDEX {} ON {} ({})").format(Identifier(index), buffer_name(source_id), Identifier(XID_COLUMN))


def drop_buffer(source_id: int) -> Composed:
    """Drop a change buffer."""
    return SQL("DROP TABLE IF EXISTS {}").format(buffer_name(source_id))
