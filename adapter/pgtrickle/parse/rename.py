"""Following renamed relations in the text of a query."""

from __future__ import annotations

from collections.abc import Mapping

from pglast import ast

from pgtrickle.parse.printing import print_node
from pgtrickle.parse.select import parse_query
from pgtrickle.parse.tree import transform


def rename_relations(query: str, names: Mapping[tuple[str, str], tuple[str, str]]) -> str:
    """The query with relations under their new names.

    Args:
        query: as the server prints it, every relation schema-qualified.
        names: old schema and name -> new schema and name.
    """
    stmt = parse_query(query)

    def replace(node: ast.Node) -> ast.Node | None:
        if not isinstance(node, ast.RangeVar) or (node.schemaname, node.relname) not in names:
            return None
        schema, name = names[node.schemaname, node.relname]
        # Columns may be qualified by the old name.
        alias = node.alias or ast.Alias(aliasname=node.relname)
        return ast.RangeVar(
            schemaname=schema, relname=name, alias=alias, inh=node.inh, relpersistence=node.relpersistence
        )

    transform(stmt, replace)
    return print_node(stmt)
