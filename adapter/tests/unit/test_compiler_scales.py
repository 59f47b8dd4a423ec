"""The scale that a numeric expression has by its text alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgtrickle.ir.expr import Expr, col, text
from pgtrickle.ir.schema import INT8, Equality, Type
from pgtrickle.parse.scales import Scale, fixed_scale

MONEY = replace(INT8, oid=1700, base_oid=1700, typmod=((15 << 16) | 2) + 4)
NEGATIVE = replace(MONEY, typmod=((3 << 16) | (-2 & 0x7FF)) + 4)
LOOSE = replace(MONEY, typmod=-1, equality=Equality.COARSE)
TYPES: dict[str, Type] = {
    "a": MONEY,
    "b": MONEY,
    "c": NEGATIVE,
    "n": LOOSE,
    "i": INT8,
    "e": LOOSE.with_scale(2, endless=True),
}
A, B, C, N, WHOLE = (col(name) for name in "abcni")


@pytest.mark.parametrize(
    ("expr", "scale"),
    [
        (A, 2),
        (C, 0),
        (N, None),
        (text(A, " * (1::numeric - ", B, ")"), 4),
        (text("(", A, " + 1.2345)"), 4),
        (text("-", A), 2),
        (text(A, " / ", B), None),
        (text("(", WHOLE, " / 2)::numeric"), None),
        (text(A, " OPERATOR(public.+) ", B), None),
        (text("EXTRACT(year FROM ", WHOLE, ")"), 0),
        (text("EXTRACT(epoch FROM ", WHOLE, ")"), None),
        (text("sum(", WHOLE, ")"), 0),
        (text("sum(", A, ") FILTER (WHERE ", WHOLE, " > 0)"), 2),
        (text("sum(", N, ")"), None),
        (text("avg(", A, ")"), None),
        (text("round(", N, ", 2)"), 2),
        (text("round(", N, ", ", WHOLE, ")"), None),
        (text("(", N, ")::numeric(10,3)"), 3),
        (text("(", N, ")::numeric"), None),
        (text("'0.050'::numeric"), 3),
        (text("'1e3'::numeric"), None),
        (text("CASE WHEN ", WHOLE, " > 0 THEN ", A, " ELSE 0::numeric END"), None),
        (text("CASE WHEN ", WHOLE, " > 0 THEN ", A, " ELSE NULL::numeric END"), 2),
        (text("COALESCE(", A, ", ", B, ")"), 2),
        (text("NULLIF(", A, ", 0::numeric)"), 2),
    ],
    ids=lambda value: (
        "".join(p if isinstance(p, str) else p.name for p in value.parts) if isinstance(value, Expr) else str(value)
    ),
)
def test_a_scale_is_known_only_where_every_value_has_it(expr: Expr, scale: int | None) -> None:
    found = fixed_scale(expr, TYPES)
    assert (found and found.digits) == scale


@pytest.mark.parametrize(
    ("expr", "scale"),
    [
        (text("round(", A, ", 1)"), Scale(1)),
        (text("ceil(", N, ") + 1"), Scale(0, endless=True)),
        (text("trunc(", N, ", 3) * ", A), Scale(5, endless=True)),
        (text("EXTRACT(year FROM ", WHOLE, ")"), Scale(0, endless=True)),
        (text("EXTRACT(month FROM ", WHOLE, ")"), Scale(0)),
        (text("sum(", col("e"), ")"), Scale(2, endless=True)),
        (text("(", col("e"), ")::numeric(9,1)"), Scale(1)),
    ],
)
def test_what_was_rounded_may_be_infinite(expr: Expr, scale: Scale) -> None:
    assert fixed_scale(expr, TYPES) == scale
