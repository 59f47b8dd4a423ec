"""pglast's printer, with the cases mended in which its text means something else than the tree."""

from __future__ import annotations

from typing import Any

import pglast.printers  # noqa: F401  (registers the printers)
from pglast import ast
from pglast.enums import XmlExprOp, XmlStandaloneType
from pglast.printers import NODE_PRINTERS, node_printer
from pglast.stream import RawStream

from pgtrickle.errors import UnsupportedQuery
from pgtrickle.parse.tree import walk

#: Type names that the grammar reads as another type when they are not quoted: ``bit`` is ``bit(1)``.
_QUOTED_TYPES = frozenset({"bit", "char"})
_PRINT_TYPE = NODE_PRINTERS[ast.TypeName]
#: Functions whose name begins a clause of its own (``POSITION(a IN b)``) when it is not quoted.
_QUOTED_FUNCTIONS = frozenset({"extract", "normalize", "position"})
_PRINT_CALL = NODE_PRINTERS[ast.FuncCall]
_PRINT_XML = NODE_PRINTERS[ast.XmlExpr]
_STANDALONE = {
    XmlStandaloneType.XML_STANDALONE_YES: ", STANDALONE YES",
    XmlStandaloneType.XML_STANDALONE_NO: ", STANDALONE NO",
    XmlStandaloneType.XML_STANDALONE_NO_VALUE: ", STANDALONE NO VALUE",
    XmlStandaloneType.XML_STANDALONE_OMITTED: "",
}


@node_printer(ast.TypeName, override=True)
def _type_name(node: Any, output: Any) -> None:
    names = [name.sval for name in node.names or ()]
    bare = names[-1:] if names[:1] == ["pg_catalog"] else names
    if len(bare) == 1 and bare[0] in _QUOTED_TYPES and not node.typmods:
        output.write(f'pg_catalog."{bare[0]}"')
        output.write("[]" * len(node.arrayBounds or ()))
        return
    _PRINT_TYPE(node, output)


@node_printer(ast.FuncCall, override=True)
def _function_call(node: Any, output: Any) -> None:
    if len(node.funcname) == 1 and node.funcname[0].sval in _QUOTED_FUNCTIONS:
        output.write("pg_catalog.")
    _PRINT_CALL(node, output)


@node_printer(ast.XmlExpr, override=True)
def _xml_expression(node: Any, output: Any) -> None:
    if node.op != XmlExprOp.IS_XMLROOT:
        _PRINT_XML(node, output)
        return
    document, version, standalone = node.args
    output.write("xmlroot(")
    output.print_node(document)
    output.write(", VERSION ")
    if getattr(version, "isnull", False):
        output.write("NO VALUE")
    else:
        output.print_node(version)
    output.write(_STANDALONE[XmlStandaloneType(standalone.val.ival)] + ")")


@node_printer(ast.XmlSerialize, override=True)
def _xml_serialized(node: Any, output: Any) -> None:
    output.write("xmlserialize(DOCUMENT " if node.xmloption.name == "XMLOPTION_DOCUMENT" else "xmlserialize(CONTENT ")
    output.print_node(node.expr)
    output.write(" AS ")
    output.print_node(node.typeName)
    output.write(" INDENT)" if node.indent else ")")


def print_node(node: ast.Node) -> str:
    """The SQL text of a node, on one line.

    Raises:
        UnsupportedQuery: pglast's printer does not know this form of it.
    """
    try:
        printed = RawStream()(node)
    except (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        raise UnsupportedQuery(
            f"the parser's printer fails at a part of the query: {error}",
            clause="printing",
            hint="Please report the query; until then it runs with refresh_mode AUTO or FULL.",
        ) from error
    for inner in walk(node, into_subqueries=True):
        # The printer leaves in each node what stands around it: a copy of the node would be one of the whole query.
        if hasattr(inner, "ancestors"):
            del inner.ancestors
    return printed
