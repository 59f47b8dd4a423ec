"""Draws whole cases: tables, views, stream tables on stream tables, and their history."""

from __future__ import annotations

from tests.property.case import Case, StreamTable, Window
from tests.property.choices import Choices, chance
from tests.property.expressions import Scope, Value
from tests.property.extras import ExtraGrammar
from tests.property.functions import OWN_OBJECTS
from tests.property.histories import draw_window
from tests.property.queries import MAX_PRODUCTS, Grammar, Query, Relation
from tests.property.schemas import Table, create_table, create_types, draw_insert, draw_table
from tests.property.values import TEXT

DIFFERENTIAL = "DIFFERENTIAL"
POSSIBLE = "POSSIBLE"


def draw_case(choices: Choices, *, extras: int = 20) -> Case:
    """A case.

    Args:
        choices: where decisions come from.
        extras: how many of a hundred stream tables use a construct outside the incremental grammar.
    """
    tables = [draw_table(choices, number) for number in range(1, choices.integer(1, 3) + 1)]
    schema = create_types(tables)
    for table in tables:
        schema += create_table(table)
    relations = [_table_relation(table) for table in tables]
    for table in tables:
        schema += _family(choices, table, relations)
    if chance(choices, 30):
        schema += _views(choices, relations)
    schema += [draw_insert(choices, table, 8) for table in tables]
    stream_tables = _stream_tables(choices, relations, extras)
    texts = [*schema, *(each.query for each in stream_tables)]
    own = [sql for call, sql in OWN_OBJECTS.items() if any(call in text for text in texts)]
    schema = [sql for sql in own if sql not in schema] + schema
    names = [each.name for each in stream_tables]
    windows = []
    for _ in range(choices.integer(1, 4)):
        changes = tuple(tuple(change) for change in draw_window(choices, tables))
        windows.append(Window(changes, tuple(name for name in names if not chance(choices, 15))))
    return Case(tuple(schema), tuple(stream_tables), tuple(windows))


def _table_relation(table: Table) -> Relation:
    columns: Scope = tuple(Value(column.name, column.type) for column in table.columns)
    return Relation(table.qualified, columns, table.key)


def _family(choices: Choices, table: Table, relations: list[Relation]) -> list[str]:
    """What else can be read where rows are in several tables: the parent alone, the child, the place of each row."""
    columns = _table_relation(table).columns
    if table.heirs:
        relations += [Relation(f"ONLY {table.qualified}", columns), Relation(table.heir, columns)]
    if not (table.heirs or table.partitioned) or not chance(choices, 40):
        return []
    view = f"{table.qualified}_places"
    relations.append(Relation(view, (*columns, Value("place", TEXT))))
    names = ", ".join(column.name for column in table.columns)
    return [f"CREATE VIEW {view} AS SELECT {names}, tableoid::regclass::text AS place FROM {table.qualified}"]


def _views(choices: Choices, relations: list[Relation]) -> list[str]:
    """Create one view, or a view over a view; both become relations to draw from."""
    statements = []
    for number in range(1, choices.integer(1, 2) + 1):
        grammar = Grammar(choices, relations[-2:])
        grammar.products = MAX_PRODUCTS  # a query may read a view several times: a product of products never ends
        query = grammar.query(1)
        statements.append(f"CREATE VIEW p.v{number} AS {query.sql}")
        relations.append(Relation(f"p.v{number}", query.columns))
    return statements


def _stream_tables(choices: Choices, relations: list[Relation], extras: int) -> list[StreamTable]:
    stream_tables = []
    known = list(relations)
    for number in range(1, choices.integer(1, 5) + 1):
        extra = chance(choices, extras)
        depth = choices.integer(0, 2)
        query: Query = ExtraGrammar(choices, known).extra(depth) if extra else Grammar(choices, known).query(depth)
        if not query.columns:
            continue
        if not extra and query.columns[0].type.extremes and chance(choices, 5):
            query = Query(f"{query.sql} ORDER BY 1", query.columns)
        name = f"p.s{number}"
        stream_tables.append(StreamTable(name, query.sql, POSSIBLE if extra else DIFFERENTIAL, query.classes))
        known.append(Relation(name, query.columns))
    return stream_tables
