"""XML: expressions, aggregates and XMLTABLE, on servers that were built with it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pgtrickle.api import PgTrickle
from tests.support.oracle import assert_same_rows

TABLE = "XMLTABLE('/r/p' PASSING x.d COLUMNS k int PATH '@k', t text PATH '.', o FOR ORDINALITY)"
QUERIES = (
    "SELECT id, d FROM x",
    "SELECT id, xpath('//p/@k', d) AS z, xmlexists('//q' PASSING BY REF d) AS e FROM x",
    f"SELECT x.id, q.k, q.t, q.o FROM x, {TABLE} AS q",
    "SELECT x.id, q.o FROM x LEFT JOIN LATERAL XMLTABLE('/r/q' PASSING x.d COLUMNS o FOR ORDINALITY) AS q ON true",
    f"SELECT q.k, count(*) AS n FROM x, {TABLE} AS q GROUP BY q.k",
    f"SELECT x.id, q.k, o.v FROM x CROSS JOIN LATERAL {TABLE} AS q LEFT JOIN o ON o.g = q.k AND o.id > x.id",
    f"SELECT x.id, (SELECT max(q.k) FROM {TABLE} AS q) AS z FROM x",
    f"SELECT x.id FROM x WHERE EXISTS (SELECT FROM {TABLE} AS q WHERE q.k = x.g)",
    "SELECT g, xmlagg(xmlelement(name i, t) ORDER BY id) AS z FROM x GROUP BY g",
    "SELECT xmlelement(name all, xmlagg(xmlelement(name g, xmlattributes(g), n) ORDER BY g)) AS z"
    " FROM (SELECT g, count(*) AS n FROM x GROUP BY g) AS s",
    "SELECT id, xmlelement(name a, xmlattributes(t AS b), t, d) AS z, xmlforest(t, g AS h) AS f FROM x",
    "SELECT id, xmlroot(d, VERSION '1.0', STANDALONE YES) AS z, xmlroot(d, VERSION t) AS y FROM x WHERE t = '1.0'",
    "SELECT id, xmlserialize(CONTENT d AS text) AS z, xmlconcat(d, xmlcomment(t)) AS y, d IS DOCUMENT AS w FROM x",
    "SELECT id, (SELECT xmlagg(xmlelement(name v, o.v) ORDER BY o.id) FROM o WHERE o.g = x.g) AS z FROM x",
    "SELECT g, lag(d) OVER (PARTITION BY g ORDER BY id) AS z, unnest(xpath('//p', d)) AS p FROM x",
    "SELECT d FROM x UNION ALL SELECT d FROM x WHERE g = 1",
)


@pytest.mark.edges_only
def test_xml_is_maintained(conn: psycopg.Connection[Any], engine: PgTrickle) -> None:
    try:
        conn.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server was built without libxml, so it has no XML")
    conn.execute("CREATE TABLE x (id int PRIMARY KEY, g int, t text, d xml); CREATE TABLE o (id int, g int, v text)")
    document = (
        'format(\'<r a="%s"><p k="%s">n</p><p k="%s">m</p>%s</r>\', g, g % 4, g % 2, repeat(\'<q/>\', g % 3))::xml'
    )
    rows = f"g, g % 3, CASE g % 4 WHEN 0 THEN 'b<c' WHEN 1 THEN '1.0' WHEN 2 THEN '' END, {document}"
    conn.execute(f"INSERT INTO x SELECT {rows} FROM generate_series(1, 12) AS g".encode())
    conn.execute("INSERT INTO o SELECT g, g % 3, 'v' || g FROM generate_series(1, 9) AS g")
    for number, query in enumerate(QUERIES):
        created = engine.create_stream_table(f"s{number}", query, refresh_mode="DIFFERENTIAL")
        assert created.effective_mode == "DIFFERENTIAL"
    for change in (
        f"INSERT INTO x SELECT {rows} FROM generate_series(13, 20) AS g; DELETE FROM x WHERE id % 3 = 0",
        "UPDATE x SET d = '<r><p k=\"2\">z</p></r>', t = '1.0' WHERE id < 6;"
        " UPDATE o SET g = g + 1; DELETE FROM o WHERE id = 4",
        "UPDATE x SET g = 1, t = NULL WHERE id % 2 = 0; TRUNCATE o",
    ):
        conn.execute(change.encode())
        for number, query in enumerate(QUERIES):
            engine.refresh_stream_table(f"s{number}")
            assert_same_rows(conn, f"s{number}", query)
            assert engine.verify(f"s{number}").proven
