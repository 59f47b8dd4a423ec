"""The bodies of trigger functions: static PL/pgSQL from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from pgtrickle.capture.buffers import buffer_of
from pgtrickle.capture.relations import Column, Level
from pgtrickle.names import CHANGES_SCHEMA, TABLEOID, WEIGHT_COLUMN, XID_COLUMN, change_column
from pgtrickle.sql import comma_separated, qualified

if TYPE_CHECKING:
    from typing_extensions import LiteralString

RETIRED = files("pgtrickle.capture").joinpath("templates/retired.plpgsql").read_text(encoding="utf-8")


#: A statement of many rows is captured in parts, with a look at the size of the change buffer after each: the first
#: takes so many bytes of the limit per row, and at least so many rows.
_PART_BYTES = 1024
_PART_ROWS = 10_000

#: For so many bytes beyond the limit, an eighth of it at most, SERIALIZABLE transactions do not look whether capture
#: has stopped.
_BLIND_BYTES = 256 * 1024


def changes_function(source_id: int) -> str:
    """Name of the function for INSERT, UPDATE and DELETE statements on a source and all below it."""
    return f"f_{source_id}"


def row_function(source_id: int) -> str:
    """Name of the function for single rows of a source and all below it."""
    return f"r_{source_id}"


def truncate_function(source_id: int) -> str:
    """Name of the function for TRUNCATE."""
    return f"t_{source_id}"


def ancestor_function(source_id: int) -> str:
    """Name of the function for statements on the tables above a source."""
    return f"a_{source_id}"


def moving_function(source_id: int) -> str:
    """Name of the function that counts before a statement may move rows between partitions."""
    return f"m_{source_id}"


def all_functions(source_id: int) -> list[str]:
    """The names of all functions that a source may have."""
    named = (changes_function, row_function, truncate_function, ancestor_function, moving_function)
    return [name(source_id) for name in named]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the functions of one source do.

    Attributes:
        source_id: ``pgtrickle.sources.id``.
        relid: OID of the source.
        columns: what is captured.
        rows: rows, or only marks.
        level: what the triggers fire for.
        partition: the partition constraint that tells the source's rows in statements on its ancestors.
        may_ask: that takes nobody's code but PostgreSQL's, so that it can be asked with the engine's rights.
        limit_bytes: size of the change buffer from which on only marks are kept.
        truncate_rows: largest table whose TRUNCATE is captured as rows.
        epoch: how often capture has begun again after its buffer was full.
        key: names of the columns of a unique key by which old and new rows can be paired; empty if there is none.
        parents: OIDs of the tables below which there may be one that capture has not met.
        known: OIDs of the tables that it has met.
        links: how many tables there are directly below ``parents``, each counted for each of its parents.
        routes: INSERT puts rows into tables below the one that it names.
        alone: the functions for its own rows fire for no other table.
        moves: MERGE may move rows from one table to another; see ``templates/moved.plpgsql``.
    """

    source_id: int
    relid: int
    columns: tuple[Column, ...]
    rows: bool
    level: Level
    partition: str | None
    limit_bytes: int
    truncate_rows: int
    epoch: int = 0
    key: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    known: tuple[int, ...] = ()
    links: int = 0
    routes: bool = False
    alone: bool = False
    moves: bool = False
    may_ask: bool = True

    @property
    def data(self) -> tuple[Column, ...]:
        """The columns that triggers see; which table they fire for tells ``tableoid``."""
        return tuple(column for column in self.columns if column.number != TABLEOID)


def _template(name: str) -> SQL:
    text = files("pgtrickle.capture").joinpath(f"templates/{name}.plpgsql").read_text(encoding="utf-8")
    return SQL(cast("LiteralString", text))


def _values(weight: int, record: str, columns: Sequence[Column], tableoid: Composable | None = None) -> Composed:
    values = (
        tableoid if tableoid is not None and column.number == TABLEOID else Identifier(record, column.name)
        for column in columns
    )
    return comma_separated(
        [SQL("pg_catalog.pg_current_xact_id()"), SQL("{}::pg_catalog.int2").format(Literal(weight)), *values]
    )


def _targets(columns: Sequence[Column]) -> Composed:
    """The columns of a change buffer that `_values` fills.

    All of them, in the order in which a new buffer has them and of its types: then the rows go from the transition
    table into the buffer as they are computed, and PostgreSQL puts no projection in between.
    """
    names = [XID_COLUMN, WEIGHT_COLUMN, *(change_column(column.number) for column in columns)]
    return comma_separated(map(Identifier, names))


def _fits(record: str, columns: Sequence[Column]) -> Composable:
    """Whether the columns of a record have the types that they had when capture was installed."""
    checks = [
        SQL("pg_catalog.pg_typeof({}) = {}::pg_catalog.regtype").format(
            Identifier(record, column.name), Literal(str(column.type_oid))
        )
        for column in columns
    ]
    return SQL(" AND ").join([SQL("true"), *checks])


