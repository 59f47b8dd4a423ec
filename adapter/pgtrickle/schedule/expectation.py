"""What a refresh of a stream table would be, told from the catalog and the change buffers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgtrickle.catalog.groups import GroupRow
from pgtrickle.refresh.cost import CostHistory, full_from
from pgtrickle.refresh.plan import Window


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a refresh would be, as far as that can be told without compiling anything.

    Attributes:
        mode: ``INITIAL``, ``RECOMPUTE``, ``FULL``, ``DIFFERENTIAL`` or ``NO_DATA``.
        changes: change rows of base tables that it would read.
        reason: why it is not DIFFERENTIAL; None where it is, or where there is nothing to do.
    """

    mode: str
    changes: int
    reason: str | None = None


def expect(row: GroupRow, windows: Mapping[int, Window], *, sources_move: bool) -> Expectation:
    """Decide.

    Args:
        row: the stream table.
        windows: base table -> its changes since the frontier.
        sources_move: a stream table that it reads has changed since, or is about to.
    """
    changes = sum(window.rows for window in windows.values())
    if not row.is_populated:
        return Expectation("INITIAL", changes, "first load")
    if row.recompute_reason is not None:
        return Expectation("RECOMPUTE", changes, row.recompute_reason)
    moved = sources_move or any(not window.empty for window in windows.values())
    if not moved and not is_unwatched(row):
        return Expectation("NO_DATA", changes)
    if row.effective_mode == "FULL":
        return Expectation("FULL", changes, row.mode_reason)
    if any(window.marked for window in windows.values()):
        return Expectation("RECOMPUTE", changes, "a source was truncated, or changed without rows captured")
    limit = full_from(
        CostHistory.of(row.cost),
        int(sum(source.rows for source in row.sources)),
        row.options.get("max_delta_fraction"),
    )
    if row.requested_mode == "AUTO" and changes >= limit:
        return Expectation("FULL", changes, f"{limit} or more changes: recomputing is expected to be cheaper")
    return Expectation("DIFFERENTIAL", changes)


def is_unwatched(row: GroupRow) -> bool:
    """Whether its result can change without any captured change."""
    return bool(row.definition.get("unwatched")) or any(source.kind == "uncaptured" for source in row.sources)
