"""Put one relation in the place of another without dropping what reads it.

dbt-postgres drops a replaced relation with CASCADE: its views disappear until dbt builds them again, hours later or
never. Here the views that read it are pointed to the new relation within the same transaction, keeping their OID,
grants and comments; what cannot be pointed elsewhere stops the swap and is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from dbt.adapters.pgtrickle import queries
from dbt.adapters.pgtrickle.relation import PgTrickleRelation
from dbt_common.exceptions import DbtDatabaseError, DbtRuntimeError
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal
from typing_extensions import LiteralString

Fetch = Callable[[Composable], list[dict[str, Any]]]
Run = Callable[[Composable], None]

_KINDS = {"table": SQL("TABLE"), "view": SQL("VIEW"), "materialized_view": SQL("MATERIALIZED VIEW")}


@dataclass(frozen=True, slots=True)
class DependentView:
    """A view as it is before the swap.

    Attributes:
        schema: schema name.
        name: view name.
        query: its definition, as the server prints it, with the names of before.
        options: ``security_barrier=true`` and the like.
    """

    schema: str
    name: str
    query: str
    options: tuple[str, ...]

    def statement(self) -> Composed:
        """The statement that binds the view again to whatever has those names now."""
        # The server printed the definition: it is a statement, not a value.
        return SQL("CREATE OR REPLACE VIEW {} {} AS {}").format(
            Identifier(self.schema, self.name), self._with(), SQL(cast(LiteralString, self.query.rstrip().rstrip(";")))
        )

    def _with(self) -> Composable:
        if not self.options:
            return SQL("")
        pairs = (option.partition("=") for option in self.options)
        return SQL("WITH ({})").format(
            SQL(", ").join(SQL("{} = {}").format(Identifier(key), Literal(value)) for key, _, value in pairs)
        )


def readers(fetch: Fetch, relation: PgTrickleRelation) -> tuple[DependentView, ...]:
    """The views that read a relation.

    Raises:
        DbtRuntimeError: a materialized view or a foreign key depends on it; those cannot be pointed elsewhere.
    """
    schema, name = relation.stored_schema, relation.stored_identifier
    views = fetch(queries.dependent_views(schema, name))
    fixed = [f"materialized view {row['schema']}.{row['name']}" for row in views if row["kind"] == "m"]
    fixed += [
        f"foreign key {row['constraint_name']} of {row['schema']}.{row['name']}"
        for row in fetch(queries.referencing_keys(schema, name))
    ]
    if fixed:
        raise DbtRuntimeError(_refusal(relation, fixed))
    return tuple(
        DependentView(row["schema"], row["name"], row["query"], tuple(filter(None, (row["options"] or "").split(","))))
        for row in views
        if row["kind"] == "v"
    )


def point_to_new(run: Run, relation: PgTrickleRelation, views: Iterable[DependentView]) -> None:
    """Bind views to the relation that has the old one's name by now.

    Raises:
        DbtRuntimeError: the new relation lacks a column that a view reads, or has it with another type.
    """
    for view in views:
        try:
            run(view.statement())
        except DbtDatabaseError as error:
            reason = str(error.msg).strip().splitlines()[0]
            raise DbtRuntimeError(_refusal(relation, [f"view {view.schema}.{view.name} ({reason})"])) from error


def rename(relation: PgTrickleRelation, new_name: str) -> Composed:
    """The statement that renames a relation; ALTER TABLE takes views too."""
    return SQL("ALTER TABLE {} RENAME TO {}").format(_identifier(relation), Identifier(new_name))


def drop(relation: PgTrickleRelation) -> Composed:
    """The statement that drops an ordinary relation and nothing else."""
    return SQL("DROP {} {}").format(_KINDS[str(relation.type)], _identifier(relation))


def _identifier(relation: PgTrickleRelation) -> Identifier:
    return Identifier(relation.stored_schema, relation.stored_identifier)


def _refusal(relation: PgTrickleRelation, dependents: Iterable[str]) -> str:
    listed = "\n".join(f"  - {dependent}" for dependent in dependents)
    return (
        f"{relation.engine_name} cannot be replaced, other objects depend on it:\n{listed}\n"
        "Nothing is dropped behind your back: drop or change them first, then run the model again."
    )