def _images_differ(old: str, new: str, columns: Sequence[Column]) -> Composable:
    """Whether two records differ in what is captured of them: as images, so 1.0 is not 1.00, and of any type."""
    rows = [
        SQL("ROW({})::record").format(comma_separated(Identifier(record, column.name) for column in columns))
        for record in (old, new)
    ]
    return SQL("NOT {} OPERATOR(pg_catalog.*=) {}").format(*rows)


def _updated(columns: Sequence[Column], *, filtered: bool, checked: bool) -> Composable:
    """The first query of an UPDATE: whether it changed what is captured, NULL if it were several rows; and ``fits``.

    Rows that were updated to the same image cancel out sooner or later. One statement, one row is what applications
    do all the time, and needs no key to tell which old row belongs to which new one.

    Args:
        columns: what is captured.
        filtered: a row that leaves its partition changes it, even if nothing that is captured does.
        checked: ``fits`` is known already.
    """
    fits = SQL("true") if checked else _fits("r", columns)
    if filtered or not columns:
        return SQL("SELECT {}, {} INTO fits, changed FROM new_rows AS r LIMIT 1").format(fits, Literal(filtered))
    # One plan of few nodes: starting them is most of what a statement of one row costs. Several rows make four pairs.
    found, into = (SQL(""), SQL("changed")) if checked else (SQL("pg_catalog.bool_and(p.f), "), SQL("fits, changed"))
    return SQL(
        "SELECT {found}CASE WHEN pg_catalog.count(*) = 1 THEN pg_catalog.bool_or(p.c) END"
        " INTO {into} FROM (SELECT {fits} AS f, {changed} AS c FROM new_rows AS r"
        " LEFT JOIN old_rows AS o ON true LIMIT 2) AS p"
    ).format(found=found, into=into, fits=fits, changed=_images_differ("o", "r", columns))


def _several_changed(columns: Sequence[Column], key: Sequence[str]) -> Composable:
    """Finds out whether an UPDATE of several rows changed what is captured; not so only where that is sure.

    Rows are paired by a key: they are the same if no pair differs, no row is without a partner, and there are as many
    pairs as rows, which is not so where the key was dropped meanwhile and is not one any more. Only full joins, which
    are never nested loops: a plan that was made for two rows serves a million rows in the same session.
    """
    if not columns or not key:
        return SQL("changed := true;")
    on = SQL(" AND ").join(
        SQL("{} OPERATOR(pg_catalog.=) {}").format(Identifier("o", name), Identifier("n", name)) for name in key
    )
    old, new = Identifier("o", key[0]), Identifier("n", key[0])
    differ = SQL(
        "(CASE WHEN EXISTS (SELECT FROM old_rows AS o FULL JOIN new_rows AS n ON {on}"
        " WHERE {old} IS NULL OR {new} IS NULL OR {differ}) THEN true"
        " ELSE (SELECT pg_catalog.count(*) FROM old_rows AS o FULL JOIN new_rows AS n ON {on})"
        " <> (SELECT pg_catalog.count(*) FROM old_rows) END)"
    ).format(on=on, old=old, new=new, differ=_images_differ("o", "n", columns))
    return _template("several_changed").format(pairs_differ=differ)


