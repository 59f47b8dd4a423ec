"""From the text of a query to its maintenance plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from psycopg.sql import SQL

from pgtrickle import db
from pgtrickle.analyze.check import check_statements
from pgtrickle.analyze.collations import foreign_collations
from pgtrickle.analyze.columns import ReadColumns
from pgtrickle.analyze.functions import Function, RuleFacts, by_name, load_functions, read_rule
from pgtrickle.analyze.generated import read_generations
from pgtrickle.analyze.meaning import meaning_of
from pgtrickle.analyze.probe import Probe, ProbeColumn, pinned_settings, probe, rolled_back
from pgtrickle.analyze.relations import Relations, View, describe_relations, find_relations, read_attributes
from pgtrickle.analyze.row_names import row_names, text_with_names
from pgtrickle.analyze.shown_names import ShownNames, shown_names
from pgtrickle.analyze.types import TypeLoader
from pgtrickle.analyze.typing import Typing
from pgtrickle.analyze.used import used_objects
from pgtrickle.errors import InternalError, InvalidQuery, PgTrickleError, StatementFailed, UnsupportedQuery
from pgtrickle.ir.operators import InputKey, Opaque, Operator
from pgtrickle.ir.schema import UNKNOWN, Column, Equality, Type
from pgtrickle.names import TABLEOID
from pgtrickle.parse.ctes import drop_unused
from pgtrickle.parse.determinise import Texts, determinise
from pgtrickle.parse.expand import expand_views
from pgtrickle.parse.expression import Expressions, reads_only, reads_tableoid, whole_rows
from pgtrickle.parse.facts import Facts, RelationFacts
from pgtrickle.parse.merged import qualify_merged
from pgtrickle.parse.names import Names
from pgtrickle.parse.outputs import name_outputs, name_tables
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import QueryParser, parse_query
from pgtrickle.parse.tree import has_nested_query
from pgtrickle.plan import (
    Bindings,
    Plan,
    Relation,
    Rewrite,
    SourceNeed,
    Stage,
    Strategy,
    StreamTableBinding,
    TableBinding,
)
from pgtrickle.recursion import deep
from pgtrickle.rewrite.domains import refuse_not_null
from pgtrickle.rewrite.record import rewrites_between
from pgtrickle.rewrite.size import MAX_READS, table_reads
from pgtrickle.rewrite.stages import cut_stages, scans_of, subquery_inputs
from pgtrickle.rewrite.unions import unions
from pgtrickle.sql import load_queries

_QUERIES = load_queries("pgtrickle.analyze")

#: The first version that does.
_ELIMINATES_SELF_JOINS = 180000


@dataclass(frozen=True, slots=True)
class Analysis:
    """A compiled defining query.

    Attributes:
        plan: how it is maintained.
        canonical: the query as the server prints it, fully qualified.
        columns: its output columns with collations, for CREATE TABLE.
        settings: session settings that belong to the query.
        objects: kinds and OIDs of what it uses besides relations, see `used_objects`; not told where it was proven.
        views: OID -> text of the views that it reads, nested ones included.
    """

    plan: Plan
    canonical: str
    columns: tuple[ProbeColumn, ...]
    settings: Mapping[str, str]
    objects: tuple[tuple[str, int], ...]
    views: Mapping[int, str]


@dataclass(slots=True)
class _Compilation:
    """What one compilation has learnt so far."""

    conn: db.Connection
    probe: Probe
    relations: Relations
    functions: tuple[Function, ...]
    types: TypeLoader
    settings: dict[str, str]
    notices: list[tuple[str, str]] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    described: Mapping[tuple[str, str], RelationFacts] = field(default_factory=dict)
    check: bool = True
    proven: bool = False
    mixes_collations: bool = False
    names: ShownNames = field(default_factory=ShownNames)
    generated: tuple[RuleFacts, ...] = ()

    @property
    def rules(self) -> tuple[RuleFacts, ...]:
        return (self.probe.view.rule, *(view.rule for view in self.relations.views.values()))


@deep()
def compile_query(
    conn: db.Connection, query: str, *, mode: str = "AUTO", check: bool = True, proven: bool = False
) -> Analysis:
    """Analyse a defining query with the session's settings and role; leaves nothing behind.

    Args:
        conn: a connection; its search_path resolves unqualified names.
        query: the text of one SELECT.
        mode: ``DIFFERENTIAL`` (or fail), ``AUTO`` (differential if possible) or ``FULL``.
        check: have the server prepare every statement of the plan. Not needed to compare with a plan that is in use.
        proven: this text was compiled differentially before, by this package with this server and under the settings
            of this session, and all that was found good.

    Raises:
        InvalidQuery: PostgreSQL refuses the query.
        UnsupportedQuery: it cannot be maintained differentially, and ``mode`` demands that.
    """
    stmt = parse_query(query)  # before any of it reaches the server
    settings = dict(pinned_settings(conn))
    with rolled_back(conn), _path_of_user(conn, settings["search_path"]):
        if drop_unused(stmt):
            query = _without_unused(conn, query)
        found = _learn(conn, query, settings)
        found.check, found.proven = check and not proven, proven
        plan = _plan(found, query, mode)
        return Analysis(
            plan=plan,
            canonical=found.probe.canonical,
            columns=found.probe.columns,
            settings=found.settings,
            objects=()
            if proven
            else used_objects(conn, (*found.rules, *found.generated), found.functions, found.settings),
            views={relid: view.text for relid, view in found.relations.views.items()},
        )


def _without_unused(conn: db.Connection, query: str) -> str:
    """The query, as the server prints it, without common table expressions that nothing refers to.

    As it is if the printed text does not mean the same.
    """
    with rolled_back(conn):
        canonical = probe(conn, query, "pgtrickle_whole", catalog_path=True).canonical
    stmt = parse_query(canonical)
    try:
        with rolled_back(conn):
            again = probe(conn, print_node(stmt), "pgtrickle_whole", catalog_path=True).canonical
    except PgTrickleError as error:
        if db.passes(error):
            raise
        return query
    if again != canonical:
        return query
    drop_unused(stmt)
    return print_node(stmt)


def _learn(conn: db.Connection, query: str, settings: dict[str, str]) -> _Compilation:
    probed = probe(conn, query, "pgtrickle_probe", catalog_path=True)
    probed = replace(probed, canonical=text_with_names(conn, probed.view) or probed.canonical)
    relations = find_relations(conn, probed.view.rule.relations)
    attributes = read_attributes(conn, relations)
    generated = tuple(read_rule(row.tree) for rows in attributes.values() for row in rows if row.tree is not None)
    rules = (probed.view.rule, *(view.rule for view in relations.views.values()), *generated)
    collations = sorted(frozenset[int]().union(*(rule.collations for rule in rules)))
    params = {"oids": collations or [0], "relids": sorted(relations.rows) or [0]}
    loose = frozenset(db.fetch_value(conn, _QUERIES["nondeterministic_collations"], params))
    functions = load_functions(conn, rules)
    types = TypeLoader(conn, coarse_text=bool(loose), exact_floats=int(settings.get("extra_float_digits", "1")) > 0)
    found = _Compilation(conn, probed, relations, functions, types, settings, generated=generated)
    found.mixes_collations = bool(loose) and any(loose & foreign_collations(rule.text) for rule in rules)
    found.names = shown_names(conn, [rule.text for rule in rules], functions)
    generations = read_generations(conn, relations, attributes, types)
    found.described = describe_relations(conn, relations, attributes, generations, types)
    return found


def _plan(found: _Compilation, query: str, mode: str) -> Plan:
    try:
        if not found.proven:
            _choose_search_path(found, query)
        elif found.settings["search_path"] != "pg_catalog":
            # What was chosen then: operators of the user's types are looked up there, too.
            _set_search_path(found.conn, found.settings["search_path"])
        if mode == "FULL":
            return _full(found, "refresh_mode is FULL")
        return _differential(found)
    except UnsupportedQuery as error:
        if mode == "DIFFERENTIAL":
            raise
        if mode == "FULL":
            return _full(found, "refresh_mode is FULL")
        found.notices.append(("auto_full", f"AUTO refreshes this table FULL: {error.message}"))
        return _full(found, error.message)


def _choose_search_path(found: _Compilation, query: str) -> None:
    """Prefer pg_catalog alone, under which nobody can shadow a name.

    Some printed clauses (USING, IN, IS DISTINCT FROM ...) leave their operator to the search path, functions of
    the user's may read it, and a regclass is shown by it: then the path of the session is kept, behind pg_catalog.

    Raises:
        UnsupportedQuery: the server does not read its own text as it read the user's; the user's is kept then.
    """
    path = found.settings.get("search_path", "")
    own = all(f.is_builtin and not f.moves for f in found.functions) and not found.names.types
    if own and _reads_the_same(found, found.probe.canonical):
        found.settings["search_path"] = "pg_catalog"
        return
    behind = path if path.startswith("pg_catalog,") else f"pg_catalog, {path or 'pg_temp'}"
    _set_search_path(found.conn, behind)
    if _reads_the_same(found, found.probe.canonical):
        found.settings["search_path"] = behind
        return
    _set_search_path(found.conn, path)
    found.probe = replace(found.probe, canonical=query.strip().rstrip(";") + ";")
    raise UnsupportedQuery(
        "the server reads the query that it printed itself in another way",
        clause="printing",
        hint="Qualify operators of other schemas with OPERATOR(schema.name); until then AUTO runs it FULL.",
    )


def _set_search_path(conn: db.Connection, path: str) -> None:
    """For text of the user's; our own statements are executed under the safe path all the same."""
    with db.wrapped():
        conn.execute(db.use_path(path))
    conn.behind = path


