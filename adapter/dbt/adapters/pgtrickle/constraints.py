"""The constraints of a model's contract, as real constraints on its stream table.

A refresh that would violate one fails and leaves the old content, so they hold for every content ever shown.
Constraints of ours carry a comment with the hash of their definition: that is how a changed one is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dbt.adapters.pgtrickle import queries
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal
from typing_extensions import LiteralString

Render = Callable[[dict[str, Any]], "str | None"]
Fetch = Callable[[Composable], list[dict[str, Any]]]

MARK = "dbt-pgtrickle:"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A table constraint: the SQL after ``ADD CONSTRAINT <name>``."""

    name: str
    definition: str

    @property
    def mark(self) -> str:
        """The comment that says what it was made from."""
        return MARK + hashlib.sha256(self.definition.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a contract asks of a table."""

    not_null: frozenset[str]
    constraints: tuple[Constraint, ...]


def wanted(model: Mapping[str, Any], table: str, render: Render, quote: Callable[[str], str]) -> Wanted:
    """Read the constraints of a model.

    Args:
        model: the node, with ``columns`` and ``constraints``.
        table: the table's name, for the names of unnamed constraints.
        render: dbt's rendering of a model-level constraint, None for one the adapter does not support.
        quote: dbt's quoting of an identifier.
    """
    not_null: set[str] = set()
    raw: list[dict[str, Any]] = []
    for column in (model.get("columns") or {}).values():
        for one in column.get("constraints") or []:
            stored = column["name"] if column.get("quote") else column["name"].lower()
            if one["type"] == "not_null":
                not_null.add(stored)
            else:
                raw.append({**one, "columns": [quote(stored)]})
    for one in model.get("constraints") or []:
        if one["type"] == "not_null":
            not_null.update(name.lower() for name in one.get("columns") or [])
        else:
            raw.append(dict(one))
    return Wanted(frozenset(not_null), tuple(_rendered(raw, table, render)))


def _rendered(raw: list[dict[str, Any]], table: str, render: Render) -> Iterator[Constraint]:
    for one in raw:
        definition = render({**one, "name": None})
        if definition:
            digest = hashlib.sha256(definition.encode()).hexdigest()[:8]
            yield Constraint(one.get("name") or f"{table[:50]}_{digest}", definition)


def obsolete(fetch: Fetch, relation: PgTrickleRelation, want: Wanted) -> list[Composed]:
    """The statements that drop what the contract does not ask for any more; the engine itself makes no constraints."""
    table = Identifier(relation.stored_schema, relation.stored_identifier)
    gone = sorted(_present(fetch, relation) - {(one.name, one.mark) for one in want.constraints})
    rows = fetch(queries.not_null_columns(relation.stored_schema, relation.stored_identifier))
    free = sorted(row["name"] for row in rows if row["name"] not in want.not_null and not row["in_key"])
    return [
        *(SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, Identifier(name)) for name, _ in gone),
        *(SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table, Identifier(column)) for column in free),
    ]


def missing(fetch: Fetch, relation: PgTrickleRelation, want: Wanted) -> list[Composed]:
    """The statements that add what the table lacks; constraints that are not ours are left alone."""
    place = (relation.stored_schema, relation.stored_identifier)
    have, table = _present(fetch, relation), Identifier(*place)
    statements: list[Composed] = []
    for one in want.constraints:
        if (one.name, one.mark) not in have:
            # A constraint's expression is SQL of the model's author, as everything in a model.
            name, definition = Identifier(one.name), SQL(cast(LiteralString, one.definition))
            statements.append(SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(table, name, definition))
            statements.append(SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(name, table, Literal(one.mark)))
    nullable = sorted(want.not_null - {row["name"] for row in fetch(queries.not_null_columns(*place))})
    statements += [
        SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL").format(table, Identifier(one)) for one in nullable
    ]
    return statements


def _present(fetch: Fetch, relation: PgTrickleRelation) -> set[tuple[str, str]]:
    rows = fetch(queries.marked_constraints(relation.stored_schema, relation.stored_identifier))
    return {(row["name"], row["mark"]) for row in rows if row["mark"].startswith(MARK)}
