"""The engine's own tables: one module of small typed functions per table, all SQL in ``queries.sql``."""

from __future__ import annotations