@contextmanager
def _path_of_user(conn: db.Connection, path: str) -> Iterator[None]:
    before = conn.behind
    _set_search_path(conn, path)
    try:
        yield
    finally:
        conn.behind = before


def _reads_the_same(found: _Compilation, query: str, like: str | None = None) -> bool:
    """Whether the server understands a text exactly as it understood another one (by default, the user's)."""
    try:
        with rolled_back(found.conn):
            first = "pgtrickle_probe"
            columns = found.probe.columns
            if like is not None:
                first = "pgtrickle_like"
                columns = probe(found.conn, like, first, catalog_path=False).columns
            again = probe(found.conn, query, "pgtrickle_again", catalog_path=False)
            mine, theirs = (_meaning(found, name) for name in (first, "pgtrickle_again"))
            return mine == theirs and again.columns == columns
    except PgTrickleError as error:
        if db.passes(error):
            raise
        return False


def _meaning(found: _Compilation, name: str) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """What the rule of a temporary view means, and the names that rows in it show."""
    oid = SQL("SELECT {}::pg_catalog.regclass::pg_catalog.oid").format("pg_temp." + name)
    relid = db.fetch_value(found.conn, oid)
    volatile = frozenset(function.oid for function in found.functions if function.volatility == "v")
    rule = db.fetch_value(found.conn, _QUERIES["view_rule"], {"relid": relid})
    return meaning_of(rule, relid, volatile), row_names(rule)


