"""Real flights, a real dbt project, live changes: see README.md."""
