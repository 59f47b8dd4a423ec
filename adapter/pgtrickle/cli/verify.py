"""``pgtrickle verify``: prove that stream tables equal their queries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pgtrickle.cli.arguments import add_names, need_names
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress
from pgtrickle.results import VerifyResult

HELP = "Prove that stream tables equal their queries: refresh differentially, compare, roll back."
_WORDS = {True: "EQUAL", False: "DIFFERENT", None: "NOT PROVEN"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Which ones."""
    add_names(parser, "verify")
    parser.add_argument("--state", action="store_true", help="compare what refreshes keep as state, too")
    parser.add_argument("--repair", action="store_true", help="if one differs, recompute it by difference and commit")


def run(context: Context) -> Exit:
    """Each in a transaction of its own; works under load."""
    args = context.args
    need_names(args)
    results: list[VerifyResult] = []
    with context.engine() as engine:
        names = [context.name(engine, name) for name in args.names] or [row.name for row in engine.status()]
        for name in names:
            with progress(f"verifying {name}"):
                results.append(engine.verify(name, repair=args.repair, state=args.state))
    if context.json:
        context.print_json(results)
    else:
        rows = [(r.name, _word(r), r.missing, r.extra, r.reason) for r in results]
        context.print_table(("name", "verdict", "missing", "extra", "reason"), rows, "there are no stream tables")
    return exit_code(results)


def exit_code(results: Sequence[VerifyResult]) -> Exit:
    """The worst of all: a difference, then what could not be proven."""
    if any(result.proven is False for result in results):
        return Exit.DIFFERENT
    if any(result.proven is None for result in results):
        return Exit.NOT_PROVEN
    return Exit.OK


def _word(result: VerifyResult) -> str:
    return _WORDS[result.proven] + (", REPAIRED" if result.repaired else "")