# --- DIFFERENTIAL ---------------------------------------------------------------------------------------------------


def _differential(found: _Compilation) -> Plan:
    """The differential plan; subqueries are evaluated once per outer value where they cannot be unnested."""
    if has_nested_query(parse_query(found.probe.canonical)) or found.relations.views:
        try:
            return _accepted(found, unnest=True)
        except UnsupportedQuery:
            pass
    return _accepted(found, unnest=False)


def _accepted(found: _Compilation, *, unnest: bool) -> Plan:
    """A plan that the server accepts; whatever it refuses of it is refused here, not at a refresh."""
    found.rewrites.clear()
    try:
        with found.conn.transaction():
            return _compiled(found, unnest)
    except RecursionError as error:
        raise UnsupportedQuery(
            "the query is nested too deeply for the compiler",
            clause="depth",
            hint="Split it with views or stream tables on stream tables; until then AUTO runs it FULL.",
        ) from error
    except InternalError as error:
        raise UnsupportedQuery(
            f"the compiler contradicts itself: {error.message}",
            clause="compiler",
            hint="Please report the query; until then it runs with refresh_mode AUTO or FULL.",
        ) from error
    except StatementFailed as error:
        if db.passes(error):
            raise
        raise UnsupportedQuery(
            f"PostgreSQL refuses a statement of the differential plan: {error.message}",
            clause="preparation",
            detail=error.detail,
            hint="Please report the query; until then it runs with refresh_mode AUTO or FULL.",
        ) from error


