"""Every construct of the support matrix, maintained differentially through random histories."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.fixtures import TOPICS, Statements, queries_of, schema
from tests.support.windows import read_as_large

#: The versions in between run it with --run-slow.
pytestmark = pytest.mark.edges_only

#: On the newest version; on others two less.
WINDOWS = 6
SEED = 20
#: Reasons of recomputes that nobody should see.
GOT_OVER = ("internal error", "the changes could not be applied", "computed as a whole")


@pytest.mark.parametrize("topic", TOPICS)
def test_every_construct_follows_its_sources(topic: str, engine: PgTrickle, conn: psycopg.Connection[Any]) -> None:
    history = Statements(SEED)
    for statement in (*schema(), *history.fill()):
        conn.execute(statement.encode())
    names = {}
    for number, query in enumerate(queries_of(topic)):
        name = f"st_{number}"
        engine.create_stream_table(name, query, refresh_mode="DIFFERENTIAL")
        names[name] = query
    windows = WINDOWS if conn.info.server_version >= 180000 else WINDOWS - 2
    for window in range(windows):
        for statement in history.window():
            conn.execute(statement.encode())
        if window == windows - 4:
            conn.execute("DELETE FROM b; DELETE FROM c")
        if window == windows - 2:
            conn.execute("DELETE FROM b; DELETE FROM a; DELETE FROM e")
        for name, query in names.items():
            with read_as_large(large=window % 3 == 2):
                result = engine.refresh_stream_table(name)
            assert result.action in ("DIFFERENTIAL", "NO_DATA", "FULL"), (query, result)
            assert not any(words in (result.fallback_reason or "") for words in GOT_OVER), (query, result)
            proof = engine.verify(name)
            assert proof.proven, (query, proof)
