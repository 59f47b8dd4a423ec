"""The macros: one copy, and no logic in SQL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.servers import ROOT

MACROS = sorted((ROOT / "macros").rglob("*.sql"))
SQL_WORDS = re.compile(
    r"\b(select|insert|update|delete|create|alter|drop|truncate|merge|grant|revoke|begin|commit|rollback|from|where|join)\b(?!=)",
    re.IGNORECASE,
)
COMMENTS = re.compile(r"\{#.*?#\}", re.DOTALL)
STRINGS = re.compile(r"\"[^\"]*\"|'[^']*'")


@pytest.mark.parametrize("path", MACROS, ids=lambda path: path.name)
def test_macro_contains_no_sql(path: Path) -> None:
    code = STRINGS.sub("''", COMMENTS.sub("", path.read_text()))
    assert SQL_WORDS.findall(code) == []


def test_the_check_for_sql_would_notice_some() -> None:
    assert SQL_WORDS.findall("{% call statement('x') %} select 1 {% endcall %}") == ["select"]


def test_the_adapter_uses_the_same_files_as_the_package() -> None:
    included = ROOT / "adapter" / "dbt" / "include" / "pgtrickle" / "macros"
    assert included.resolve() == (ROOT / "macros").resolve()


def test_there_is_one_materialization_and_it_serves_package_and_wheel() -> None:
    found = [path for path in MACROS if "{% materialization" in path.read_text()]
    assert [path.name for path in found] == ["stream_table.sql"]
    assert "adapter='postgres'" in found[0].read_text()


def test_macros_of_another_version_are_refused_with_both_ways_out() -> None:
    from dbt.adapters.pgtrickle.impl import MACRO_VERSION, PgTrickleAdapter
    from dbt_common.exceptions import CompilationError

    for path in MACROS:
        assert (
            f"require_macro_version({MACRO_VERSION})" in path.read_text()
            or path.parent.name == "adapters"
            or (path.name == "upstream_names.sql")
        )
    with pytest.raises(CompilationError, match=r"dbt deps.*pip"):
        PgTrickleAdapter.require_macro_version(None, MACRO_VERSION + 1)  # type: ignore[arg-type]
