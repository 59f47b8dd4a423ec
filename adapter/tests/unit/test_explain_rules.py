"""Nothing that a plan can contain is without a description, and no registry has a line that nothing uses."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_args

import pytest

from pgtrickle.delta import RULES, linear
from pgtrickle.delta.aggregates import AGGREGATES
from pgtrickle.delta.choice import ON_TOP, REASONS, STRATEGIES, first_sentence
from pgtrickle.ir import operators as ir
from pgtrickle.ir.operators import Operator
from pgtrickle.plan import Strategy

#: Operators that only statements contain, or that are gone before a plan is made; the first two stand for text.
WITHOUT_RULE = {
    ir.SelfReference: "of the step of a recursion, whose strategy is its rule",
    ir.Named: "rows that the statement defines under a name",
    ir.Opaque: "a FULL plan: the query as it stands",
    ir.GroupingSets: "becomes a union of groupings before stages are cut",
    ir.Attach: "becomes a join before stages are cut",
    ir.Single: "becomes an outer join or a grouping before stages are cut",
    ir.Keep: "becomes a stage",
    ir.Change: "of deltas",
    ir.Empty: "of deltas",
    ir.Negate: "of deltas",
    ir.Consolidate: "of deltas",
    ir.Fence: "of deltas",
    ir.Weigh: "of deltas",
    ir.Expose: "of deltas",
    ir.Lookup: "of deltas",
    ir.Restrict: "of recomputed keys",
}


@pytest.mark.parametrize("operator", get_args(Operator), ids=lambda kind: kind.__name__)
def test_every_operator_has_a_rule_that_is_described_or_needs_none(operator: type) -> None:
    assert (operator in RULES) + (operator in WITHOUT_RULE) + (operator in ON_TOP) >= 1
    if operator in RULES and operator not in REASONS:
        assert RULES[operator].__module__ == linear.__name__
    assert operator in RULES or operator not in REASONS
    assert not (operator in WITHOUT_RULE and (operator in RULES or operator in ON_TOP))


@pytest.mark.parametrize("operator", RULES, ids=lambda kind: kind.__name__)
def test_every_rule_says_in_its_docstring_what_it_does(operator: type) -> None:
    assert inspect.getdoc(RULES[operator])
    assert first_sentence(RULES[operator]).endswith(".")
    assert operator in get_args(Operator)


@pytest.mark.parametrize("strategy", Strategy, ids=lambda strategy: strategy.value)
def test_every_strategy_is_described(strategy: Strategy) -> None:
    assert STRATEGIES[strategy].endswith(".")


@pytest.mark.parametrize("name", AGGREGATES)
def test_every_rule_for_an_aggregate_says_by_which_totals(name: str) -> None:
    for rule in AGGREGATES[name]:
        assert first_sentence(inspect.getmodule(rule.result))


@pytest.mark.parametrize("operator", get_args(Operator), ids=lambda kind: kind.__name__)
def test_the_operators_below_are_found_by_the_fields_that_hold_them(operator: type) -> None:
    """A field of another type that holds operators would be invisible to every rewrite."""
    for field in fields(operator):
        assert "Operator" not in str(field.type) or field.type in ir.CHILDREN, field.name
        assert field.type != "Scan" or operator is ir.Change
