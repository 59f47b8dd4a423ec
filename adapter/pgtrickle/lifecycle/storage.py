"""The tables of a stream table: itself with its guard, its indexes, its stages, its output log."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from psycopg.sql import SQL, Identifier

from pgtrickle import db
from pgtrickle.capture import output_log_of
from pgtrickle.catalog import stages
from pgtrickle.db import Query
from pgtrickle.errors import DependentsExist, InvalidOption, PgTrickleError, StatementFailed
from pgtrickle.lifecycle.columns import ColumnChanges, TableColumn
from pgtrickle.lifecycle.target import QUERIES
from pgtrickle.names import NUMBER_COLUMN, STATE_SCHEMA, WEIGHT_COLUMN, change_column, fit_identifier
from pgtrickle.plan import Relation
from pgtrickle.refresh.compiled import under

if TYPE_CHECKING:
    from typing_extensions import LiteralString

GUARD = Identifier("pgtrickle_guard")


def create_table(relation: Relation, canonical: str) -> list[Query]:
    """Statements that create a stream table with exactly the columns, types and collations of its query."""
    name = Identifier(relation.schema, relation.name)
    return [
        SQL("CREATE TABLE {} WITH (fillfactor = 90) AS {} WITH NO DATA").format(name, query_text(canonical)),
        # Publications FOR ALL TABLES would otherwise refuse our deletes and updates.
        SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name),
        *guard(relation),
    ]


def guard(relation: Relation) -> list[Query]:
    """Statements that let nobody but refreshes write to a stream table, sessions with replica role included."""
    name = Identifier(relation.schema, relation.name)
    return [
        SQL(
            "CREATE OR REPLACE TRIGGER {guard} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT WHEN (pg_catalog.current_setting('pgtrickle.refreshing', true) "
            "IS DISTINCT FROM pg_catalog.pg_backend_pid()::text) EXECUTE FUNCTION pgtrickle.refuse_write()"
        ).format(guard=GUARD, table=name),
        SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(name, GUARD),
    ]


def query_text(canonical: str) -> SQL:
    """A defining query as a fragment; it came from the server's own printer."""
    return SQL(cast("LiteralString", canonical.rstrip().rstrip(";")))


def unguard(relation: Relation) -> list[Query]:
    """Statements that make a stream table an ordinary table."""
    name = Identifier(relation.schema, relation.name)
    return [
        SQL("DROP TRIGGER IF EXISTS {} ON {}").format(GUARD, name),
        SQL("ALTER TABLE {} REPLICA IDENTITY DEFAULT").format(name),
    ]


def fetch_columns(conn: db.Connection, relid: int) -> tuple[TableColumn, ...]:
    """The columns of a table in order."""
    return db.fetch_all(conn, QUERIES["table_columns"], TableColumn, {"relid": relid})


def query_columns(conn: db.Connection, canonical: str, settings: Mapping[str, str]) -> tuple[TableColumn, ...]:
    """The columns that a query gives a table under its settings; inside a transaction."""
    probe = Identifier("pg_temp", "pgtrickle_probe")
    with under(conn, settings):
        db.execute(conn, SQL("CREATE TABLE {} AS {} WITH NO DATA").format(probe, query_text(canonical)))
    relid = db.fetch_value(conn, SQL("SELECT 'pg_temp.pgtrickle_probe'::pg_catalog.regclass::oid::bigint"))
    found = fetch_columns(conn, relid)
    db.execute(conn, SQL("DROP TABLE {}").format(probe))
    return found


def alter_columns(conn: db.Connection, relation: Relation, changes: ColumnChanges) -> None:
    """Change the columns of a stream table in place; never CASCADE.

    Raises:
        DependentsExist: a view or another object uses a column that would go or change its type.
    """
    name = Identifier(relation.schema, relation.name)
    steps: list[Query] = [SQL("DROP COLUMN {}").format(Identifier(column.name)) for column in changes.drop]
    steps += [
        SQL("ALTER COLUMN {} TYPE {} USING NULL").format(Identifier(column.name), _type(column))
        for column in changes.alter
    ]
    steps += [SQL("ADD COLUMN {} {}").format(Identifier(column.name), _type(column)) for column in changes.add]
    if not steps:
        return
    try:
        db.execute(conn, SQL("ALTER TABLE {} {}").format(name, SQL(", ").join(steps)), object_name=relation.name)
    except StatementFailed as error:
        raise _dependents(error, relation) from error


def _dependents(error: StatementFailed, relation: Relation) -> PgTrickleError:
    if error.sqlstate not in ("2BP01", "0A000"):
        return error
    return DependentsExist(
        "Other objects use a column that would be dropped or change its type.",
        object_name=f"{relation.schema}.{relation.name}",
        detail=error.detail or error.message,
        hint="Drop or change them first, then try again. Nothing was changed.",
    )


