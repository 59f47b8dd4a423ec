"""The reference says what the code says: generated pages are current, hand-written ones leave nothing out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / "docs" / "reference"


def _generator() -> object:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "tools" / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["errors.md", "explain.md", "python-api.md", "sql-support.md"])
def test_a_generated_page_is_what_its_source_says(name: str) -> None:
    wanted = _generator().pages()[name]  # pyright: ignore[reportAttributeAccessIssue]
    assert (REFERENCE / name).read_text() == wanted, "run python tools/reference_pages.py"


def test_every_configuration_key_is_described() -> None:
    from dbt.adapters.pgtrickle import config

    text = (REFERENCE / "dbt-config.md").read_text()
    missing = [key for key in (*config.ARGUMENTS, *config.OPTIONS, *config.REFUSED) if f"`{key}`" not in text]
    assert not missing


def test_every_operation_and_generic_test_is_described() -> None:
    text = (REFERENCE / "dbt-macros.md").read_text()
    missing = []
    for directory in ("operations", "tests"):
        for path in sorted((ROOT / "macros" / directory).glob("*.sql")):
            names = re.findall(r"{%-?\s*(?:macro|test)\s+(\w+)", path.read_text())
            missing += [name for name in names if not name.startswith("_") and f"`{name}" not in text]
    assert not missing


def test_every_strategy_is_described() -> None:
    from pgtrickle.plan import Strategy

    text = (REFERENCE.parent / "concepts" / "stages.md").read_text()
    assert not [strategy.value for strategy in Strategy if f"| {strategy.value} |" not in text]


def test_every_command_is_described() -> None:
    from pgtrickle.cli import COMMANDS

    text = (REFERENCE / "cli.md").read_text()
    assert not [name for name in COMMANDS if f"pgtrickle {name}" not in text]


def test_every_readable_view_of_the_catalog_is_described() -> None:
    text = (REFERENCE / "catalog.md").read_text()
    scripts = sorted((ROOT / "adapter" / "pgtrickle" / "catalog" / "migrations").glob("*.sql"))
    views = {
        name
        for path in scripts
        for name in re.findall(r"CREATE (?:OR REPLACE )?VIEW pgtrickle\.(\w+)", path.read_text())
    }
    assert views
    assert not [name for name in sorted(views) if f"pgtrickle.{name}" not in text]


def test_the_page_on_schema_changes_says_what_the_tests_say() -> None:
    from tests.support.schema_changes import table

    text = (REFERENCE.parent / "how-to" / "change-schemas.md").read_text()
    assert table() in text, "run python -m tests.support.schema_changes in adapter/"
