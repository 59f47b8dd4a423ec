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

#: Types whose values are shown by names, qualified where search_path does not find them: regclass, regtype ...
_NAMING = re.compile(
    r":(?:vartype|consttype|resulttype|funcresulttype|paramtype)"
    r" (?:24|1008|2202|2203|2204|2205|2206|2207|2208|2209|2210|2211|4191|4192)\b"
)

#: Stable functions of PostgreSQL whose result depends on more than arguments and pinned settings.
_MOVING = frozenset(
    {
        "col_description",
        "current_database",
        "current_schema",
        "current_schemas",
        "current_setting",
        "current_user",
        "currtid2",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "database_to_xml",
        "database_to_xml_and_xmlschema",
        "database_to_xmlschema",
        "format_type",
        "getpgusername",
        "now",
        "obj_description",
        "query_to_xml",
        "query_to_xml_and_xmlschema",
        "query_to_xmlschema",
        "row_security_active",
        "schema_to_xml",
        "schema_to_xml_and_xmlschema",
        "schema_to_xmlschema",
        "session_user",
        "shobj_description",
        "statement_timestamp",
        "table_to_xml",
        "table_to_xml_and_xmlschema",
        "table_to_xmlschema",
        "to_regclass",
        "to_regcollation",
        "to_regnamespace",
        "to_regoper",
        "to_regoperator",
        "to_regproc",
        "to_regprocedure",
        "to_regrole",
        "to_regtype",
        "transaction_timestamp",
        "txid_current_if_assigned",
        "version",
    }
)
#: Those of the prefixes below that depend on their arguments alone.
_STEADY = frozenset({"pg_typeof", "pg_input_is_valid", "pg_char_to_encoding", "pg_encoding_to_char"})
_MOVING_PREFIXES = ("pg_", "has_", "inet_client", "inet_server", "txid_")


@dataclass(frozen=True, slots=True)
class Function:
    """One row of the query ``functions``."""

    oid: int
    schema: str
    name: str
    kind: str
    volatility: str
    returns_set: bool
    arguments: int
    is_builtin: bool

    @property
    def moves(self) -> bool:
        """Whether the result may change although no argument and no pinned setting does."""
        if self.volatility == "v":
            return True
        if self.volatility == "i":
            return False
        if not self.is_builtin:
            return True  # a stable function of the user's may read tables that nobody watches
        if self.name == "age" and self.arguments == 1:
            return True
        if self.name in _STEADY:
            return False
        return self.name in _MOVING or self.name.startswith(_MOVING_PREFIXES)


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What a stored view rule mentions.

    Attributes:
        functions, operators, relations, collations: their OIDs.
        sql_values: it reads CURRENT_DATE or its like.
        system_columns: it reads ctid, xmin, xmax, cmin or cmax of a table.
        naming: it has values of types like regclass, which are shown as search_path says.
        text: the rule itself.
    """

    functions: frozenset[int]
    operators: frozenset[int]
    relations: frozenset[int]
    collations: frozenset[int]
    sql_values: bool
    system_columns: bool
    naming: bool
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
        bool(_NAMING.search(text)),
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
