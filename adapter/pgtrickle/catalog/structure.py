"""What the catalog is made of: tables as `tools/catalog_structure.py` wrote them down, code as migrations have it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from pgtrickle import db
from pgtrickle.catalog import installation
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.catalog", "structure.sql")

#: What migrations say about what can be made again: a function, a procedure, a view.
_SAID = re.compile(
    r"^(?:CREATE (?:OR REPLACE )?(?P<kind>FUNCTION|PROCEDURE) (?P<name>pgtrickle\.\w+)(?P<head>.*?)"
    r"AS \$\$(?P<body>.*?)\$\$;"
    r"|CREATE (?:OR REPLACE )?VIEW (?P<view>pgtrickle\.\w+) AS.*?;"
    r"|DROP (?P<dropped>(?:FUNCTION|PROCEDURE|VIEW) pgtrickle\.\w+)"
    r"|ALTER FUNCTION (?P<altered>pgtrickle\.\w+)\([^)]*\) (?:RENAME TO (?P<renamed>\w+)|SET (?P<setting>[^;]*));)",
    re.DOTALL | re.MULTILINE,
)
_SET = re.compile(r"\bSET (\w+) = ('[^']*'|.*?)(?= SET |\s*$|\n)", re.DOTALL)
_GRANT = re.compile(r"^GRANT [^;]*;$", re.DOTALL | re.MULTILINE)

Tables = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was made.

    Attributes:
        kind: ``code``, ``table``, ``index`` (constraints too) or ``stray``.
        object_name: what it is about.
        text: what is wrong with it.
        target: for `statements`; of a stray thing what drops it; empty where rows are gone with it.
    """

    kind: str
    object_name: str
    text: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Code:
    """A function, procedure or view of the catalog as the migrations leave it; of views only the statement is known."""

    statement: str
    body: str | None = None
    settings: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Present:
    name: str
    body: str | None
    settings: list[str]
    definer: bool


@cache
def expected_code() -> Mapping[str, Code]:
    """``KIND name`` -> what the migrations say last."""
    found: dict[str, Code] = {}
    for migration in installation.migrations():
        for said in _SAID.finditer(migration.script.as_string(None)):
            if said["kind"]:
                settings = frozenset(f"{one[1]}={one[2].strip(chr(39))}" for one in _SET.finditer(said["head"]))
                found[f"{said['kind']} {said['name']}"] = Code(said[0], said["body"], settings)
            elif said["view"]:
                found[f"VIEW {said['view']}"] = Code(said[0])
            elif said["dropped"]:
                found.pop(said["dropped"], None)
            else:
                _alter(found, said)
    return found


def _alter(found: dict[str, Code], said: re.Match[str]) -> None:
    code = found.pop(f"FUNCTION {said['altered']}")
    if said["renamed"]:
        name = f"pgtrickle.{said['renamed']}"
        found[f"FUNCTION {name}"] = replace(code, statement=code.statement.replace(said["altered"], name, 1))
    else:
        settings = code.settings | {said["setting"].replace(" = ", "=")}
        found[f"FUNCTION {said['altered']}"] = Code(f"{code.statement}\n{said[0]}", code.body, settings)


@cache
def expected_tables() -> Tables:
    """Table -> ``columns``, ``constraints``, ``indexes`` -> name -> what it is."""
    return json.loads(files("pgtrickle.catalog").joinpath("structure.json").read_text(encoding="utf-8"))


def present_tables(conn: db.Connection) -> Tables:
    """The same of this database."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in db.fetch_all(conn, _QUERIES["tables"], dict[str, Any]):
        of_table = found.setdefault(row["table_name"], {"columns": {}, "constraints": {}, "indexes": {}})
        if row["part"] is not None:
            of_table[row["part"]][row["name"]] = row["definition"]
    return found


def damages(conn: db.Connection) -> Iterator[Damage]:
    """What is missing from the catalog, or is not what it was."""
    here = present_tables(conn)
    for table, parts in expected_tables().items():
        if table in here:
            yield from _of_table(table, parts, here[table])
        else:
            yield Damage("table", f"pgtrickle.{table}", "it is missing")
    code = {one.name: one for one in db.fetch_all(conn, _QUERIES["code"], _Present)}
    known = {f"TABLE pgtrickle.{table}" for table in expected_tables()}
    for name in sorted({f"TABLE pgtrickle.{table}" for table in here} | set(code)):
        if name not in known and name not in expected_code():
            yield Damage("stray", name.split(" ")[1], "it is not the engine's", f"DROP {name}")
    for name, expected in expected_code().items():
        wrong = _wrong(expected, code.get(name))
        if wrong is not None:
            yield Damage("code", name.split(" ")[1], wrong, name)


def _of_table(
    table: str, expected: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]]
) -> Iterator[Damage]:
    for part, names in expected.items():
        for name, definition in names.items():
            if here[part].get(name) == definition:
                continue
            if part == "columns":
                yield Damage("table", f"pgtrickle.{table}", f"its column {name} is missing or was altered")
            else:
                word = "constraint" if part == "constraints" else "index"
                text = f"its {word} {name} is missing or was altered"
                yield Damage("index", f"pgtrickle.{table}", text, f"{table} {part} {name}")


def _wrong(code: Code, found: _Present | None) -> str | None:
    if found is None:
        return "it is missing"
    if code.body is None:
        return None  # servers print views in different ways
    if found.body != code.body or found.definer:
        return "it was replaced or altered"
    # Quoted where quote_all_identifiers was on.
    settings = frozenset(one.replace('"', "") for one in found.settings)
    return None if settings == code.settings else "it has other settings"


def statements(target: str) -> list[str]:
    """What makes the target of a damage again, to be executed in one transaction."""
    first, *rest = target.split(" ")
    if target in expected_code():
        again = re.sub(r"^CREATE (OR REPLACE )?", "CREATE OR REPLACE ", expected_code()[target].statement)
        return [again, *(_grants() if first == "VIEW" else ())]
    part, name = rest
    definition = expected_tables()[first][part][name]
    if part == "indexes":
        return [f'DROP INDEX IF EXISTS pgtrickle."{name}"', definition]
    table = f"ALTER TABLE pgtrickle.{first}"
    return [f'{table} DROP CONSTRAINT IF EXISTS "{name}"', f'{table} ADD CONSTRAINT "{name}" {definition}']


def _grants() -> list[str]:
    """What the migrations let others do."""
    return [
        one[0] for migration in installation.migrations() for one in _GRANT.finditer(migration.script.as_string(None))
    ]
