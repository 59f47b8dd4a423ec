"""The adapter's version, read by dbt and by the build."""

version = "0.1.0"
