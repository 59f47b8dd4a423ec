"""New names in the text of a query: in the right places, and nowhere else."""

from __future__ import annotations

import pytest

from pgtrickle.parse.rename import rename_objects

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
    "a function in FROM": ("SELECT 1 FROM public.f(1) f(x)", 'SELECT 1 FROM "public"."g"(1) f(x)'),
}


@pytest.mark.parametrize(("query", "renamed"), CASES.values(), ids=CASES.keys())
def test_names_are_replaced_where_they_stand(query: str, renamed: str) -> None:
    assert rename_objects(query, {("public", "t"): ("s", "new t")}, {("public", "f"): ("public", "g")}) == renamed


def test_names_with_quotes_are_read_and_written() -> None:
    query = 'SELECT 1 FROM "Ä ""x"""."t.u" a, "Ä ""x"""."t.u"'
    renamed = rename_objects(query, {('Ä "x"', "t.u"): (None, 'v"w')})
    assert renamed == 'SELECT 1 FROM "v""w" a, "v""w" AS "t.u"'
