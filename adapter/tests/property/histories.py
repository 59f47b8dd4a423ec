"""Random histories: what applications do to base tables between two refreshes."""

from __future__ import annotations

from collections.abc import Callable

from tests.property.choices import Choices, chance, pick, weighted
from tests.property.schemas import GENERATED, Table, draw_condition, draw_insert, draw_value, reached, target

Change = list[str]
"""Statements of one transaction; a single one is sent without BEGIN."""


def draw_window(choices: Choices, tables: list[Table]) -> list[Change]:
    """The transactions between two refreshes; none at all is possible."""
    changes: list[Change] = []
    for _ in range(choices.integer(0, 4)):
        changes.append(draw_transaction(choices, tables))
    return changes


def draw_transaction(choices: Choices, tables: list[Table]) -> Change:
    """One transaction: a statement, several, or several that are taken back wholly or in part."""
    shape = weighted(
        choices,
        [(6, "single"), (3, "several"), (1, "rolled back"), (1, "savepoint"), (1, "moved and gone"), (1, "again")],
    )
    if shape == "moved and gone":
        return ["BEGIN", _move_key(choices, pick(choices, tables), tables), _leave(choices, tables), "COMMIT"]
    if shape == "again":
        return ["BEGIN", *_delete_and_insert_again(pick(choices, tables)), "COMMIT"]
    if shape == "single":
        return [draw_statement(choices, pick(choices, tables), tables)]
    statements = [
        draw_statement(choices, pick(choices, tables), tables, in_transaction=True)
        for _ in range(choices.integer(1, 3))
    ]
    if shape == "several":
        return ["BEGIN", *statements, "COMMIT"]
    if shape == "rolled back":
        return ["BEGIN", *statements, "ROLLBACK"]
    last = draw_statement(choices, pick(choices, tables), tables, in_transaction=True)
    return ["BEGIN", last, "SAVEPOINT a", *statements, "ROLLBACK TO SAVEPOINT a", "COMMIT"]


def _leave(choices: Choices, tables: list[Table]) -> str:
    """Rows that a join partner may just have moved to, or from, are deleted."""
    table = pick(choices, tables)
    return f"DELETE FROM {table.qualified} WHERE k = {choices.integer(0, 3)}"


def _delete_and_insert_again(table: Table) -> Change:
    """The same rows afterwards as before, though every one was touched."""
    columns = ", ".join(column.name for column in table.written)
    return [
        f"CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT {columns} FROM {table.qualified}",
        f"DELETE FROM {table.qualified}",
        f"INSERT INTO {table.qualified} ({columns}) SELECT {columns} FROM kept",
    ]


def draw_statement(choices: Choices, table: Table, tables: list[Table], *, in_transaction: bool = False) -> str:
    """One statement on a table."""
    kinds: list[tuple[int, Callable[[Choices, Table, list[Table]], str]]] = [
        (8, _insert),
        (6, _update),
        (5, _delete),
        (2, _move_key),
        (1, _touch),
        (1, _delete_all),
        (1, _duplicate),
        (1, _two_tables),
        (1, _upsert),
        (1, _update_from),
        (1, _swap),
        (1, _merge),
    ]
    if not in_transaction:
        kinds.append((1, _truncate))
    if any(column.generated is not None for column in table.columns):
        kinds.append((1, _generate))
    return weighted(choices, kinds)(choices, table, tables)


def _insert(choices: Choices, table: Table, tables: list[Table]) -> str:
    return draw_insert(choices, table, 4)


def _update(choices: Choices, table: Table, tables: list[Table]) -> str:
    columns = [column for column in table.written if column.name != table.key]
    column = pick(choices, columns)
    where = f" WHERE {draw_condition(choices, table)}" if not chance(choices, 15) else ""
    return f"UPDATE {reached(choices, table)} SET {column.name} = {draw_value(choices, column)}{where}"


def _delete(choices: Choices, table: Table, tables: list[Table]) -> str:
    return f"DELETE FROM {reached(choices, table)} WHERE {draw_condition(choices, table)}"


