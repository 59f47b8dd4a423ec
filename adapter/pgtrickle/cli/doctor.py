"""``pgtrickle doctor``: what is wrong, and how it is mended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.cli.progress import progress
from pgtrickle.results import Finding

HELP = "Look at everything that could be wrong, say what is and what to do. Exits with 5 if something is."


def configure(parser: argparse.ArgumentParser) -> None:
    """Whether to mend."""
    parser.add_argument("--fix", action="store_true", help="mend what can be mended")


def run(context: Context) -> Exit:
    """Print what was found."""
    with context.engine() as engine, progress("examining"):
        findings = engine.doctor(fix=context.args.fix)
    if context.json:
        context.print_json(findings)
    else:
        rows = [(_word(one), one.code, one.object_name, one.text, "" if one.fixed else one.remedy) for one in findings]
        context.print_table(("", "code", "object", "what is wrong", "what to do"), rows, "nothing is wrong")
    return exit_code(findings)


def exit_code(findings: Sequence[Finding]) -> Exit:
    """Notes are no complaints."""
    return Exit.UNHEALTHY if any(not one.fixed and one.severity != "NOTE" for one in findings) else Exit.OK


def _word(finding: Finding) -> str:
    return "FIXED" if finding.fixed else finding.severity
