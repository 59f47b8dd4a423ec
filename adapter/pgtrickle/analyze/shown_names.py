"""Whether a query shows names of objects, or finds objects by name: renaming them leaves no change of any source.

Values of types like regclass are OIDs. As columns they are stored as such and printed by whoever reads them, so a
rename does no harm. It does where the query itself prints them, casts text to them, or names an object by a constant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pgtrickle import db
from pgtrickle.analyze.functions import PG_TYPEOF, Function
from pgtrickle.analyze.rule_tree import Node, Value, atom, entries, kind_of, nodes, parts_of, tree_of
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

#: regconfig, regdictionary and their arrays. What a text search configuration does to words is taken for immutable, as
#: PostgreSQL takes it.
_TEXT_SEARCH = frozenset({3734, 3735, 3769, 3770})

#: regproc, regprocedure, regoper, regoperator, regclass, regtype, regnamespace, regrole, regcollation, aclitem.
_NAMING = _TEXT_SEARCH | frozenset({24, 2202, 2203, 2204, 2205, 2206, 4089, 4096, 4191, 1033})
_NAMING_ARRAYS = frozenset({1008, 2207, 2208, 2209, 2210, 2211, 4090, 4097, 4192, 1034})
_NAMES = _NAMING | _NAMING_ARRAYS

_RECORDS = frozenset({2249, 2287})
_FIRST_USER_OID = 16384
_REGCLASS = 2205
_TABLEOID = "-6"
_RELATION = "0"
_GROUPS = "9"
_VIEW = "v"

_TYPE_FIELDS = (
    *("vartype", "consttype", "resulttype", "funcresulttype", "opresulttype", "aggtype", "wintype", "paramtype"),
    *("array_typeid", "row_typeid", "typeId", "casetype", "coalescetype", "minmaxtype", "type", "refrestype", "typid"),
    *("funccoltypes", "coltypes"),
)
_TYPES = re.compile(rf":(?:{'|'.join(_TYPE_FIELDS)}) (?:\(o ([\d ]+)\)|(\d+))")
_CALLS = {
    "FUNCEXPR": "funcid",
    "OPEXPR": "opfuncid",
    "AGGREF": "aggfnoid",
    "WINDOWFUNC": "winfnoid",
    "SCALARARRAYOPEXPR": "opfuncid",
}
#: Prints its arguments, and is declared immutable.
_FALSELY_IMMUTABLE = "jsonb_object_agg"
_INPUT_CHECKS = frozenset({"pg_input_is_valid", "pg_input_error_info"})
_PLAIN_TYPES = frozenset(
    {
        *("smallint", "int2", "integer", "int", "int4", "bigint", "int8", "numeric", "decimal", "real", "float4"),
        *("double precision", "float8", "boolean", "bool", "text", "varchar", "character varying", "date", "time"),
        *(
            "timestamp",
            "timestamptz",
            "timetz",
            "interval",
            "uuid",
            "json",
            "jsonb",
            "jsonpath",
            "bytea",
            "inet",
            "cidr",
        ),
        *("timestamp with time zone", "timestamp without time zone", "macaddr", "money", "xml", "bit", "varbit"),
    }
)
_TYPMOD = re.compile(r"\s*\([\d, ]*\)|\s*\[\s*\]")
_PRINTERS = frozenset({"COERCEVIAIO", "XMLEXPR", "JSONCONSTRUCTOREXPR"})


@dataclass(slots=True)
class _Uses:
    """What was found in the rules of a query.

    Attributes:
        naming: types whose values are printed as names, or contain such values.
        functions: what is called, by OID.
        tableoid: a table's tableoid is read; renames in its family are noticed.
        values: there are values whose names may change unnoticed.
        printed: values of these types are printed.
        looked_up: objects are found by their names.
    """

    naming: frozenset[int]
    functions: Mapping[int, Function]
    tableoid: bool = False
    values: bool = False
    printed: bool = False
    looked_up: bool = False
    tables: list[list[Value]] = field(default_factory=list)

    def types_in(self, value: Value) -> frozenset[int]:
        return frozenset().union(*(_types_of(node) for node in nodes(value)))

    def is_naming(self, value: Value) -> bool:
        """Whether an expression, or one of several, is of a type that is printed as a name, or may be."""
        own = frozenset(_types_of(value)) if isinstance(value, Mapping) else frozenset[int]()
        if own:
            return bool(own & (self.naming | _RECORDS))
        return any(map(self.is_naming, parts_of(value)))


@dataclass(frozen=True, slots=True)
class ShownNames:
    """What a query has to do with names of objects.

    Attributes:
        types: it has values that are printed as names, as ``search_path`` says.
        moving: renaming an object may change its result although no source changes.
    """

    types: bool = False
    moving: bool = False


def shown_names(conn: db.Connection, rules: Iterable[str], functions: Iterable[Function]) -> ShownNames:
    """Whether the result of a query depends on names of objects.

    Args:
        conn: to ask what user-defined types consist of.
        rules: the texts of the query's rule and of the views that it reads.
        functions: what these call.
    """
    rules = tuple(rules)
    mentioned = frozenset[int]().union(*(types_mentioned(rule) for rule in rules))
    functions = tuple(functions)
    naming = mentioned & _NAMES
    own = sorted(oid for oid in mentioned if oid >= _FIRST_USER_OID)
    if own:
        params = {"oids": own, "naming": sorted(_NAMES)}
        naming |= frozenset(db.fetch_value(conn, _QUERIES["types_made_of"], params))
    checked = any(function.name in _INPUT_CHECKS for function in functions)
    if not naming and not checked:
        return ShownNames()
    by_oid = {function.oid: function for function in functions}
    found = _Uses(naming, by_oid, tableoid=any(f":varattno {_TABLEOID} " in rule for rule in rules))
    for rule in rules:
        _look(tree_of(rule), found)
    moving = found.looked_up or (found.values and found.printed)
    return ShownNames(types=bool(naming - _TEXT_SEARCH) or moving, moving=moving)


def types_mentioned(rule: str) -> frozenset[int]:
    """The OIDs of all types of values in the text of a rule."""
    return frozenset(int(oid) for many, one in _TYPES.findall(rule) for oid in (many or one).split())


def _types_of(node: Node) -> Iterator[int]:
    for name in _TYPE_FIELDS:
        if name in node:
            many = entries(node, name)[1:]
            yield from (int(oid) for oid in many or [atom(node, name)] if isinstance(oid, str) and oid.isdigit())


def _look(value: Value, found: _Uses) -> None:
    kind = kind_of(value)
    if isinstance(value, Mapping) and kind == "QUERY":
        found.tables.append(entries(value, "rtable"))
    if isinstance(value, Mapping):
        _note(value, kind, found)
    for part in parts_of(value):
        _look(part, found)
    if kind == "QUERY":
        found.tables.pop()


def _note(node: Node, kind: str, found: _Uses) -> None:
    shown = frozenset(_types_of(node)) & found.naming
    if kind == "VAR":
        found.values |= bool(shown) and _is_stored(node, found)
    elif kind == "CONST":
        # What is compared with tableoid is the name of a table of the family, and so noticed, or equals none of it.
        found.looked_up |= _names_an_object(node, found) and not (found.tableoid and shown == {_REGCLASS})
    elif kind == "RELABELTYPE":
        found.values |= bool(shown) and not found.is_naming(node["arg"]) and not _is_tableoid(node["arg"][0], found)
    elif kind in _CALLS:
        _note_call(node, kind, shown, found)
    elif kind in _PRINTERS:
        inside = [value for name, values in node.items() if name not in ("", "resulttype") for value in values]
        if found.is_naming(inside):
            _note_printed(inside, found)
        found.looked_up |= bool(shown - _TEXT_SEARCH)
    elif kind in ("RANGETBLFUNCTION", "TABLEFUNC", "JSONRETURNING"):
        found.looked_up |= bool(shown - _TEXT_SEARCH)


def _table_of(var: Node, found: _Uses) -> Value:
    """The FROM item that a column is of."""
    tables = found.tables[-1 - int(atom(var, "varlevelsup"))]
    number = int(atom(var, "varno"))
    return tables[number - 1] if 0 < number <= len(tables) else ""


def _is_stored(var: Node, found: _Uses) -> bool:
    """Whether a column is one of a table: those of views and subqueries are looked at where they are made."""
    table = _table_of(var, found)
    return not isinstance(table, Mapping) or (atom(table, "rtekind") == _RELATION and atom(table, "relkind") != _VIEW)


def _is_tableoid(value: Value, found: _Uses) -> bool:
    """Whether an expression is a tableoid; above GROUP BY (from version 18 on) it is a column of the groups."""
    if not isinstance(value, Mapping) or kind_of(value) != "VAR":
        return False
    table = _table_of(value, found)
    if isinstance(table, Mapping) and atom(table, "rtekind") == _GROUPS:
        return _is_tableoid(entries(table, "groupexprs")[int(atom(value, "varattno")) - 1], found)
    return atom(value, "varattno") == _TABLEOID


def _is_plain_type(arguments: Value) -> bool:
    """Whether the second argument is the name of a type that every server has, and that looks nothing up."""
    constants = [node for node in nodes(arguments) if kind_of(node) == "CONST"]
    name = _octets(constants[-1])[4:].decode("latin-1") if constants else ""
    return _TYPMOD.sub("", name).lower() in _PLAIN_TYPES


def _octets(constant: Node) -> bytes:
    octets = [part for part in constant.get("constvalue", []) if isinstance(part, str) and part not in "[]"][1:]
    return bytes(int(octet) % 256 for octet in octets)


def _names_an_object(value: Value, found: _Uses) -> bool:
    """Whether a node is a constant that names an object; those of PostgreSQL keep their names."""
    if not isinstance(value, Mapping) or kind_of(value) != "CONST" or atom(value, "constisnull") == "true":
        return False
    kinds = frozenset(_types_of(value)) & (found.naming - _TEXT_SEARCH)
    plain = kinds <= _NAMING and int.from_bytes(_octets(value), "little") < _FIRST_USER_OID
    return bool(kinds) and not plain


def _note_printed(values: Value, found: _Uses) -> None:
    found.printed = True
    found.looked_up |= any(_names_an_object(node, found) for node in nodes(values))


def _note_call(node: Node, kind: str, shown: frozenset[int], found: _Uses) -> None:
    function = found.functions.get(int(atom(node, _CALLS[kind])))
    if function is None:
        return
    arguments = [part for name in ("args", "aggdirectargs") for part in node.get(name, [])]
    if function.oid == PG_TYPEOF:
        found.values |= any(oid >= _FIRST_USER_OID for oid in found.types_in(arguments))
        return
    naming = found.is_naming(arguments)
    if function.name in _INPUT_CHECKS:
        found.looked_up |= not _is_plain_type(entries(node, "args")[-1:])
        return
    # What prints its arguments, or reads text, is declared stable; the others hand values through or compare them.
    if naming and (function.volatility != "i" or function.name.startswith(_FALSELY_IMMUTABLE)):
        _note_printed(arguments, found)
    if shown:
        found.values |= not function.is_builtin or not naming
        found.looked_up |= function.volatility != "i" and bool(shown - _TEXT_SEARCH)