def _compiled(found: _Compilation, unnest: bool) -> Plan:
    _refuse_moving(found)
    _refuse_mixed_collations(found)
    _refuse_system_columns(found)
    reference = _determinised(found)
    stmt = parse_query(reference)
    if Names.RESERVED in reference:
        raise UnsupportedQuery(f"the query contains the reserved text {Names.RESERVED}", clause=Names.RESERVED)
    if not found.proven and not _reads_the_same(found, print_node(stmt), reference):
        raise UnsupportedQuery(
            "the parser's printer changes the meaning of the query",
            clause="printing",
            detail=print_node(stmt)[:300],
            hint="Please report the query; until then it runs with refresh_mode AUTO or FULL.",
        )
    if reads_only(stmt) and found.conn.info.server_version >= _ELIMINATES_SELF_JOINS:
        # It takes the join of a table with ONLY itself on a unique key for one with the same rows.
        found.settings["enable_self_join_elimination"] = "off"
    name_outputs(stmt)
    name_tables(stmt)
    qualify_merged(stmt)
    facts = Facts(found.described, by_name(found.functions))
    expressions = Expressions(facts, Names(), found.rewrites, whole_rows(stmt), reads_tableoid(stmt))
    parser = QueryParser(expressions, UNKNOWN, found.notices, unnest=unnest)
    tree, _ = parser.parse(stmt, top=True)
    _refuse_huge(tree)
    bindings = _bindings(found)
    typed = Typing(found.conn, found.types, bindings, found.rewrites).annotate(tree)
    refuse_not_null(typed)
    flat = unions(typed)
    stages = cut_stages(flat, tuple(column.name for column in found.probe.columns))
    notices = _notices(found, stages)
    needs = _needs(found, stages)
    rewrites = tuple(dict.fromkeys((*found.rewrites, *rewrites_between(typed, flat, stages))))
    canonical = found.probe.canonical
    plan = Plan(stages, needs, "DIFFERENTIAL", canonical, notices, reference=_bare(reference), rewrites=rewrites)
    if found.check:
        check_statements(found.conn, plan, bindings)
    return plan


