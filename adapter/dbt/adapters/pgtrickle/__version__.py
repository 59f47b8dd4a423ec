"""The adapter's version, read by dbt and by the build."""

from __future__ import annotations

version = "0.1.0"
