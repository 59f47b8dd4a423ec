"""Tells which items of the battery a mutant can matter to: those whose SQL or column classes come out differently.

The compiler below the parser is pure, so the typed trees that the sound compiler was given are kept and compiled again
by the mutant, without a server. What it prints for all subsets of changed inputs is compared as a digest.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

Tree = tuple[bytes, str]
"""What the sound compiler was given, pickled, and the digest of what it made of it."""


@contextmanager
def recorded(trees: list[Tree]) -> Iterator[None]:
    """Keep every tree that is compiled inside."""
    from pgtrickle.analyze import compile as compiler

    cut, check = compiler.cut_stages, compiler.check_statements
    given: list[Any] = []

    def cutting(*args: Any, **kwargs: Any) -> Any:
        given[:] = [args, kwargs]
        return cut(*args, **kwargs)

    def checking(conn: Any, plan: Any, sources: Any) -> Any:
        trees.append(_kept(plan, sources, given))
        return check(conn, plan, sources)

    compiler.cut_stages, compiler.check_statements = cutting, checking
    try:
        yield
    finally:
        compiler.cut_stages, compiler.check_statements = cut, check


def _kept(plan: Any, sources: Any, given: Sequence[Any]) -> Tree:
    bindings = _made_up(plan, sources)
    return pickle.dumps((*given, plan, bindings)), digest(plan, bindings)


def _made_up(plan: Any, sources: Any) -> Any:
    """Names for everything that a plan may have in a database."""
    from pgtrickle.plan import Bindings, Relation, StageBinding, StreamTableBinding, TableBinding

    def relation(name: object) -> Relation:
        return Relation("pgtrickle_state", str(name))

    tables = {
        need.relid: TableBinding(sources.tables[need.relid].relation, relation(f"b{need.relid}"))
        for need in plan.sources
    }
    streams = {relid: StreamTableBinding(each.relation, relation(f"o{relid}")) for relid, each in tables.items()}
    stages = {
        # A mutant may cut more stages than there were.
        number: StageBinding(relation(f"s{number}"), relation(f"s{number}_log"), relation(f"s{number}_state"))
        for number in range(len(plan.stages) + 5)
    }
    return Bindings(tables, streams, stages)


def digest(plan: Any, bindings: Any) -> str:
    """Of everything that a plan can send, and of what the engine reads off it."""
    from pgtrickle import emit
    from pgtrickle.rewrite.classes import column_classes
    from pgtrickle.rewrite.stages import scans_of, subquery_inputs

    found = hashlib.sha256()
    for statement in (*emit.stage_tables(plan, bindings), *emit.locator_index(plan, bindings)):
        found.update(statement.as_bytes(None))
    for stage in plan.stages:
        for statement in _statements(plan, stage, bindings):
            found.update(statement.as_bytes(None))
        reads = [(scan.input, scan.attributes) for scan in scans_of(stage.operator)]
        inputs = [sorted(map(repr, each)) for each in (stage.inputs, subquery_inputs(stage.operator))]
        names = [column.name for column in stage.columns]
        found.update(repr((stage.strategy, stage.key, stage.group, names, inputs, reads)).encode())
    found.update(emit.verify_query(plan, bindings).as_bytes(None))
    found.update(repr(column_classes(plan)).encode())
    return found.hexdigest()


def _statements(plan: Any, stage: Any, bindings: Any) -> Iterator[Any]:
    from pgtrickle import emit
    from pgtrickle.analyze.check import subsets

    yield from emit.stage_load(plan, stage, bindings)
    yield from emit.stage_recompute(plan, stage, bindings)
    yield from (step.statement for step in emit.stage_staged(plan, stage, bindings))
    for changed in subsets(stage.inputs):
        statement = emit.stage_refresh(plan, stage, bindings, changed)
        if statement is not None:
            yield statement


def makes_a_difference(trees: Sequence[Tree]) -> bool:
    """Whether the compiler that is loaded makes something else of one of these trees.

    Raises:
        Exception: a crash on a tree of which the sound compiler makes a plan. (A refusal may have a way around it.)
    """
    from pgtrickle.analyze import compile as compiler
    from pgtrickle.errors import InternalError, UnsupportedQuery

    try:
        for given, wanted in trees:
            args, kwargs, plan, bindings = pickle.loads(given)
            if digest(replace(plan, stages=compiler.cut_stages(*args, **kwargs)), bindings) != wanted:
                return True
    except (UnsupportedQuery, InternalError):
        return True
    return not trees
