"""Ways of copying a database, each one function: what is left in the target is what a person would find there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from tests.support.programs import run

#: (connection string of the source, of the target, a directory that everybody may write to) -> nothing.
Copy = Callable[[str, str, Path], None]

OURS = ("pgtrickle_changes", "pgtrickle_state")


def plain(source: str, target: str, place: Path) -> None:
    """A script, run by psql."""
    run("pg_dump", "-Fp", "-f", str(place / "dump"), dsn=source)
    run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(place / "dump"), dsn=target)


def custom(source: str, target: str, place: Path) -> None:
    """An archive, restored by two processes."""
    run("pg_dump", "-Fc", "-f", str(place / "dump"), dsn=source)
    run("pg_restore", "-j", "2", "-d", _name(target), str(place / "dump"), dsn=target)


def without_our_rows(source: str, target: str, place: Path) -> None:
    """Without the rows of change buffers and states: they are worthless elsewhere, and may be large."""
    left_out = [f"--exclude-table-data={schema}.*" for schema in OURS]
    run("pg_dump", "-Fc", *left_out, "-f", str(place / "dump"), dsn=source)
    run("pg_restore", "-d", _name(target), str(place / "dump"), dsn=target)


def without_our_tables(source: str, target: str, place: Path) -> None:
    """Without change buffers, states, and the functions of the triggers, which cannot be created then."""
    run("pg_dump", "-Fp", *(f"--exclude-schema={schema}" for schema in OURS), "-f", str(place / "dump"), dsn=source)
    run("psql", "-q", "-f", str(place / "dump"), dsn=target)


def without_contents(source: str, target: str, place: Path) -> None:
    """Without the rows of the stream tables themselves."""
    left_out = [f"--exclude-table-data=public.{name}" for name in ("totals", "regions", "said", "kinds", "ranked")]
    run("pg_dump", "-Fc", *left_out, "-f", str(place / "dump"), dsn=source)
    run("pg_restore", "-d", _name(target), "--no-owner", "--no-privileges", str(place / "dump"), dsn=target)


def by_sections(source: str, target: str, place: Path) -> None:
    """Tables, rows, and the rest, each in a run of its own."""
    run("pg_dump", "-Fc", "-f", str(place / "dump"), dsn=source)
    for section in ("pre-data", "data", "post-data"):
        run("pg_restore", "-d", _name(target), f"--section={section}", str(place / "dump"), dsn=target)


def rows_after_everything(source: str, target: str, place: Path) -> None:
    """The schema first, then the rows with triggers disabled."""
    run("pg_dump", "-Fc", "-f", str(place / "dump"), dsn=source)
    run("pg_restore", "-d", _name(target), "--schema-only", str(place / "dump"), dsn=target)
    run("pg_restore", "-d", _name(target), "--data-only", "--disable-triggers", str(place / "dump"), dsn=target)


def template(source: str, target: str, place: Path) -> None:
    """CREATE DATABASE .. TEMPLATE: other database, same OIDs and transaction ids; nobody may be connected."""
    admin = source.replace(f"dbname={_name(source)}", "dbname=postgres")
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {}").format(Identifier(_name(target))))
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(_name(target)), Identifier(_name(source))))


COPIES: tuple[Copy, ...] = (
    plain,
    custom,
    without_our_rows,
    without_our_tables,
    without_contents,
    by_sections,
    rows_after_everything,
    template,
)


def _name(dsn: str) -> str:
    return str(conninfo_to_dict(dsn)["dbname"])
