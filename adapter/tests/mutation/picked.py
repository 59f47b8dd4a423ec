"""One fault for every delta rule, strategy and family of aggregates, each with a query that has to notice it.

The default suite tries these; ``tools/mutate.py`` without arguments tries everything.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.mutation.mutants import ADAPTER, Mutant


class Picked(NamedTuple):
    """A fault: in a function of a module, ``before`` becomes ``after``; ``query`` is over the fixture tables.

    Code that has moved to another module of the compiler is found there.
    """

    path: str
    function: str
    before: str
    after: str
    query: str


LINEAR, OUTER, JOIN = "pgtrickle/delta/linear.py", "pgtrickle/delta/outer.py", "pgtrickle/delta/join.py"
SINGLE = "pgtrickle/delta/single.py"
NET, APPLY, PICK = "pgtrickle/emit/net.py", "pgtrickle/emit/apply.py", "pgtrickle/emit/pick.py"
CONSOLIDATE = "pgtrickle/emit/consolidate.py"
PAIRS = "pgtrickle/emit/pairs.py"
AGGREGATES = "pgtrickle/delta/aggregates"
UNCHANGED = "Empty(op.columns) if isinstance(below, Empty) else "
COLLECTED = "select k, string_agg(t, ',' order by t, id) s from a group by k"
BELOW = f"{UNCHANGED}replace(op, child=below)"
PICKY = "select id, t from a where k > 0 and not exists (select 1 from b where b.w=a.id)"
COMPARED = "select id, v from a where id > (select count(*) from b)"
RECURSION = "pgtrickle/emit/recursion.py"
REACHED = (
    "with recursive r as (select d from edge where s<3 union select e.d from r join edge e on e.s=r.d) select d from r"
)
WALKED = (
    "with recursive r(d,n) as (select d, 1 from edge union all select e.d, n+1 from r join edge e on e.s=r.d where n<4)"
    " select d, n from r"
)
PICKED = (
    Picked(LINEAR, "delta_scan", "Change(op) if op", "Empty(op.columns) if op", "select id, v*2 x from a where v>2"),
    Picked(LINEAR, "delta_values", "return Empty(op.columns)", "return op", "select 1 k union all select k from b"),
    Picked(LINEAR, "delta_unary", BELOW, "below", "select id, t from a where t > 'a'"),
    Picked(LINEAR, "delta_expand", "delta_unary(op, d)", "Empty(op.columns)", "select id, x from e, unnest(arr) x"),
    Picked(
        LINEAR,
        "delta_apply",
        "delta_unary(op, d)",
        "Empty(op.columns)",
        "select id, (select max(x) from unnest(arr) x) m from e",
    ),
    Picked(
        LINEAR,
        "delta_pad",
        "delta_unary(op, d)",
        "Empty(op.columns)",
        "select id, (select max(w) from b where b.k=a.k) m from a",
    ),
    Picked(
        LINEAR, "delta_union", "not isinstance(delta", "isinstance(delta", "select k from a union all select k from b"
    ),
    Picked(
        JOIN,
        "_step",
        "Negate(Join((prefix.delta, narrowed), _but(new, inner)))",
        "Join((prefix.delta, narrowed), _but(new, inner))",
        "select a.id, b.id b from a join b on a.k=b.k",
    ),
    Picked(
        JOIN,
        "delta_join",
        "deltas[groups[0].position]",
        "op.inputs[groups[0].position]",
        "select a.id from a join b on a.k=b.k",
    ),
    Picked(
        OUTER,
        "delta_outer",
        "_padded(op, op.left",
        "_padded(op, op.right",
        "select a.id, w from a left join b on a.k=b.k",
    ),
    Picked(OUTER, "delta_outer", "OuterKind.FULL", "OuterKind.LEFT", "select a.id, w from a full join b on a.k=b.k"),
    Picked(OUTER, "_keyed", 'sign, "1"', 'sign, "-1"', "select id from a where k in (select k from b)"),
    Picked(OUTER, "none_left", '" < 0"', '" > 0"', "select id from a where k in (select k from b)"),
    Picked(OUTER, "_keyed", 'op.columns), text("-1")', 'op.columns), text("1")', PICKY),
    Picked(
        OUTER, "delta_anti", "Negate(anti)", "anti", "select id from a where exists (select 1 from b where b.k=a.k)"
    ),
    Picked(OUTER, "first", '" = "', '" >= "', "select id from a where not exists (select 1 from b where b.k=a.k)"),
    Picked(
        OUTER,
        "_theta",
        '(before, " = 0")',
        '(before, " > 0")',
        "select id from a where not exists (select 1 from b where b.k<a.k)",
    ),
    Picked(SINGLE, "delta_project", "_difference(before, now)", "_difference(now, before)", COMPARED),
    Picked(SINGLE, "_difference", "int4 - ", "int4 + ", COMPARED),
    Picked(NET, "compared", "-1 AS", "1 AS", COLLECTED),
    Picked(NET, "affected_groups", "SELECT DISTINCT {}", "SELECT {}", COLLECTED),
    Picked(NET, "_added", "{} + g.{}", "{} - g.{}", "select k, count(*) n from a group by k"),
    Picked(NET, "_write", "m.{} > 0", "m.{} > 1", "select k, t, count(*) n from a group by k, t"),
    Picked(RECURSION, "_outside", "IS NULL OR t.ctid IN", "IS NULL AND t.ctid IN", REACHED),
    Picked(RECURSION, "_negated", "SELECT {}, -{}", "SELECT {}, {}", WALKED),
    Picked(RECURSION, "_base", "WHERE {} < 0", "WHERE {} > 0", REACHED),
    Picked(f"{AGGREGATES}/extremes.py", "spoilt", " IS NOT TRUE", " IS TRUE", "select k, max(v) m from a group by k"),
    Picked(
        CONSOLIDATE,
        "consolidate",
        "BY {} HAVING pg_catalog.sum({}) <>",
        "BY {} HAVING pg_catalog.sum({}) >",
        "select k, x from c",
    ),
    Picked(APPLY, "_counted", "number <= wanted", "number < wanted", "select k, x from c"),
    Picked(APPLY, "_keyed", "kinds.added),", "kinds.changed),", "select id, k, v, t, n from a"),
    Picked(PAIRS, "paired", "(__had OR __has)", "(__had AND __has)", "select k, count(*) n from a group by k"),
    Picked(
        PAIRS, "_filtered", "({met}, FALSE)", "({met}, TRUE)", "select k, sum(v) s from a group by k having sum(v) > 3"
    ),
    Picked(
        PICK,
        "picked_rows",
        "{} < 0 AND __place",
        "{} > 0 AND __place",
        "select id, k from a order by k desc nulls last, id limit 4",
    ),
    Picked(
        f"{AGGREGATES}/weighted.py",
        "total",
        " WHEN -1 THEN -",
        " WHEN -1 THEN ",
        "select k, sum(v) s from a group by k",
    ),
    Picked(
        f"{AGGREGATES}/count.py",
        "_state",
        "IS DISTINCT FROM",
        "IS NOT DISTINCT FROM",
        "select k, count(t) n from a group by k",
    ),
    Picked(f"{AGGREGATES}/sums.py", "_avg_result", '") / "', '") * "', "select k, avg(v) s from a group by k"),
    Picked(f"{AGGREGATES}/variance.py", "spread", " - 1))", " - 2))", "select t, variance(v) s from a group by t"),
    Picked(
        f"{AGGREGATES}/loose.py",
        "_totals",
        "({_DIGITS} * pg",
        "({_DIGITS} + pg",
        "select k, sum(n) s from a group by k",
    ),
    Picked(f"{AGGREGATES}/booleans.py", "_or", " > 0 END", " = 0 END", "select k, bool_or(v > 2) s from a group by k"),
)


def mutant_of(picked: Picked) -> Mutant:
    """The mutant of a picked fault.

    Raises:
        ValueError: the code has changed: another fault has to be picked for this rule.
    """
    others = sorted(str(path.relative_to(ADAPTER)) for path in ADAPTER.glob("pgtrickle/*/**/*.py"))
    for path in (picked.path, *others):
        found = _found(path, picked)
        if found is not None:
            return found
    raise ValueError(f"{picked.path}, {picked.function}: {picked.before!r} is gone, pick another fault")


def _found(path: str, picked: Picked) -> Mutant | None:
    text = (ADAPTER / path).read_text(encoding="utf-8")
    head = text.find(f"def {picked.function}(")
    start = text.find(picked.before, head)
    following = text.find("\ndef ", head)
    if head < 0 or start < 0 or 0 < following < start:
        return None
    line = text.count("\n", 0, start) + 1
    holder = text.rfind("\nclass ", 0, head)
    inside = holder >= 0 and text[head - 4 : head] == "    "
    owner = f"{text[holder + 7 :].split('(')[0].split(':')[0]}." if inside else ""
    return Mutant(path, f"{owner}{picked.function}", "picked", (line, line), start, picked.before, picked.after)
