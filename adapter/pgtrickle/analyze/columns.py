"""Which columns of its relations a query reads, also where no operator of its plan shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgtrickle import db
from pgtrickle.names import TABLEOID
from pgtrickle.parse.facts import Attribute, RelationFacts
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """What a query and the views in it read.

    Attributes:
        relations: the relations.
        used: OID of a relation -> attribute numbers; 0 among them: all.
    """

    relations: tuple[RelationFacts, ...]
    used: Mapping[int, frozenset[int]]

    @classmethod
    def find(cls, conn: db.Connection, relations: Iterable[RelationFacts], views: Iterable[int]) -> ReadColumns:
        """Ask the server, in the transaction in which the query was probed; ``views`` are the OIDs of its views."""
        used: dict[int, frozenset[int]] = {}
        for row in db.fetch_all(conn, _QUERIES["used_columns"], dict, {"views": sorted(views)}):
            used[row["relid"]] = used.get(row["relid"], frozenset()) | {row["number"]}
        return cls(tuple(relations), used)

    def of(self, facts: RelationFacts) -> tuple[Attribute, ...]:
        """The columns of one relation, in order."""
        used = self.used.get(facts.relid, frozenset({0}))
        return tuple(a for a in facts.attributes if {0, a.number} & used)

    def names(self) -> dict[int, dict[int, str]]:
        """OID of a relation -> number and name of the columns that are read, those below virtual ones included.

        A subquery that is evaluated as it stands is one expression to the plan; an UPDATE of what it reads must still
        be captured, and capture ignores updates that change no needed column.
        """
        names: dict[int, dict[int, str]] = {}
        for facts in self.relations:
            read = self.of(facts)
            below = {number for a in read if a.generation is not None for number in a.generation.reads}
            names[facts.relid] = {a.number: a.name for a in facts.attributes if a in read or a.number in below}
            if facts.tableoid is not None and TABLEOID in self.used.get(facts.relid, ()):
                names[facts.relid][TABLEOID] = "tableoid"
        return names

    def virtual(self) -> dict[int, dict[int, str]]:
        """OID of a relation -> number and name of its virtual generated columns that are read.

        Nothing of them is captured. They are needed all the same: the plan is out of date if an expression changes.
        """
        return {
            facts.relid: {a.number: a.name for a in self.of(facts) if a.generation is not None}
            for facts in self.relations
        }

    def described(self) -> tuple[str, ...]:
        """A sentence for each virtual generated column that is read."""
        return tuple(
            f"the virtual column {facts.name}.{a.name} is read as {a.generation.text}"
            for facts in self.relations
            for a in self.of(facts)
            if a.generation is not None
        )
