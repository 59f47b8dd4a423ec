"""An explanation as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from pgtrickle.explain.model import (
    DeltaExplanation,
    Explanation,
    IndexAdvice,
    OperatorExplanation,
    SourceExplanation,
    StageExplanation,
    StatementExplanation,
    TableExplanation,
)

_WIDTH = 100
#: An index on a table below this size hardly matters.
SMALL_BYTES = 64 * 1024


def to_text(explanation: Explanation, *, sql: bool = False) -> str:
    """The whole explanation.

    Args:
        explanation: what to show.
        sql: with the statements per changed source, which are long.
    """
    sections: list[tuple[str, Iterable[str]]] = [
        ("query", explanation.canonical.splitlines()),
        ("columns", _columns(explanation.columns)),
        ("sources", (line for source in explanation.sources for line in _source(source))),
        ("rewrites", _columns([(rewrite.step, rewrite.text) for rewrite in explanation.rewrites])),
        *((f"stage {stage.number}: {stage.strategy}", _stage(stage)) for stage in explanation.stages),
        ("tables", (line for table in explanation.tables for line in _table(table))),
        ("index advice", (line for advice in explanation.advice for line in _advice(advice))),
        ("cost so far", _cost(explanation)),
        ("gates", _columns([(gate, f"{word} {f'({why})' if why else ''}") for gate, word, why in explanation.gates])),
        ("notices", _columns([(notice.code, notice.text) for notice in explanation.notices])),
    ]
    if sql:
        sections += [(_delta_title(explanation.mode, delta), _delta(delta)) for delta in explanation.deltas]
    lines = list(_head(explanation))
    for title, content in sections:
        shown = [f"  {line}".rstrip() for line in content]
        lines += ["", title, *shown] if shown else []
    return "\n".join(lines)


def _head(explanation: Explanation) -> Iterator[str]:
    asked = f" (asked for: {explanation.requested_mode})" if explanation.requested_mode != explanation.mode else ""
    yield f"{explanation.name or 'query'}: {explanation.mode}{asked}"
    if explanation.full_reason:
        yield f"  not DIFFERENTIAL because {explanation.full_reason}"


def _columns(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Two aligned columns; the second is wrapped."""
    width = max((len(left) for left, _ in pairs), default=0)
    for left, right in pairs:
        first, *rest = textwrap.wrap(right, max(_WIDTH - width - 4, 40)) or [""]
        yield f"{left.ljust(width)}  {first}".rstrip()
        yield from (f"{' ' * width}  {line}" for line in rest)


def _source(source: SourceExplanation) -> Iterator[str]:
    yield f"{source.name} ({', '.join(source.columns)})"
    what = "changes" if source.rows else "only the fact of a change"
    where = f"{what} in {source.changes}" if source.changes else "cannot be watched"
    through = ", ".join(str(number) for number in source.stages)
    yield f"  {where}; run through stage{'s' * (len(source.stages) > 1)} {through}"


# --- stages -----------------------------------------------------------------------------------------------------------


def _stage(stage: StageExplanation) -> Iterator[str]:
    yield from _wrapped("because ", stage.reason)
    yield f"reads {', '.join(stage.inputs) or 'nothing'}"
    key = "rows may be duplicates" if stage.key is None else f"key ({', '.join(stage.key)})"
    yield f"writes {stage.output}, {key}"
    yield from (f"  {line}" for line in stage.tree.splitlines())
    yield "rules"
    for rule, operators in _by_rule(stage.operators):
        yield from (f"  {line}" for line in _rule(rule, operators))


def _by_rule(operators: Sequence[OperatorExplanation]) -> list[tuple[str, list[OperatorExplanation]]]:
    found: dict[str, list[OperatorExplanation]] = {}
    for operator in operators:
        found.setdefault(operator.rule, []).append(operator)
    return [(rule, members) for rule, members in found.items() if rule]


def _rule(rule: str, operators: list[OperatorExplanation]) -> Iterator[str]:
    yield from _wrapped(f"[{rule}] ", operators[0].says)
    reasons: dict[str, list[str]] = {}
    for operator in operators:
        reasons.setdefault(operator.why, []).append(operator.operator)
    for why, names in reasons.items():
        yield from (f"  {line}" for line in _wrapped(f"{', '.join(dict.fromkeys(names))}: ", why))


def _wrapped(head: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(head + text, _WIDTH, subsequent_indent="  ")


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(table: TableExplanation) -> Iterator[str]:
    owner = f" of stage {table.stage}" if table.stage is not None else ""
    yield f"{table.name}: {table.role}{owner}{_size(table)}"
    yield from (f"  {line}" for line in _wrapped(f"up to {table.writes} per changed row: ", table.cost))
    yield from (f"  {line}" for index in table.indexes for line in f"{index};".splitlines())


def _size(table: TableExplanation) -> str:
    if not table.exists or table.bytes is None:
        return ""
    rows = "rows not known" if table.rows is None else f"{'' if table.exact else 'about '}{table.rows} rows"
    return f", {rows}, {human_bytes(table.bytes)}"


def human_bytes(count: int) -> str:
    """A size for people.

    >>> human_bytes(512), human_bytes(81920), human_bytes(3 * 1024 ** 3)
    ('512 bytes', '80 kB', '3072 MB')
    """
    if count < 10 * 1024:
        return f"{count} bytes"
    return f"{count // 1024} kB" if count < 10 * 1024 * 1024 else f"{count // 1024**2} MB"


def _advice(advice: IndexAdvice) -> Iterator[str]:
    small = "; hardly matters before it grows" if advice.table_bytes < SMALL_BYTES else ""
    yield f"{advice.statement};"
    yield f"  {advice.reason}; {advice.table} has {human_bytes(advice.table_bytes)}{small}"


def _cost(explanation: Explanation) -> Iterator[str]:
    cost = explanation.cost
    if cost is None:
        return
    for value, text in (
        (cost.full_ms, "a full evaluation"),
        (cost.small_ms, "a differential refresh of a small window"),
        (cost.change_ms, "per change in large windows"),
    ):
        if value is not None:
            yield f"{value:.3g} ms {text}"
    if explanation.requested_mode == "AUTO" and explanation.mode == "DIFFERENTIAL":
        yield f"recomputed from {cost.full_from} changes on; the sources have about {cost.source_rows} rows"


# --- statements -------------------------------------------------------------------------------------------------------


def _delta_title(mode: str, delta: DeltaExplanation) -> str:
    return f"when {' and '.join(delta.changed)} changed" if mode == "DIFFERENTIAL" else "whatever changed"


def _delta(delta: DeltaExplanation) -> Iterator[str]:
    for statement in delta.statements:
        yield f"stage {statement.stage}"
        yield from (f"  {line}" for line in _statement(statement))


def _statement(statement: StatementExplanation) -> Iterator[str]:
    if statement.tree is not None:
        yield "delta"
        yield from (f"  {line}" for line in statement.tree.splitlines())
    yield "statement"
    yield from (f"  {line}" for line in statement.sql.splitlines())
    yield from (f"  -- ${number}: {text}" for number, text in enumerate(statement.parameters, 1))
