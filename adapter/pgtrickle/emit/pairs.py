"""Each touched group's output row before and after, side by side.

A grouping with state has both at hand in one row of ``moved``. Unfolding them into two weighted rows, only to sort
and pair them again by their key, would cost more than finding them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from psycopg.sql import SQL, Composable

from pgtrickle.delta.aggregates import COUNT_REF
from pgtrickle.emit.fragments import Name, commas, differs, scalar
from pgtrickle.emit.state import State
from pgtrickle.ir.expr import Expr, Ref, col, text
from pgtrickle.ir.operators import Aggregate, Filter, Operator, Project
from pgtrickle.ir.schema import Column

#: Names of the row before (``o1``, `o2`, ..) and after (``c1``, ``c2``, ..), and whether there is one.
BEFORE, AFTER = "o", "c"
_THERE = {BEFORE: "__had", AFTER: "__has"}


def shows_groups(chain: tuple[Operator, ...], grouping: Aggregate, key: tuple[str, ...] | None) -> bool:
    """Whether the key of the output is the key of the grouping: then a group is one row, whatever its values.

    Args:
        chain: the projections and filters above the grouping, outermost first.
        grouping: the grouping.
        key: columns that identify a row of the output, or None.
    """
    if key is None:
        return False
    shown: list[str | None] = list(key)
    for node in chain:
        if isinstance(node, Project):
            sources = {column.name: expr.column for column, expr in zip(node.columns, node.exprs, strict=True)}
            shown = [sources[name] if name is not None else None for name in shown]
    return set(shown) == set(grouping.keys) and len(shown) == len(grouping.keys)


def paired(state: State, chain: tuple[Operator, ...]) -> Composable:
    """The groups whose output row appears, disappears or changes.

    Args:
        state: the state of the grouping; ``moved`` is defined in the statement (`emit.moved.move`).
        chain: the projections and filters above the grouping, outermost first.

    Returns:
        A query of ``c1..cn``, the row after, ``o1..on``, the row before, ``__has`` and ``__had``. Of a row that is not
        there, only the columns that are nothing but grouping keys have values.
    """
    level = _bottom(state)
    for node in reversed(chain):
        if isinstance(node, Filter):
            level = _filtered(level, node)
        elif isinstance(node, Project):
            level = _projected(level, node)
    neutral = [(column, Name(f"{AFTER}{i}"), Name(f"{BEFORE}{i}")) for i, column in enumerate(level.columns, start=1)]
    changed = SQL(" OR ").join([SQL("__had <> __has"), *(differs(*each) for each in neutral)])
    return SQL("SELECT * FROM ({}) AS p WHERE (__had OR __has) AND ({})").format(level.query, changed)


@dataclass(frozen=True, slots=True)
class _Level:
    """A query of pairs, and what its columns are called in the operator tree."""

    query: Composable
    columns: tuple[Column, ...]

    def given(self, prefix: str) -> Mapping[str, Expr]:
        """The columns of one side by their names in the tree."""
        return {column.name: col(f"{prefix}{i}") for i, column in enumerate(self.columns, start=1)}


def _bottom(state: State) -> _Level:
    """The grouping itself."""
    sides = {AFTER: "n_", BEFORE: "o_"}

    def there(prefix: str) -> Expr:
        return text("TRUE") if state.grouping.scalar else text(Ref(f"{sides[prefix]}{COUNT_REF}"), " > 0")

    query = SQL("SELECT {} FROM moved").format(_sides(lambda prefix: state.exprs(sides[prefix]), there))
    return _Level(query, state.grouping.columns)


def _projected(level: _Level, node: Project) -> _Level:
    def shown(prefix: str) -> tuple[Expr, ...]:
        return tuple(expr.substitute(level.given(prefix)) for expr in node.exprs)

    query = SQL("SELECT {} FROM ({}) AS p").format(_sides(shown, lambda prefix: col(_THERE[prefix])), level.query)
    return _Level(query, node.columns)


def _filtered(level: _Level, node: Filter) -> _Level:
    columns: list[Composable] = []
    for prefix, there in _THERE.items():
        columns += [Name(f"{prefix}{i}") for i in range(1, len(level.columns) + 1)]
        met = SQL(" AND ").join(
            SQL("({})").format(scalar(condition.substitute(level.given(prefix)))) for condition in node.conditions
        )
        columns.append(
            SQL("CASE WHEN {there} THEN COALESCE({met}, FALSE) ELSE FALSE END AS {there}").format(
                there=Name(there), met=met
            )
        )
    # The fence keeps the conditions from being evaluated again for each column above.
    query = SQL("SELECT {} FROM ({}) AS p OFFSET 0").format(commas(columns), level.query)
    return _Level(query, level.columns)


def _sides(shown: Callable[[str], tuple[Expr, ...]], there: Callable[[str], Expr]) -> Composable:
    """The columns of both sides. What is more than a column is evaluated only for rows that are there: it may fail."""
    columns: list[Composable] = []
    for prefix, name in _THERE.items():
        for i, expr in enumerate(shown(prefix), start=1):
            value = expr if expr.column else text("CASE WHEN ", there(prefix), " THEN ", expr, " END")
            columns.append(SQL("{} AS {}").format(scalar(value), Name(f"{prefix}{i}")))
        columns.append(SQL("{} AS {}").format(scalar(there(prefix)), Name(name)))
    return commas(columns)
