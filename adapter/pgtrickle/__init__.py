"""pgtrickle: stream tables for PostgreSQL 14 to 18, kept up to date by an ordinary client process."""

from __future__ import annotations

__version__ = "0.1.0"
