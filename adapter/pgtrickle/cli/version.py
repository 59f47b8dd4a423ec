"""``pgtrickle version``: what is installed here."""

from __future__ import annotations

import argparse
import platform

import psycopg

import pgtrickle
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit

HELP = "Show the versions of engine, Python and driver."
OFFLINE = True


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(context: Context) -> Exit:
    """Needs no database."""
    versions = {
        "pgtrickle": pgtrickle.__version__,
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "libpq": str(psycopg.pq.version()),
    }
    if context.json:
        context.print_json(versions)
    else:
        context.print("\n".join(f"{name} {version}" for name, version in versions.items()))
    return Exit.OK
