"""The layers of the architecture, checked on the imports of every module."""

from __future__ import annotations

import logging.config
from pathlib import Path

from importlinter import api

ROOT = Path(__file__).resolve().parents[3]


def test_imports_keep_every_contract(monkeypatch):
    monkeypatch.chdir(ROOT)
    configuration = api.read_configuration(config_filename="pyproject.toml")
    names = [contract["name"] for contract in configuration["contracts_options"]]
    assert "Layers point downwards" in names
    from importlinter.cli import lint_imports

    # It would switch off every logger that exists by now, for all tests that follow.
    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0
