"""The operator trees of an explanation as a picture, one box per stage: Mermaid and DOT. Rows flow along the arrows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pgtrickle.explain.model import Explanation, OperatorExplanation, StageExplanation

_WIDTH = 48
#: Longer details are cut; the text and the JSON have them whole.
_LINES = 3


@dataclass(frozen=True, slots=True)
class _Edge:
    """From what is read to the reader; ``dashed`` where rows are read from a table."""

    start: str
    end: str
    dashed: bool = False


def to_mermaid(explanation: Explanation) -> str:
    """A Mermaid flowchart."""
    sources = _sources(explanation)
    lines = ["flowchart BT"]
    lines += [f'    {ident}[("{_mermaid(name)}")]' for name, ident in sources.items()]
    for stage in explanation.stages:
        lines.append(f'    subgraph stage{stage.number}["{_mermaid(_title(stage))}"]')
        for operator in stage.operators:
            label = "<br/>".join(map(_mermaid, _label(operator)))
            lines.append(f'        {operator.id}["{label}"]')
        lines.append("    end")
    lines.append(f'    result[("{_mermaid(_result(explanation))}")]')
    for edge in _edges(explanation, sources):
        lines.append(f"    {edge.start} {'-.->' if edge.dashed else '-->'} {edge.end}")
    return "\n".join(lines)


def to_dot(explanation: Explanation) -> str:
    """A Graphviz graph."""
    sources = _sources(explanation)
    lines = ["digraph plan {", "    rankdir=BT;", "    node [shape=box, fontname=Helvetica];"]
    lines += [f'    {ident} [shape=cylinder, label="{_dot(name)}"];' for name, ident in sources.items()]
    for stage in explanation.stages:
        lines.append(f"    subgraph cluster_stage{stage.number} {{")
        lines.append(f'        label="{_dot(_title(stage))}";')
        for operator in stage.operators:
            label = "\\n".join(map(_dot, _label(operator)))
            lines.append(f'        {operator.id} [label="{label}"];')
        lines.append("    }")
    lines.append(f'    result [shape=cylinder, label="{_dot(_result(explanation))}"];')
    for edge in _edges(explanation, sources):
        lines.append(f"    {edge.start} -> {edge.end}{' [style=dashed]' if edge.dashed else ''};")
    return "\n".join([*lines, "}"])


def _sources(explanation: Explanation) -> Mapping[str, str]:
    """The nodes of the sources, by name."""
    return {source.name: f"source{number}" for number, source in enumerate(explanation.sources)}


def _result(explanation: Explanation) -> str:
    return explanation.name or "the stream table"


def _title(stage: StageExplanation) -> str:
    return f"stage {stage.number}: {stage.strategy}"


def _label(operator: OperatorExplanation) -> list[str]:
    """What stands in a box: the operator, its details, its rule."""
    details = textwrap.wrap(operator.details, _WIDTH)
    if len(details) > _LINES:
        details = [*details[: _LINES - 1], f"{details[_LINES - 1][: _WIDTH - 4]} ..."]
    rule = [f"[{operator.rule}]"] if operator.rule else []
    return [operator.operator, *details, *rule]


def _edges(explanation: Explanation, sources: Mapping[str, str]) -> Iterator[_Edge]:
    tops = {f"stage {stage.number}": stage.operators[0].id for stage in explanation.stages}
    for stage in explanation.stages:
        scanned = {operator.reads for operator in stage.operators if operator.reads}
        for operator in stage.operators:
            yield from (_Edge(child, operator.id) for child in operator.inputs)
            if operator.reads:
                yield _Edge(tops.get(operator.reads) or sources[operator.reads], operator.id, dashed=True)
        # What only a subquery's text reads, or a query that is run as it stands, is read by the stage as a whole.
        for name in stage.inputs:
            if name not in scanned:
                yield _Edge(tops.get(name) or sources[name], stage.operators[0].id, dashed=True)
    yield _Edge(explanation.stages[-1].operators[0].id, "result", dashed=True)


def _mermaid(text: str) -> str:
    """Mermaid has no escapes inside a label but entities; ``<`` would begin a tag."""
    for char, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(char, entity)
    return text


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