def _determinised(found: _Compilation) -> str:
    """The query with views expanded and every order total on which its result depends, as the server prints it."""
    views = {
        (row.schema, row.name): _named_rows(found, found.relations.views[row.relid], f"{row.schema}.{row.name}")
        for row in found.relations.rows.values()
        if row.relid in found.relations.views
    }
    loose = any(
        attribute.type.equality is not Equality.EXACT
        for relation in found.described.values()
        for attribute in relation.attributes
    )
    keys = {name: relation.keys for name, relation in found.described.items()}
    facts = Expressions(Facts(found.described, by_name(found.functions)), Names())
    for texts in (Texts.BEHIND if loose else Texts.NEVER, Texts.INSTEAD):
        stmt = parse_query(found.probe.canonical)
        expanded = expand_views(stmt, views)
        ordered = determinise(stmt, facts.is_aggregate, texts=texts, keys=keys)
        if not (expanded or ordered):
            return found.probe.canonical
        try:
            with rolled_back(found.conn):
                again = probe(found.conn, print_node(stmt), "pgtrickle_ordered", catalog_path=True)
        except InvalidQuery as error:
            if texts is Texts.INSTEAD or not ordered:
                raise UnsupportedQuery(
                    f"the order that decides the result cannot be made total: {error.message}",
                    clause="order",
                    detail=print_node(stmt)[:300],
                    hint="Order by a unique key, or use refresh_mode AUTO or FULL.",
                ) from error
        else:
            if expanded:
                views_read = ", ".join(sorted(f"{schema}.{name}" for schema, name in views))
                found.rewrites.append(Rewrite("views", f"views are replaced by their queries: {views_read}"))
            if ordered:
                found.rewrites.append(Rewrite("order", "orders that the query leaves free are made total"))
                found.notices.append(("order_made_total", "an order that the query leaves free is made total"))
            return _named_rows(found, again.view)
    raise InternalError("an order was neither made total nor refused")


def _refuse_moving(found: _Compilation) -> None:
    moving = sorted({f"{f.schema}.{f.name}" for f in found.functions if f.moves})
    if moving:
        raise UnsupportedQuery(
            f"the result of {', '.join(moving)} can change although no source does",
            clause=moving[0],
            hint="Refresh it FULL, or compare with a column instead.",
        )
    if any(rule.sql_values for rule in found.rules):
        raise UnsupportedQuery(
            "CURRENT_DATE, CURRENT_USER and their like change although no source does",
            clause="CURRENT_DATE/CURRENT_TIMESTAMP/CURRENT_USER",
            hint="Refresh it FULL, or compare with a column instead.",
        )

    if found.names.moving:
        raise UnsupportedQuery(
            "names of objects that the query shows or looks up (regclass, regtype ...) change although no source does",
            clause="regclass/regproc/regtype",
            hint="Select the regclass itself and cast it to text where you read it, or refresh it FULL.",
        )


def _named_rows(found: _Compilation, view: View, name: str | None = None) -> str:
    """The text of a view, in which rows show the names that they have in it; ``name``: that of the user's view."""
    text = text_with_names(found.conn, view)
    if text is None:
        raise UnsupportedQuery(
            f"PostgreSQL prints the query{' of a view' if name else ''} with other names of columns in its rows",
            clause="printing",
            detail=name,
            hint="Give the columns of the row different names, and those of a join by a subquery around it.",
        )
    return text


def _refuse_mixed_collations(found: _Compilation) -> None:
    """Values that one comparison takes for equal would be grouped, hashed and found again as different ones."""
    if found.mixes_collations:
        raise UnsupportedQuery(
            "text is compared under a collation that is not its own, and one of the two is non-deterministic",
            clause="COLLATE",
            hint="Give both sides the same collation where they are stored, or in a view with COLLATE.",
        )


def _refuse_system_columns(found: _Compilation) -> None:
    """Those of tables change without a change of the row; a subquery that is evaluated as it stands shows no others."""
    if any(rule.system_columns for rule in found.rules):
        raise UnsupportedQuery(
            "a system column changes without a change of the row",
            clause="ctid/xmin/xmax/cmin/cmax",
            hint="Use a column of your own.",
        )


def _refuse_huge(tree: Operator) -> None:
    reads = table_reads(tree)
    if reads > MAX_READS:
        raise UnsupportedQuery(
            f"the query reads tables {reads} times, and {MAX_READS} is the limit",
            clause="size",
            hint="Make a stream table of what is used several times; until then AUTO runs it FULL.",
        )


