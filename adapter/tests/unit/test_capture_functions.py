"""The text of trigger functions."""

from __future__ import annotations

from pgtrickle.capture.functions import Shape, bodies, create_function
from pgtrickle.capture.relations import Column
from pgtrickle.catalog.model import Snapshot

COLUMN = Column(2, 'a "b" %', 23, 23, "pg_catalog", "int4", None, None, 0)


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


def test_plans_that_avoid_nested_loops_are_not_compiled() -> None:
    # Before version 18 a disabled node costs ten billion, which is far beyond jit_above_cost: 60 ms for one row.
    text = create_function("f_7", "BEGIN END").as_string(None)
    assert "SET enable_nestloop = off" in text
    assert "SET jit = off" in text
