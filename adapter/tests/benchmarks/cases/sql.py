"""Pieces of hand-written delta SQL that several scenarios share."""

from __future__ import annotations

from collections.abc import Sequence


def folded(keys: Sequence[str], sums: Sequence[str], delta: str) -> str:
    """Add a delta of counts and sums to ``hand``; a group whose count ``n`` reaches zero goes.

    Args:
        keys: the grouping columns, never NULL.
        sums: the other columns besides ``n``.
        delta: selects keys, ``n`` and sums, one row per group.
    """
    moved = ("n", *sums)
    return f"""
MERGE INTO hand AS t USING ({delta}) AS s ON {" AND ".join(f"t.{key} = s.{key}" for key in keys)}
WHEN MATCHED AND t.n + s.n = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET {", ".join(f"{column} = t.{column} + s.{column}" for column in moved)}
WHEN NOT MATCHED THEN INSERT ({", ".join([*keys, *moved])})
  VALUES ({", ".join(f"s.{column}" for column in [*keys, *moved])})"""


def upserted(keys: Sequence[str], others: Sequence[str], delta: str) -> str:
    """Rows of a keyed view: the newest row of each changed key is written, a key without one goes.

    Args:
        keys: the key of ``hand``.
        others: its other columns.
        delta: selects keys, other columns and ``w``, unsummed.
    """
    listed = ", ".join([*keys, *others])
    key = ", ".join(keys)
    return f"""
MERGE INTO hand AS t USING (
  SELECT DISTINCT ON ({key}) {listed}, w
  FROM (SELECT {listed}, sum(w) AS w FROM ({delta}) AS d GROUP BY {listed} HAVING sum(w) <> 0) AS c
  ORDER BY {key}, w DESC) AS s ON {" AND ".join(f"t.{column} = s.{column}" for column in keys)}
WHEN MATCHED AND s.w < 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET {", ".join(f"{column} = s.{column}" for column in others)}
WHEN NOT MATCHED AND s.w > 0 THEN INSERT ({listed})
  VALUES ({", ".join(f"s.{column}" for column in [*keys, *others])})"""
