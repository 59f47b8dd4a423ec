"""The only place that talks to the driver: connections, transactions, DDL under lock time-outs, errors."""

from __future__ import annotations

from pgtrickle.db.batch import batch, batch_sets, tell
from pgtrickle.db.connection import (
    READ_ONLY,
    SAFE_PATH,
    Connection,
    cancel_all,
    connect,
    refuse_extension,
    refuse_read_only,
    shorter_than_deadlocks,
    use_path,
)
from pgtrickle.db.errors import passes, translate, wrapped
from pgtrickle.db.locking import GaveUp, LockPolicy, ddl, keep_out, lock_together, under_lock_timeout
from pgtrickle.db.refusals import is_lasting
from pgtrickle.db.statements import Query, bound, execute, fetch_all, fetch_one, fetch_value, transaction

__all__ = [
    "READ_ONLY",
    "SAFE_PATH",
    "Connection",
    "GaveUp",
    "LockPolicy",
    "Query",
    "batch",
    "batch_sets",
    "bound",
    "cancel_all",
    "connect",
    "ddl",
    "execute",
    "fetch_all",
    "fetch_one",
    "fetch_value",
    "is_lasting",
    "keep_out",
    "lock_together",
    "passes",
    "refuse_extension",
    "refuse_read_only",
    "shorter_than_deadlocks",
    "tell",
    "transaction",
    "translate",
    "under_lock_timeout",
    "use_path",
    "wrapped",
]
