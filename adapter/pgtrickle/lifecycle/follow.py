"""Following what was renamed: relations, their columns and functions keep their OIDs and numbers, queries name names.

A name wins over what it once stood for: dbt renames a table away and another one into its place. So only what has no
namesake is followed. PostgreSQL itself puts new names of columns into the query: a view on copies of the relations that
have the old names is printed again when their columns are renamed.
The attributes of composite types are followed in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg.sql import SQL, Identifier

from pgtrickle import capture, db
from pgtrickle.analyze.probe import probe, rolled_back
from pgtrickle.catalog import sources
from pgtrickle.catalog.model import Dependency, StreamTable
from pgtrickle.errors import InvalidQuery, StatementFailed
from pgtrickle.lifecycle.objects import renamed_attributes, renamed_objects
from pgtrickle.lifecycle.target import QUERIES
from pgtrickle.parse.rename import Name, Renamed, rename_objects
from pgtrickle.refresh.compiled import COMPILE_LOCK_TIMEOUT_MS, pin

_COPY = "pgtrickle_was_"
_RELATIONS = ("table", "stream_table", "uncaptured", "view")


@dataclass(slots=True)
class _Renames:
    """What has another name now.

    ``columns`` and ``attributes``: present name of the relation or type -> old name of a column -> present one.
    """

    relations: dict[Name, Name] = field(default_factory=dict)
    columns: dict[Name, dict[str, str]] = field(default_factory=dict)
    functions: dict[Name, Name] = field(default_factory=dict)
    attributes: dict[Name, dict[str, str]] = field(default_factory=dict)
    others: Renamed = field(default_factory=Renamed)


def followed(conn: db.Connection, found: StreamTable) -> str:
    """The recorded query of a stream table with the present names of what it reads.

    Args:
        conn: outside a transaction.
        found: with the facts of its last refresh, which know the names of that time.

    Returns:
        The very text that is recorded where nothing was renamed, or where only the user can tell what is meant.

    Raises:
        InvalidQuery: PostgreSQL refuses it under its old names, too: something is gone.
    """
    renames = _renames(conn, found)
    try:
        query = rename_objects(found.canonical_query, replace(renames.others, functions=renames.functions))
        if renames.columns or renames.attributes:
            return _with_columns(conn, found, query, renames)
        return rename_objects(query, Renamed(renames.relations))
    except (InvalidQuery, StatementFailed) as error:
        if db.passes(error) or (isinstance(error, InvalidQuery) and error.sqlstate):
            # With all that could be followed: what is missing is missing under every name.
            raise
        # PostgreSQL says about the recorded text what is missing.
        return found.canonical_query


def _renames(conn: db.Connection, found: StreamTable) -> _Renames:
    facts = found.fingerprint or {}
    renames = _Renames()
    for dependency in sources.dependencies(conn, found.id):
        if dependency.kind in _RELATIONS:
            _add_relation(conn, dependency, facts, renames)
    _add_functions(conn, facts.get("functions", {}), renames)
    present = capture.fingerprint(conn, [found.id]).get(found.id)
    if present is not None:
        renames.others = renamed_objects(facts, present)
        renames.attributes = renamed_attributes(facts, present)
    return renames


def _add_relation(conn: db.Connection, dependency: Dependency, facts: Mapping[str, Any], renames: _Renames) -> None:
    recorded: Name = (dependency.schema_name, dependency.object_name)
    relid, before = _as_recorded(conn, dependency, facts)
    row = db.fetch_one(conn, QUERIES["present_name"], dict, {"relid": relid})
    occupant = db.fetch_value(conn, QUERIES["relid_of"], {"schema": recorded[0], "name": recorded[1]})
    if row is None or occupant not in (None, relid):
        return
    present: Name = (row["schema_name"], row["table_name"])
    if present != recorded:
        renames.relations[recorded] = present
    after = {
        str(column["attnum"]): column["name"]
        for column in db.fetch_all(conn, QUERIES["table_columns"], dict, {"relid": relid})
    }
    moved = {
        name: after[number]
        for number, name in before.items()
        if number in after and after[number] != name and name not in after.values()
    }
    if moved:
        renames.columns[present] = moved


def _as_recorded(
    conn: db.Connection, dependency: Dependency, facts: Mapping[str, Any]
) -> tuple[int, Mapping[str, str]]:
    """The OID of a relation and the names of its columns by number, as of the last refresh."""
    if dependency.kind != "view":
        columns = facts.get("relations", {}).get(str(dependency.relid), {}).get("columns", {})
        return dependency.relid, {number: column["name"] for number, column in columns.items()}
    params = {"schema": dependency.schema_name, "name": dependency.object_name}
    view = facts.get("views", {}).get(db.fetch_value(conn, QUERIES["quoted"], params))
    known = isinstance(view, dict) and view["oid"] is not None
    return (view["oid"], view["columns"]) if known else (dependency.relid, {})


def _add_functions(conn: db.Connection, recorded: Mapping[str, Any], renames: _Renames) -> None:
    found = db.fetch_all(conn, QUERIES["function_names"], dict, {"oids": [int(oid) for oid in recorded]})
    present = {str(row["oid"]): row for row in found}
    olds: dict[Name, set[Name]] = {}
    for oid, facts in recorded.items():
        if len(facts) < 2 or not isinstance(facts[-2], list):
            continue  # as an older catalog recorded it
        old: Name = (facts[-2][0], facts[-2][1])
        row = present.get(oid)
        new: Name = old if row is None else (row["schema_name"], row["name"])
        taken = row is None or db.fetch_value(
            conn, QUERIES["function_of"], {"schema": old[0], "name": old[1], "arguments": row["arguments"]}
        )
        olds.setdefault(old, set()).add(old if taken else new)
    for old, news in olds.items():
        # Of functions with one name and several types of arguments, the text does not tell which one it calls.
        if len(news) == 1 and old not in news:
            renames.functions[old] = next(iter(news))


def _with_columns(conn: db.Connection, found: StreamTable, query: str, renames: _Renames) -> str:
    """The query with the present names of relations, columns and attributes.

    A composite type has no copy that its values would be of: it has its old attributes while the query is read. Only
    its owner may do that.
    """
    copies: dict[Name, Name] = dict(renames.relations)
    back: dict[Name, Name] = {}
    recorded = {present: old for old, present in renames.relations.items()}
    with rolled_back(conn):
        wait = db.shorter_than_deadlocks(conn, COMPILE_LOCK_TIMEOUT_MS)
        pin(conn, {**found.settings, "lock_timeout": str(wait)})
        for number, (present, columns) in enumerate(renames.columns.items()):
            copy = f"{_COPY}{number}"
            copies[recorded.get(present, present)], back[None, copy] = ("pg_temp", copy), present
            _copy(conn, present, copy)
            for old, new in columns.items():
                _rename_column(conn, copy, new, old)
        for composite, attributes in renames.attributes.items():
            for old, new in attributes.items():
                _rename_attribute(conn, composite, new, old)
        probe(conn, rename_objects(query, Renamed(copies)), "pgtrickle_follow", catalog_path=False)
        for composite, attributes in renames.attributes.items():
            for old, new in attributes.items():
                _rename_attribute(conn, composite, old, new)
        for number, columns in enumerate(renames.columns.values()):
            for old, new in columns.items():
                _rename_column(conn, f"{_COPY}{number}", old, new)
        # Under this path the copies are printed without a schema, and everything of the user's with one.
        pin(conn, {"search_path": "pg_catalog"})
        relid = SQL("'pg_temp.pgtrickle_follow'::pg_catalog.regclass")
        text = db.fetch_value(conn, SQL("SELECT pg_catalog.pg_get_viewdef({})").format(relid))
    renamed = rename_objects(text, Renamed(back))
    if _COPY in renamed:
        raise InvalidQuery("the row type of a relation whose columns were renamed stands in the query")
    return renamed


def _copy(conn: db.Connection, present: Name, copy: str) -> None:
    # With its keys: a query may group by one and show other columns.
    statement = SQL("CREATE TABLE pg_temp.{} (LIKE {} INCLUDING INDEXES)")
    db.execute(conn, statement.format(Identifier(copy), Identifier(*filter(None, present))))


def _rename_column(conn: db.Connection, copy: str, old: str, new: str) -> None:
    statement = SQL("ALTER TABLE pg_temp.{} RENAME COLUMN {} TO {}")
    db.execute(conn, statement.format(Identifier(copy), Identifier(old), Identifier(new)))


def _rename_attribute(conn: db.Connection, composite: Name, old: str, new: str) -> None:
    statement = SQL("ALTER TYPE {} RENAME ATTRIBUTE {} TO {} CASCADE")
    db.execute(conn, statement.format(Identifier(*filter(None, composite)), Identifier(old), Identifier(new)))
