"""A recursive query over a random tree: depth and sum along the path."""

from __future__ import annotations

from tests.benchmarks.model import Hand, Scenario

SCENARIOS = (
    Scenario(
        "recursion",
        "recursive CTE over a tree",
        """WITH RECURSIVE walk AS (
  SELECT id, 0 AS depth, value AS total FROM tree WHERE parent IS NULL
  UNION ALL
  SELECT c.id, w.depth + 1, w.total + c.value FROM tree AS c JOIN walk AS w ON c.parent = w.id
) SELECT id, depth, total FROM walk""",
        ("tree",),
        unique=("id",),
        tpch=False,
        setup=(
            "CREATE TABLE tree (id bigint PRIMARY KEY, parent bigint, value bigint NOT NULL)",
            "INSERT INTO tree SELECT i, CASE WHEN i > 1 THEN 1 + floor(random() * (i - 1)) END, i % 100"
            " FROM generate_series(1, greatest(1000, (1000000 * {scale})::bigint)) AS i",
            "CREATE INDEX ON tree (parent)",
            "ANALYZE tree",
        ),
        hand=Hand(
            ("CREATE TABLE hand AS {query}", "ALTER TABLE hand ADD PRIMARY KEY (id)"),
            (
                "DELETE FROM hand WHERE id IN (SELECT id FROM {tree} WHERE w < 0)"
                " AND NOT EXISTS (SELECT FROM tree WHERE tree.id = hand.id)",
                # The subtrees below changed nodes, computed again from their highest changed node.
                """
MERGE INTO hand AS t USING (
  WITH RECURSIVE hit AS (
    SELECT t.id, t.parent, t.value FROM {tree} JOIN tree AS t ON t.id = d_tree.id WHERE w > 0
    UNION
    SELECT c.id, c.parent, c.value FROM tree AS c JOIN hit ON c.parent = hit.id
  ), again AS (
    SELECT hit.id, h.depth + 1 AS depth, h.total + hit.value AS total
    FROM hit JOIN hand AS h ON h.id = hit.parent WHERE NOT EXISTS (SELECT FROM hit AS above WHERE above.id = hit.parent)
    UNION ALL
    SELECT hit.id, again.depth + 1, again.total + hit.value FROM hit JOIN again ON hit.parent = again.id
  ) SELECT id, depth, total FROM again
) AS s ON t.id = s.id
WHEN MATCHED AND (t.depth, t.total) IS DISTINCT FROM (s.depth, s.total) THEN
  UPDATE SET depth = s.depth, total = s.total
WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.depth, s.total)""",
            ),
        ),
    ),
)
