"""Ask the server what a query means, and compile it. The only part of the compiler that talks to a database."""

from __future__ import annotations

from pgtrickle.analyze.compile import Analysis, compile_query
from pgtrickle.analyze.probe import PINNED_SETTINGS, ProbeColumn

__all__ = ["PINNED_SETTINGS", "Analysis", "ProbeColumn", "compile_query"]
