"""The names this project owns in a database, in one place."""

from __future__ import annotations

import hashlib

CATALOG_SCHEMA = "pgtrickle"
CHANGES_SCHEMA = "pgtrickle_changes"
STATE_SCHEMA = "pgtrickle_state"

#: Columns of change buffers and output logs. Data columns there are called ``c<attnum>``, so neither a
#: user's column name nor a rename can ever collide with these.
XID_COLUMN = "__x"
NUMBER_COLUMN = "__n"
WEIGHT_COLUMN = "__w"

MAX_IDENTIFIER_BYTES = 63


#: The attribute number of ``tableoid``, which tells in which table of its family a row of a source is.
TABLEOID = -6


def change_column(attnum: int) -> str:
    """The name, in a change buffer or output log, of the source column with this attribute number.

    >>> change_column(3), change_column(TABLEOID)
    ('c3', 'c_6')
    """
    return f"c{attnum}".replace("-", "_")


def fit_identifier(name: str, taken: frozenset[str] = frozenset()) -> str:
    """Shorten a name to PostgreSQL's 63 bytes and away from ``taken``, keeping it readable and stable.

    >>> fit_identifier("orders")
    'orders'
    >>> len(fit_identifier("é" * 60).encode())
    63
    """
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES and name not in taken:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    room = MAX_IDENTIFIER_BYTES - len(digest) - 1
    head = name.encode()[:room].decode(errors="ignore")
    head += "_" * (room - len(head.encode()))
    return f"{head}_{digest}"
