"""A picture of the stream tables and what they read: Mermaid, DOT and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.catalog import access


@dataclass(frozen=True, slots=True)
class Node:
    """A stream table, or something that one reads.

    Attributes:
        name: qualified name.
        kind: ``stream_table``, ``table`` or ``uncaptured``.
        schedule: of a stream table.
        mode: of a stream table.
        status: of a stream table.
    """

    name: str
    kind: str
    schedule: str | None = None
    mode: str | None = None
    status: str | None = None

    @property
    def facts(self) -> tuple[str, ...]:
        """What is worth a second line in a picture."""
        shown = (self.schedule, self.mode, self.status if self.status != "ACTIVE" else None)
        return tuple(fact for fact in shown if fact)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Nodes by name, and edges (source, dependent)."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str
    dependent: str


def fetch_lineage(conn: db.Connection) -> Lineage:
    """All stream tables and what they read directly."""
    nodes = access.rows(conn, "fetch_lineage_nodes", Node)
    edges = access.rows(conn, "fetch_lineage_edges", _Edge)
    return Lineage(nodes, tuple((edge.source, edge.dependent) for edge in edges))


def to_mermaid(lineage: Lineage) -> str:
    """A Mermaid flowchart: base tables are cylinders."""
    ids = _ids(lineage)
    lines = ["flowchart LR"]
    for node in lineage.nodes:
        # Mermaid has no escape for quotes inside a label but the entity.
        label = "<br/>".join((node.name, *([", ".join(node.facts)] if node.facts else []))).replace('"', "#quot;")
        shape = ("[", "]") if node.kind == "stream_table" else ("[(", ")]")
        lines.append(f'    {ids[node.name]}{shape[0]}"{label}"{shape[1]}')
    lines += [f"    {ids[source]} --> {ids[dependent]}" for source, dependent in lineage.edges]
    return "\n".join(lines)


def to_dot(lineage: Lineage) -> str:
    """A Graphviz graph: base tables are cylinders."""
    lines = ["digraph stream_tables {", "    rankdir=LR;"]
    for node in lineage.nodes:
        shape = "box" if node.kind == "stream_table" else "cylinder"
        label = "\\n".join((_dot(node.name), *([_dot(", ".join(node.facts))] if node.facts else [])))
        lines.append(f'    "{_dot(node.name)}" [shape={shape}, label="{label}"];')
    lines += [f'    "{_dot(source)}" -> "{_dot(dependent)}";' for source, dependent in lineage.edges]
    return "\n".join([*lines, "}"])


def to_text(lineage: Lineage) -> str:
    """A tree below each source; what was shown already is only named again, with an ellipsis."""
    below: dict[str, list[str]] = {}
    for source, dependent in lineage.edges:
        below.setdefault(source, []).append(dependent)
    nodes = {node.name: node for node in lineage.nodes}
    has_source = {dependent for _, dependent in lineage.edges}
    lines: list[str] = []
    shown: set[str] = set()

    def walk(name: str, depth: int) -> None:
        node = nodes[name]
        more = " ..." if name in shown and below.get(name) else ""
        lines.append("  " * depth + name + (f" ({', '.join(node.facts)})" if node.facts else "") + more)
        if name not in shown:
            shown.add(name)
            for dependent in below.get(name, ()):
                walk(dependent, depth + 1)

    for name in nodes:
        if name not in has_source:
            walk(name, 0)
    return "\n".join(lines) or "there are no stream tables"


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _ids(lineage: Lineage) -> Mapping[str, str]:
    return {node.name: f"n{number}" for number, node in enumerate(lineage.nodes)}


FORMATS: Mapping[str, Callable[[Lineage], str]] = {"mermaid": to_mermaid, "dot": to_dot, "text": to_text}
