"""The command ``pgtrickle``. The only layer that prints.

To add a verb: a module with ``HELP``, ``configure(parser)`` and ``run(context) -> Exit``, and its line in ``COMMANDS``.
"""

from __future__ import annotations

from pgtrickle.cli.main import COMMANDS, main

__all__ = ["COMMANDS", "main"]
