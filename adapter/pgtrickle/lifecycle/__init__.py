"""Creating, comparing, altering and dropping stream tables."""

from __future__ import annotations

from pgtrickle.lifecycle.create import create
from pgtrickle.lifecycle.drop import discard_by_id, drop, finish_drops, release
from pgtrickle.lifecycle.mend import put_guard, rebuild, refresh_group, repair, repair_by_id, verify
from pgtrickle.lifecycle.options import Configuration, configure
from pgtrickle.lifecycle.preview import preview
from pgtrickle.lifecycle.privileges import explained
from pgtrickle.lifecycle.replace import alter, create_or_replace
from pgtrickle.lifecycle.restore import rebind, recover
from pgtrickle.lifecycle.target import Target, resolve, resolve_stream_table, stream_table_oid

__all__ = [
    "Configuration",
    "Target",
    "alter",
    "configure",
    "create",
    "create_or_replace",
    "discard_by_id",
    "drop",
    "explained",
    "finish_drops",
    "preview",
    "put_guard",
    "rebind",
    "rebuild",
    "recover",
    "refresh_group",
    "release",
    "repair",
    "repair_by_id",
    "resolve",
    "resolve_stream_table",
    "stream_table_oid",
    "verify",
]
