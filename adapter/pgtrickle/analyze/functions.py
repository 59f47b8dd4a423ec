"""The functions that a query calls, from the stored rule: exact, overloads and operators included."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pgtrickle import db
from pgtrickle.parse.facts import FunctionFacts
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

_FUNCTION = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid|elemfuncid) (\d+)")
_OPERATOR = re.compile(r":opno (\d+)")
_RELATION = re.compile(r":relid (\d+)")
_COLLATION = re.compile(r":(?:inputcollid|varcollid|funccollid|opcollid|aggcollid|resultcollid|collOid) (\d+)")
_SQL_VALUE = re.compile(r"\{SQLVALUEFUNCTION ")

#: A column with a negative number; -6 is tableoid, which a row keeps.
_SYSTEM_COLUMN = re.compile(r":varattno -(?!6\b)")

#: ``pg_typeof``: what it returns is printed as a name, but its result does not depend on what is stored anywhere.
PG_TYPEOF = 1619

#: Stable functions of PostgreSQL that depend on nothing but their arguments and pinned settings. Every other one reads
#: the catalog, the clock or the session, or is so new that nobody has looked at it yet.
_STEADY = """
anytextcat array_to_json array_to_string concat concat_ws convert convert_from convert_to date date_add
date_cmp_timestamptz date_eq_timestamptz date_ge_timestamptz date_gt_timestamptz date_le_timestamptz
date_lt_timestamptz date_ne_timestamptz date_part date_subtract date_trunc extract format generate_series
getdatabaseencoding interval_pl_timestamptz json_agg json_agg_strict json_build_array json_build_object
json_object_agg json_object_agg_strict json_object_agg_unique json_object_agg_unique_strict json_populate_record
json_populate_recordset json_to_record json_to_recordset json_to_tsvector jsonb_agg jsonb_agg_strict
jsonb_build_array jsonb_build_object jsonb_path_exists_tz jsonb_path_match_tz jsonb_path_query_array_tz
jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_record_valid
jsonb_populate_recordset jsonb_to_record jsonb_to_recordset jsonb_to_tsvector length make_timestamptz money numeric
overlaps pg_char_to_encoding pg_encoding_to_char pg_input_is_valid pg_typeof phraseto_tsquery plainto_tsquery
quote_literal quote_nullable row_to_json textanycat time timestamp timestamp_cmp_timestamptz
timestamp_eq_timestamptz timestamp_ge_timestamptz timestamp_gt_timestamptz timestamp_le_timestamptz
timestamp_lt_timestamptz timestamp_ne_timestamptz timestamptz timestamptz_cmp_date timestamptz_cmp_timestamp
timestamptz_eq_date timestamptz_eq_timestamp timestamptz_ge_date timestamptz_ge_timestamp timestamptz_gt_date
timestamptz_gt_timestamp timestamptz_le_date timestamptz_le_timestamp timestamptz_lt_date timestamptz_lt_timestamp
timestamptz_mi_interval timestamptz_ne_date timestamptz_ne_timestamp timestamptz_pl_interval timetz timezone to_char
to_date to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector ts_headline ts_match_tq ts_match_tt
websearch_to_tsquery xml xml_is_well_formed
"""
STEADY = frozenset(_STEADY.split())

#: Declared immutable, but they read the catalog.
_NOT_IMMUTABLE = frozenset({"pg_partition_root"})


@dataclass(frozen=True, slots=True)
class Function:
    """One row of the query ``functions``."""

    oid: int
    schema: str
    name: str
    kind: str
    volatility: str
    returns_set: bool
    is_builtin: bool

    @property
    def moves(self) -> bool:
        """Whether the result may change although no argument and no pinned setting does."""
        if self.volatility == "v":
            return True
        if self.volatility == "i":
            return self.is_builtin and self.name in _NOT_IMMUTABLE
        if not self.is_builtin:
            return True  # a stable function of the user's may read tables that nobody watches
        return self.schema != "pg_catalog" or self.name not in STEADY


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What a stored view rule mentions.

    Attributes:
        functions, operators, relations, collations: their OIDs.
        sql_values: it reads CURRENT_DATE or its like.
        system_columns: it reads ctid, xmin, xmax, cmin or cmax of a table.
        text: the rule itself.
    """

    functions: frozenset[int]
    operators: frozenset[int]
    relations: frozenset[int]
    collations: frozenset[int]
    sql_values: bool
    system_columns: bool
    text: str = field(repr=False)


def read_rule(text: str) -> RuleFacts:
    """Collect the OIDs in the text of a ``pg_rewrite.ev_action``."""

    def found(pattern: re.Pattern[str]) -> frozenset[int]:
        return frozenset(int(oid) for oid in pattern.findall(text)) - {0}

    return RuleFacts(
        found(_FUNCTION),
        found(_OPERATOR),
        found(_RELATION),
        found(_COLLATION),
        bool(_SQL_VALUE.search(text)),
        bool(_SYSTEM_COLUMN.search(text)),
        text,
    )


def load_functions(conn: db.Connection, rules: Iterable[RuleFacts]) -> tuple[Function, ...]:
    """The functions behind all calls and operators of these rules."""
    rules = tuple(rules)
    params = {
        "functions": sorted(frozenset[int]().union(*(rule.functions for rule in rules))),
        "operators": sorted(frozenset[int]().union(*(rule.operators for rule in rules))),
    }
    return db.fetch_all(conn, _QUERIES["functions"], Function, params)


def by_name(functions: Iterable[Function]) -> dict[tuple[str, str], FunctionFacts]:
    """What the parser needs: kinds by qualified name."""
    kinds: dict[tuple[str, str], set[str]] = {}
    sets: dict[tuple[str, str], bool] = {}
    for function in functions:
        key = (function.schema, function.name)
        kinds.setdefault(key, set()).add(function.kind)
        sets[key] = sets.get(key, False) or function.returns_set
    return {key: FunctionFacts(frozenset(found), sets[key]) for key, found in kinds.items()}
