"""New names in the text of a query: in the right places, and nowhere else."""

from __future__ import annotations

import pytest

from pgtrickle.parse.rename import Renamed, rename_objects

NAMES = Renamed(
    {("public", "t"): ("s", "new t")},
    {("public", "f"): ("public", "g")},
    types={("public", "mood"): ("s", "state")},
    operators={("public", "#&#"): ("s s", "#&#")},
    collations={("public", "c c"): ("public", "d")},
    labels={("public", "mood"): {"sad": "s'ad"}},
    text_search={"regconfig": {("public", "Cfg"): ("s", "cfg")}},
)
CASES = {
    "a qualified table": ("SELECT id FROM public.t", 'SELECT id FROM "s"."new t" AS "t"'),
    "an alias stays": ("SELECT x.id FROM public.t x", 'SELECT x.id FROM "s"."new t" x'),
    "a column of the same name stays": ("SELECT t.t FROM ONLY public.t", 'SELECT t.t FROM ONLY "s"."new t" AS "t"'),
    "in a subquery, behind umlauts": (
        "SELECT 'äöü' AS a WHERE EXISTS (SELECT 1 FROM public . t)",
        'SELECT \'äöü\' AS a WHERE EXISTS (SELECT 1 FROM "s"."new t" AS "t")',
    ),
    "not in a string": ("SELECT 'public.t' FROM public.u", "SELECT 'public.t' FROM public.u"),
    "not an unqualified one": ("WITH t AS (SELECT 1) SELECT * FROM t", "WITH t AS (SELECT 1) SELECT * FROM t"),
    "a function, twice": ("SELECT public.f(public.f(t.a)) FROM u.t", 'SELECT "public"."g"("public"."g"(t.a)) FROM u.t'),
    "a type, an array of it": ("SELECT a::public.mood, b::public.mood[]", 'SELECT a::"s"."state", b::"s"."state"[]'),
    "a label of an enum": ("SELECT 'sad'::public.mood, 'sad'::text", "SELECT 's''ad'::\"s\".\"state\", 'sad'::text"),
    "an operator's schema": ("SELECT 1 OPERATOR(public.#&#) 2", 'SELECT 1 OPERATOR("s s".#&#) 2'),
    "a collation": ('SELECT a COLLATE public."c c" FROM u', 'SELECT a COLLATE "public"."d" FROM u'),
    "a text search configuration": (
        "SELECT to_tsvector('public.\"Cfg\"'::regconfig, 'public.Cfg')",
        "SELECT to_tsvector('\"s\".\"cfg\"'::regconfig, 'public.Cfg')",
    ),
    "a function in FROM": ("SELECT 1 FROM public.f(1) f(x)", 'SELECT 1 FROM "public"."g"(1) f(x)'),
}


@pytest.mark.parametrize(("query", "renamed"), CASES.values(), ids=CASES.keys())
def test_names_are_replaced_where_they_stand(query: str, renamed: str) -> None:
    assert rename_objects(query, NAMES) == renamed


def test_names_with_quotes_are_read_and_written() -> None:
    query = 'SELECT 1 FROM "Ä ""x"""."t.u" a, "Ä ""x"""."t.u"'
    renamed = rename_objects(query, Renamed({('Ä "x"', "t.u"): (None, 'v"w')}))
    assert renamed == 'SELECT 1 FROM "v""w" a, "v""w" AS "t.u"'