def _fill(template: str, shape: Shape, **holes: Composable) -> Composed:
    buffer = buffer_of(shape.source_id)
    known = {
        "source_id": Literal(shape.source_id),
        "buffer": qualified(buffer.schema, buffer.name),
        "buffer_name": Literal(f"{buffer.schema}.{buffer.name}"),
        "limit": Literal(shape.limit_bytes),
        "epoch": Literal(shape.epoch),
        "blind_limit": Literal(shape.limit_bytes + min(shape.limit_bytes // 8, _BLIND_BYTES)),
    }
    mark = _template("mark").format(**known)
    return _template(template).format(
        targets=_targets(shape.columns),
        truncate_rows=Literal(shape.truncate_rows),
        part=Literal(max(_PART_ROWS, shape.limit_bytes // _PART_BYTES)),
        mark=mark,
        moved=_template("moved").format(mark=mark, **known) if shape.moves else SQL(""),
        **known,
        **holes,
    )


def _oids(relids: Sequence[int]) -> Composable:
    return SQL("{}::pg_catalog.oid[]").format(Literal("{" + ",".join(map(str, relids)) + "}"))


def _regclass(relid: int) -> Composable:
    """A constant on which a plan depends: it is made again when that table, or what hangs below it, changes."""
    return SQL("{}::pg_catalog.regclass").format(Literal(str(relid)))


def _may_meet_strangers(shape: Shape, *, above: bool) -> Composable:
    """Whether a statement may reach tables below a source that it had not when capture was installed."""
    if not shape.parents:
        return SQL("false")
    if not shape.routes:
        return SQL("TG_OP <> 'INSERT'")
    return SQL("true") if above else SQL("TG_RELID = ANY ({})").format(_oids(shape.parents))


def _statement(shape: Shape, *, partition: str | None = None) -> Composed:
    if not shape.rows:
        return _fill("statement_mark", shape)
    # The constraint is text that the server printed for this very table; its columns are unqualified.
    filtered_by = SQL(cast("LiteralString", f"WHERE {partition}")) if partition else SQL("")
    # Qualified by the function's name, because rows may have columns of any name.
    own = Identifier(changes_function(shape.source_id), "tg_relid")
    tableoid = own if shape.level == "mixed" else SQL("{}::pg_catalog.oid").format(Literal(str(shape.relid)))
    source, filtered = _regclass(shape.relid), partition is not None
    return _fill(
        "statement_rows",
        shape,
        look=_look(shape, source, filtered=filtered),
        may_meet=_may_meet_strangers(shape, above=filtered),
        links=Literal(shape.links),
        parents=_oids(shape.parents),
        known=_oids(shape.known),
        source=source,
        parent_tables=SQL("ARRAY[{}]::pg_catalog.regclass[]").format(comma_separated(map(_regclass, shape.parents))),
        new_values=_values(1, "r", shape.columns, tableoid),
        old_values=_values(-1, "r", shape.columns, tableoid),
        new_filter=filtered_by,
        old_filter=filtered_by,
    )


def _look(shape: Shape, source: Composable, *, filtered: bool) -> Composed:
    """What a function does first: sets ``fits`` and ``changed``.

    Where it fires for one table only, its plan knows the columns of that table. Others look at the first row.
    """
    several = _several_changed(shape.data, shape.key)
    if filtered or not shape.alone:
        updated = _updated(shape.data, filtered=filtered, checked=False)
        return _template("look_at_rows").format(fits=_fits("r", shape.data), updated=updated, several_changed=several)
    return _template("look_ahead").format(
        source=source,
        condition=Literal(_condition(shape.data)),
        names=SQL("ARRAY[{}]::pg_catalog.text[]").format(
            comma_separated(Literal(column.name) for column in shape.data)
        ),
        updated=_updated(shape.data, filtered=False, checked=True),
        several_changed=several,
    )


def _condition(columns: Sequence[Column]) -> str:
    """What ``pgtrickle.columns_fit`` asks: as `_fits`, of the type of the table's rows."""
    checks = [
        SQL("pg_typeof((NULL::%1$s).{}) = {}::regtype").format(
            Identifier(column.name.replace("%", "%%")), Literal(str(column.type_oid))
        )
        for column in columns
    ]
    return SQL(" AND ").join([SQL("true"), *checks]).as_string(None)


def _row(shape: Shape) -> Composed:
    if not shape.rows:
        return _fill("row_mark", shape)
    # OLD and NEW are variables of PL/pgSQL: quoted, they have to be in lower case.
    return _fill(
        "row_rows",
        shape,
        changed=_images_differ("old", "new", shape.data) if shape.data else SQL("false"),
        fits_old=_fits("old", shape.data),
        fits_new=_fits("new", shape.data),
        new_values=_values(1, "new", shape.columns, SQL("TG_RELID")),
        old_values=_values(-1, "old", shape.columns, SQL("TG_RELID")),
    )


def _truncate(shape: Shape) -> Composed:
    if not shape.rows:
        return _fill("truncate_mark", shape)
    buffer = buffer_of(shape.source_id)
    insert = SQL("INSERT INTO {} ({}) SELECT {} FROM ONLY ").format(
        qualified(buffer.schema, buffer.name),
        _targets(shape.columns),
        _values(-1, "r", shape.columns),
    )
    return _fill("truncate_rows", shape, insert=Literal(insert.as_string(None)))


def bodies(shape: Shape, *, has_ancestors: bool) -> Mapping[str, str]:
    """Function name -> body, for all functions that a source needs."""
    made: dict[str, Composed] = {truncate_function(shape.source_id): _truncate(shape)}
    if shape.moves:
        made[moving_function(shape.source_id)] = _fill("moving", shape)
    if shape.level != "row":
        made[changes_function(shape.source_id)] = _statement(shape)
    if shape.level != "statement":
        made[row_function(shape.source_id)] = _row(shape)
    elif has_ancestors:
        above = _statement(shape, partition=shape.partition) if shape.may_ask else _fill("statement_mark", shape)
        made[ancestor_function(shape.source_id)] = above
    return {name: body.as_string(None) for name, body in made.items()}


def create_function(name: str, body: str) -> Composed:
    """``CREATE OR REPLACE`` of a trigger function that runs with our rights and a fixed search_path.

    A plan that was made for ten million rows serves one row in the same session: it must not be compiled each time.
    """
    return SQL(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp SET jit = off AS {}"
    ).format(qualified(CHANGES_SCHEMA, name), Literal(body))


def revoke_function(name: str) -> Composed:
    """Nobody else may hang this function on a table of their own."""
    return SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(qualified(CHANGES_SCHEMA, name))