def _type(column: TableColumn) -> SQL:
    # The texts are the server's own.
    collation = f" COLLATE {column.collation}" if column.collation else ""
    return SQL(cast("LiteralString", column.type + collation))


def drop_stage_tables(conn: db.Connection, stream_table_id: int) -> None:
    """Drop the tables in ``pgtrickle_state`` that the recorded stages own."""
    names = [
        name
        for stage in stages.fetch(conn, stream_table_id)
        for name in (stage.output_table, stage.state_table, stage.log_table)
        if name is not None
    ]
    if names:
        listed = SQL(", ").join(Identifier(STATE_SCHEMA, name) for name in names)
        db.execute(conn, SQL("DROP TABLE IF EXISTS {}").format(listed))


def analyze_tables(conn: db.Connection, stream_table_id: int, relation: Relation) -> None:
    """Statistics of a stream table and of its stages: without them the first refreshes read whole tables."""
    names = [Identifier(relation.schema, relation.name)]
    for stage in stages.fetch(conn, stream_table_id):
        names += [Identifier(STATE_SCHEMA, name) for name in (stage.output_table, stage.state_table) if name]
    db.execute(conn, SQL("ANALYZE {}").format(SQL(", ").join(names)))


def create_log(stream_table_id: int, columns: Sequence[TableColumn]) -> list[Query]:
    """Statements that create the output log of a stream table, unless it is there."""
    log = output_log_of(stream_table_id)
    name = Identifier(log.schema, log.name)
    defined = [
        SQL("{} bigint NOT NULL").format(Identifier(NUMBER_COLUMN)),
        SQL("{} integer NOT NULL").format(Identifier(WEIGHT_COLUMN)),
        *(SQL("{} {}").format(Identifier(change_column(column.attnum)), _type(column)) for column in columns),
    ]
    return [
        SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(name, SQL(", ").join(defined)),
        SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name),
        SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
            Identifier(f"{log.name}_n"), name, Identifier(NUMBER_COLUMN)
        ),
    ]


def drop_log(stream_table_id: int) -> Query:
    """The statement that drops the output log of a stream table."""
    log = output_log_of(stream_table_id)
    return SQL("DROP TABLE IF EXISTS {}").format(Identifier(log.schema, log.name))


def has_log(conn: db.Connection, stream_table_id: int) -> bool:
    """Whether the output log of a stream table is there."""
    log = output_log_of(stream_table_id)
    return db.fetch_value(conn, QUERIES["relid_of"], {"schema": log.schema, "name": log.name}) is not None


def alter_log(stream_table_id: int, changes: ColumnChanges, present: Sequence[TableColumn]) -> list[Query]:
    """Statements that give the output log the columns of its stream table after ``changes``.

    Columns that are gone stay in the log until it is dropped: attribute numbers are never used twice.
    """
    log = output_log_of(stream_table_id)
    added, altered = {column.name for column in changes.add}, {column.name for column in changes.alter}
    steps: list[Query] = [
        SQL("ADD COLUMN IF NOT EXISTS {} {}").format(Identifier(change_column(column.attnum)), _type(column))
        for column in present
        if column.name in added
    ]
    steps += [
        SQL("ALTER COLUMN {} TYPE {} USING NULL").format(Identifier(change_column(column.attnum)), _type(column))
        for column in present
        if column.name in altered
    ]
    return [SQL("ALTER TABLE {} {}").format(Identifier(log.schema, log.name), SQL(", ").join(steps))] if steps else []


def create_index(relation: Relation, index: Mapping[str, Any]) -> Query:
    """The statement for one entry of the option ``indexes``; its name follows from what it is."""
    return SQL("CREATE {unique}INDEX IF NOT EXISTS {name} ON {table} USING {method} ({columns})").format(
        unique=SQL("UNIQUE " if index.get("unique") else ""),
        name=Identifier(index_name(relation, index)),
        table=Identifier(relation.schema, relation.name),
        method=Identifier(str(index.get("type") or "btree")),
        columns=SQL(", ").join(Identifier(column) for column in index["columns"]),
    )


def index_name(relation: Relation, index: Mapping[str, Any]) -> str:
    """A stable name: the same definition is never built twice."""
    key = repr((relation.schema, relation.name, list(index["columns"]), bool(index.get("unique")), index.get("type")))
    return fit_identifier(f"{relation.name[:40]}_{hashlib.sha256(key.encode()).hexdigest()[:10]}")


def check_index_columns(indexes: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Refuse an index on a column that the query does not have."""
    for index in indexes:
        unknown = [column for column in index["columns"] if column not in columns]
        if unknown:
            raise InvalidOption(
                f"An index names a column that the query does not have: {', '.join(unknown)}.",
                object_name="indexes",
                hint=f"Columns: {', '.join(columns)}.",
            )
