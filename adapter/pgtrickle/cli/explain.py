"""``pgtrickle explain``: how a stream table is maintained."""

from __future__ import annotations

import argparse
import textwrap

from pgtrickle.cli.arguments import add_name
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.results import Explanation, StageExplanation

HELP = "Show how a stream table is maintained: operators, strategy, delta SQL, gates."


def configure(parser: argparse.ArgumentParser) -> None:
    """Which one, and how much."""
    add_name(parser)
    parser.add_argument("--sql", action="store_true", help="show the delta SQL of each stage too")


def run(context: Context) -> Exit:
    """Print the explanation."""
    with context.engine() as engine:
        explanation = engine.explain(context.name(engine, context.args.name))
    show(context, explanation)
    return Exit.OK


def show(context: Context, explanation: Explanation) -> None:
    """An explanation for people or machines."""
    if context.json:
        context.print_json(explanation)
    else:
        context.print("\n".join(_lines(explanation, sql=context.args.sql)))


def _lines(explanation: Explanation, *, sql: bool) -> list[str]:
    lines = [f"{explanation.name or 'query'}: {explanation.mode}"]
    if explanation.full_reason:
        lines.append(f"  not DIFFERENTIAL because {explanation.full_reason}")
    lines += ["", "query", textwrap.indent(explanation.canonical, "  "), "", "columns"]
    lines += [f"  {name} {kind}" for name, kind in explanation.columns]
    lines += ["", "sources", *(f"  {source}" for source in explanation.sources)]
    for stage in explanation.stages:
        lines += ["", *_stage(stage, sql=sql)]
    if explanation.gates:
        lines += ["", "gates"]
        lines += [f"  {gate}: {word}" + (f" ({reason})" if reason else "") for gate, word, reason in explanation.gates]
    if explanation.notices:
        lines += ["", "notices", *(f"  {notice.code}: {notice.text}" for notice in explanation.notices)]
    return lines


def _stage(stage: StageExplanation, *, sql: bool) -> list[str]:
    lines = [
        f"stage {stage.number}: {stage.strategy}",
        f"  because {stage.reason}",
        f"  reads {', '.join(stage.inputs)}",
    ]
    lines.append(textwrap.indent(stage.tree, "    "))
    if sql and stage.delta_sql:
        lines += ["  delta", textwrap.indent(stage.delta_sql, "    ")]
    return lines