def _move_key(choices: Choices, table: Table, tables: list[Table]) -> str:
    step = pick(choices, ("100", "1", "-1"))
    return f"UPDATE {reached(choices, table)} SET k = k + {step} WHERE {draw_condition(choices, table)}"


def _touch(choices: Choices, table: Table, tables: list[Table]) -> str:
    column = table.columns[1].name
    return f"UPDATE {table.qualified} SET {column} = {column}"


def _delete_all(choices: Choices, table: Table, tables: list[Table]) -> str:
    return f"DELETE FROM {reached(choices, table)}"


def _duplicate(choices: Choices, table: Table, tables: list[Table]) -> str:
    others = ", ".join(column.name for column in table.written[1:])
    key = "k + 50" if table.key else "k"
    return (
        f"INSERT INTO {target(table, table.qualified)} SELECT {key}, {others} FROM {table.qualified} WHERE k < 50"
        " ON CONFLICT DO NOTHING"
    )


def _two_tables(choices: Choices, table: Table, tables: list[Table]) -> str:
    other = pick(choices, tables)
    return (
        f"WITH gone AS (DELETE FROM {table.qualified} WHERE {draw_condition(choices, table)} RETURNING k)"
        f" DELETE FROM {other.qualified} WHERE k IN (SELECT k FROM gone)"
        if other != table
        else f"DELETE FROM {table.qualified} WHERE k > 1"
    )


def _upsert(choices: Choices, table: Table, tables: list[Table]) -> str:
    if table.key is None:
        return draw_insert(choices, table, 2)
    column = table.columns[1].name
    return draw_insert(choices, table, 1).replace("DO NOTHING", f"(k) DO UPDATE SET {column} = excluded.{column}")


def _update_from(choices: Choices, table: Table, tables: list[Table]) -> str:
    """Columns that joins read take values of another table."""
    other = pick(choices, tables)
    column = pick(choices, [each for each in table.written if each.name != table.key] or list(table.written))
    same = [each.name for each in other.columns if each.type is column.type and each.nullable <= column.nullable]
    if other == table or not same:
        return _update(choices, table, tables)
    return (
        f"UPDATE {table.qualified} AS mine SET {column.name} = theirs.{pick(choices, same)}"
        f" FROM {other.qualified} AS theirs WHERE theirs.k = mine.k"
    )


def _swap(choices: Choices, table: Table, tables: list[Table]) -> str:
    """Two keys change places: rows leave and come under the same key."""
    return f"UPDATE {table.qualified} SET k = CASE k WHEN 1 THEN 2 ELSE 1 END WHERE k IN (1, 2)"


def _merge(choices: Choices, table: Table, tables: list[Table]) -> str:
    """MERGE, which PostgreSQL 14 does not know: rows are updated (also moved to another partition), deleted, added."""
    keys = ", ".join(f"({choices.integer(0, 4)})" for _ in range(choices.integer(1, 3)))
    column = pick(choices, [each for each in table.written if each.name != table.key] or list(table.written))
    values = [draw_value(choices, each) if each.name != table.key else "theirs.k" for each in table.written]
    names = ", ".join(each.name for each in table.written)
    update = pick(choices, (f"{column.name} = {draw_value(choices, column)}", "k = mine.k + 1", "k = 1 - mine.k"))
    actions = [
        " WHEN MATCHED AND theirs.k = 2 THEN DELETE" if chance(choices, 40) else "",
        f" WHEN MATCHED THEN UPDATE SET {update}",
        f" WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({', '.join(values)})" if chance(choices, 40) else "",
    ]
    source = f"(VALUES {keys}) AS theirs (k) ON theirs.k = mine.k"
    return f"MERGE INTO {table.qualified} AS mine USING {source}{''.join(actions)}"


def _generate(choices: Choices, table: Table, tables: list[Table]) -> str:
    """A generated column gets another expression (from PostgreSQL 17 on): all its values change without a write."""
    column = next(each.name for each in table.columns if each.generated is not None)
    return f"ALTER TABLE {table.qualified} ALTER COLUMN {column} SET EXPRESSION AS ({pick(choices, GENERATED)})"


def _truncate(choices: Choices, table: Table, tables: list[Table]) -> str:
    return f"TRUNCATE {reached(choices, table)}"