def _needs(found: _Compilation, stages: tuple[Stage, ...]) -> tuple[SourceNeed, ...]:
    columns: dict[InputKey, dict[int, str]] = {}
    inner = frozenset[InputKey]().union(*(subquery_inputs(stage.operator) for stage in stages))
    generated = any(a.generation is not None for facts in found.described.values() for a in facts.attributes)
    read = _read(found) if inner or generated else ReadColumns((), {})
    found.rewrites.extend(Rewrite("virtual column", text) for text in read.described())
    virtual, names = read.virtual(), read.names()
    for stage in stages:
        for scan in scans_of(stage.operator):
            if scan.input.kind != "stage":
                only = {TABLEOID: "tableoid"} if scan.only else {}
                more = only | virtual.get(scan.input.ident, {})
                columns.setdefault(scan.input, {}).update(dict(scan.attributes) | more)
    for key in inner:
        columns.setdefault(key, {}).update(names[key.ident])
    return tuple(
        SourceNeed(key.ident, key.kind, dict(sorted(names.items())))
        for key, names in sorted(columns.items(), key=lambda item: item[0].ident)
    )


def _read(found: _Compilation) -> ReadColumns:
    return ReadColumns.find(found.conn, found.described.values(), found.relations.views)


def _notices(found: _Compilation, stages: tuple[Stage, ...]) -> tuple[tuple[str, str], ...]:
    notices = list(dict.fromkeys(found.notices))
    for stage in stages:
        if stage.strategy in (Strategy.KEYS, Strategy.ALL):
            notices.append(("group_recompute", f"{stage.strategy.value}: {stage.reason}"))
        for scan in scans_of(stage.operator):
            if scan.input.kind == "table" and not scan.keys and not _has_key(found, scan.input.ident):
                row = found.relations.rows[scan.input.ident]
                notices.append(("keyless_source", f"{row.schema}.{row.name} has no primary key"))
    return tuple(dict.fromkeys(notices))


def _has_key(found: _Compilation, relid: int) -> bool:
    rows = db.fetch_all(found.conn, _QUERIES["unique_keys"], dict, {"relids": [relid]})
    return bool(rows)


def _bindings(found: _Compilation) -> Bindings:
    """Enough to print a tree that reads tables as they are."""
    tables = {row.relid: TableBinding(Relation(row.schema, row.name), None) for row in found.relations.rows.values()}
    streams = {relid: StreamTableBinding(table.relation, table.relation) for relid, table in tables.items()}
    return Bindings(tables, streams)


# --- FULL -----------------------------------------------------------------------------------------------------------


def _comparable(column: ProbeColumn, kind: Type) -> Type:
    """A text column of which PostgreSQL cannot tell the collation is compared by its bytes."""
    if kind.category != "S" or column.collation_oid:
        return kind
    return replace(kind, equality=Equality.COARSE, hashable=False)


def _full(found: _Compilation, reason: str) -> Plan:
    types = found.types.load((column.type_oid, column.typmod) for column in found.probe.columns)
    columns = tuple(Column(c.name, _comparable(c, types[c.type_oid, c.typmod])) for c in found.probe.columns)
    facts = found.described
    tables = [f for f in facts.values() if f.kind != "view"]
    inputs = frozenset(InputKey(f.kind, f.relid) for f in tables)
    reference = _bare(found.probe.canonical)
    tree: Operator = Opaque(reference, columns)
    stage = Stage(0, Strategy.ALL, reason, columns, None, inputs, tree)
    read = _read(found).names()
    needs = tuple(
        SourceNeed(
            f.relid,
            f.kind,
            read[f.relid],
            rows=False,
            capturable=f.obstacle is None,
        )
        for f in sorted(tables, key=lambda f: f.relid)
    )
    moving = (
        found.names.moving
        or any(f.moves for f in found.functions)
        or any(rule.sql_values or rule.system_columns for rule in found.rules)
    )
    notices = tuple(found.notices)
    return Plan((stage,), needs, "FULL", found.probe.canonical, notices, reason, moving, reference)


def _bare(query: str) -> str:
    """A query that can stand in parentheses."""
    return query.strip().rstrip(";")
