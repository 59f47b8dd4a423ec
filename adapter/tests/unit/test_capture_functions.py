"""The text of trigger functions."""

from __future__ import annotations

from pgtrickle.capture.functions import Shape, bodies, create_function
from pgtrickle.capture.relations import Column
from pgtrickle.catalog.model import Snapshot

COLUMN = Column(2, 'a "b" %', 23, 23, "pg_catalog", "int4", None, None, 0)

#: Of the tables that capture has not met.
_CATALOG_JOINS = 2


def shape(**changes: object) -> Shape:
    """A shape with one column."""
    fields: dict[str, object] = {
        "source_id": 7,
        "relid": 16400,
        "columns": (COLUMN,),
        "rows": True,
        "level": "statement",
        "partition": None,
        "limit_bytes": 1000,
        "truncate_rows": 10,
    }
    return Shape(**{**fields, **changes})  # type: ignore[arg-type]


def test_names_are_quoted_in_static_statements() -> None:
    body = bodies(shape(), has_ancestors=False)["f_7"]
    assert '"r"."a ""b"" %"' in body
    assert "EXECUTE" not in body


def test_ancestors_are_filtered_by_the_partition_constraint() -> None:
    made = bodies(shape(partition="(k < 10)"), has_ancestors=True)
    assert "WHERE (k < 10)" in made["a_7"]
    assert "WHERE (k < 10)" not in made["f_7"]


def test_row_level_capture_needs_nothing_above_the_source() -> None:
    assert set(bodies(shape(level="row"), has_ancestors=True)) == {"r_7", "t_7"}


def test_what_statements_of_tables_above_would_mix_up_is_captured_by_row() -> None:
    assert set(bodies(shape(level="mixed"), has_ancestors=True)) == {"f_7", "r_7", "t_7"}


def test_marks_name_no_columns() -> None:
    assert all("c2" not in body for body in bodies(shape(rows=False), has_ancestors=True).values())


def test_snapshot_reads_what_the_server_writes() -> None:
    for text in ("10:20:12,15", "10:10:"):
        assert str(Snapshot.parse(text)) == text


def test_plans_of_trigger_functions_are_not_compiled() -> None:
    # A plan that was made for ten million rows is kept, and would be compiled for each statement of one row.
    assert "SET jit = off" in create_function("f_7", "BEGIN END").as_string(None)


def test_rows_are_paired_by_full_joins_only() -> None:
    # Other joins may be nested loops, which a plan made for two rows is, for a million rows too.
    body = bodies(shape(key=("k",), alone=True), has_ancestors=False)["f_7"]
    assert (
        body.count("FULL JOIN") == body.count("JOIN") - body.count("LEFT JOIN old_rows AS o ON true") - _CATALOG_JOINS
    )


def test_the_first_part_of_a_statement_has_no_parameters() -> None:
    # With them, PostgreSQL plans the statement anew each time.
    body = bodies(shape(alone=True), has_ancestors=False)["f_7"]
    assert "LIMIT 10000;" in body.split("WHILE")[0]
    assert "own." not in body.split("WHILE")[0]


def test_a_function_that_fires_for_one_table_asks_the_planner_for_its_columns() -> None:
    alone, several = (bodies(shape(alone=alone), has_ancestors=False)["f_7"] for alone in (True, False))
    assert "columns_fit('16400'::pg_catalog.regclass" in alone
    assert 'pg_typeof("r"' not in alone
    assert '"a ""b"" %%"' in alone
    assert "columns_fit" not in several
    assert 'pg_typeof("r"."a ""b"" %")' in several
