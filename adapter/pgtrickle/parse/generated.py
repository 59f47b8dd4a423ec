"""Virtual generated columns: where one is read stands its expression, as PostgreSQL itself puts it there.

Nothing is stored of such a column, so no trigger sees it; what it is computed from is captured. The expression stands
in every clause that reads the column and nowhere else, so that it is evaluated for the same rows as in the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pglast import ast, enums, parse_sql

from pgtrickle.ir.expr import col
from pgtrickle.parse.expression import Expressions
from pgtrickle.parse.facts import Attribute, RelationFacts
from pgtrickle.parse.printing import print_node
from pgtrickle.parse.scope import Scope, Table, Visible


def selection(schema: str, name: str, expressions: Sequence[str]) -> str:
    """A query of these expressions over a table, printed as this package prints them.

    Args:
        schema, name: the table.
        expressions: SQL over the bare names of its columns.
    """
    targets = (ast.ResTarget(name=f"c{number}", val=_node(text)) for number, text in enumerate(expressions, 1))
    query = ast.SelectStmt(
        targetList=tuple(targets),
        fromClause=(ast.RangeVar(schemaname=schema, relname=name, inh=True),),
        op=enums.SetOperation.SETOP_NONE,
        limitOption=enums.LimitOption.LIMIT_OPTION_DEFAULT,
    )
    return print_node(query)


def visible_columns(facts: RelationFacts, names: Mapping[str, str], expressions: Expressions) -> tuple[Visible, ...]:
    """What a table shows, in its order: its stored columns, and of a virtual one the expression over them.

    Args:
        facts: the table.
        names: column name -> name in the tree, of all stored columns.
        expressions: converts the expressions.
    """
    stored = Scope((Table("", tuple(Visible(a.name, col(names[a.name])) for a in facts.attributes if _is_stored(a))),))

    def visible(attribute: Attribute) -> Visible:
        generation = attribute.generation
        if generation is None:
            return Visible(attribute.name, col(names[attribute.name]))
        if generation.obstacle is not None:
            return Visible(attribute.name, col(attribute.name), computed=True, obstacle=generation.obstacle)
        expr = expressions.convert(_node(generation.text), stored)
        return Visible(attribute.name, expr, computed=True)

    return tuple(visible(attribute) for attribute in facts.attributes)


def _is_stored(attribute: Attribute) -> bool:
    return attribute.generation is None


def _node(expression: str) -> ast.Node:
    return parse_sql(f"SELECT {expression}")[0].stmt.targetList[0].val
