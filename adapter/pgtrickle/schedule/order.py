"""The DAG of stream tables: cycles, ancestors, order, levels, diamonds, groups. Pure; the algorithms are networkx's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from pgtrickle.errors import DependencyCycle


@dataclass(frozen=True, slots=True)
class Diamond:
    """A stream table that reads a common ancestor on more than one path.

    Attributes:
        top: the common ancestor.
        bottom: where the paths meet again.
        members: both, and all stream tables on the paths between them.
    """

    top: int
    bottom: int
    members: frozenset[int]


class Dag:
    """Which stream table reads which; nodes are OIDs (or any other integers)."""

    def __init__(
        self, nodes: Iterable[int], edges: Iterable[tuple[int, int]], names: Mapping[int, str] | None = None
    ) -> None:
        """Build it.

        Args:
            nodes: all stream tables.
            edges: pairs (source, dependent); edges to unknown nodes are base tables and left out.
            names: for messages.

        Raises:
            DependencyCycle: naming the circle.
        """
        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from(sorted(nodes))
        graph.add_edges_from((s, d) for s, d in edges if s in graph and d in graph)
        self._graph = graph
        self._names = names or {}
        self._refuse_cycles()
        position = {node: number for number, node in enumerate(nx.lexicographical_topological_sort(graph))}
        self._position: Mapping[int, int] = position

    def _refuse_cycles(self) -> None:
        try:
            circle = nx.find_cycle(self._graph)
        except nx.NetworkXNoCycle:
            return
        path = " -> ".join(self._name(edge[0]) for edge in [*circle, circle[0]])
        raise DependencyCycle(
            "The stream tables depend on each other in a circle.",
            object_name=self._name(circle[0][0]),
            detail=path,
            hint="Circular dependencies are not supported: let one of them read the base tables instead.",
        )

    def _name(self, node: int) -> str:
        return self._names.get(node, str(node))

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs (source, dependent), sorted."""
        return tuple(sorted(self._graph.edges))

    def ordered(self, nodes: Iterable[int] | None = None) -> tuple[int, ...]:
        """These nodes (default: all), sources before their dependents, otherwise by number."""
        return tuple(sorted(self._position if nodes is None else set(nodes), key=self._position.__getitem__))

    def sources(self, node: int) -> tuple[int, ...]:
        """The stream tables it reads directly."""
        return tuple(sorted(self._graph.predecessors(node)))

    def dependents(self, node: int) -> tuple[int, ...]:
        """The stream tables that read it directly."""
        return tuple(sorted(self._graph.successors(node)))

    def ancestors(self, nodes: Iterable[int]) -> frozenset[int]:
        """All that these read, directly or not; without themselves unless one reads the other."""
        return frozenset().union(*(nx.ancestors(self._graph, node) for node in nodes))

    def descendants(self, nodes: Iterable[int]) -> frozenset[int]:
        """All that read these, directly or not."""
        return frozenset().union(*(nx.descendants(self._graph, node) for node in nodes))

    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Generations: what is on one level does not depend on each other, only on the levels before."""
        return tuple(tuple(sorted(level)) for level in nx.topological_generations(self._graph))

    def groups(self, due: Iterable[int]) -> tuple[tuple[int, ...], ...]:
        """The due stream tables that must move together: in one transaction, on one snapshot.

        Two belong together if one reads the other or both read a common stream table, directly or not. A group holds
        the due ones only, in dependency order; their ancestors join when the refresh finds them stale.
        """
        wanted = set(due)
        graph = self._graph.subgraph(wanted | self.ancestors(wanted))
        groups = [self.ordered(component & wanted) for component in nx.weakly_connected_components(graph)]
        return tuple(sorted(groups, key=lambda group: self._position[group[0]]))

    def diamonds(self) -> tuple[Diamond, ...]:
        """The smallest diamonds: a common ancestor and the place where two disjoint paths from it meet again."""
        found: list[Diamond] = []
        for bottom in self.ordered():
            if self._graph.in_degree(bottom) < 2:
                continue
            for top in self.ordered(self.ancestors((bottom,))):
                diamond = self._diamond(top, bottom)
                if diamond is not None:
                    found.append(diamond)
        return tuple(found)

    def _diamond(self, top: int, bottom: int) -> Diamond | None:
        """Two paths without a common inner node exist iff no single node or edge cuts bottom off from top."""
        between = (nx.descendants(self._graph, top) & nx.ancestors(self._graph, bottom)) | {top, bottom}
        if nx.immediate_dominators(self._graph.subgraph(between), top)[bottom] != top:
            return None
        if self._graph.has_edge(top, bottom) and len(between) == 2:
            return None
        return Diamond(top, bottom, frozenset(between))
