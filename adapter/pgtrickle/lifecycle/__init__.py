"""Creating, comparing, altering and dropping stream tables."""

from __future__ import annotations

from pgtrickle.lifecycle.create import create
from pgtrickle.lifecycle.drop import drop, release
from pgtrickle.lifecycle.mend import refresh_group, repair, verify
from pgtrickle.lifecycle.options import Configuration, configure
from pgtrickle.lifecycle.preview import preview
from pgtrickle.lifecycle.replace import alter, create_or_replace
from pgtrickle.lifecycle.restore import rebind
from pgtrickle.lifecycle.target import Target, resolve, resolve_stream_table, stream_table_oid

__all__ = [
    "Configuration",
    "Target",
    "alter",
    "configure",
    "create",
    "create_or_replace",
    "drop",
    "preview",
    "rebind",
    "refresh_group",
    "release",
    "repair",
    "resolve",
    "resolve_stream_table",
    "stream_table_oid",
    "verify",
]
