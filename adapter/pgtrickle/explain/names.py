"""Names of what a plan reads and writes, for people."""

from __future__ import annotations

import re

from pgtrickle.errors import InternalError
from pgtrickle.plan import Bindings, InputKey, Relation

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def relation_name(relation: Relation) -> str:
    """``schema.table``, with quotes where the name is not a plain word.

    >>> relation_name(Relation("public", "My Table"))
    'public."My Table"'
    """
    return ".".join(_quoted(part) for part in (relation.schema, relation.name))


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def relation_of(bindings: Bindings, key: InputKey) -> Relation:
    """The table or stream table that an input is.

    Raises:
        InternalError: it is not bound.
    """
    found = (bindings.stream_tables if key.kind == "stream_table" else bindings.tables).get(key.ident)
    if found is None:
        raise InternalError("a source of the plan has no name", object_name=str(key.ident))
    return found.relation


def input_name(bindings: Bindings, key: InputKey) -> str:
    """A source's qualified name, or ``stage <n>``."""
    return f"stage {key.ident}" if key.kind == "stage" else relation_name(relation_of(bindings, key))
