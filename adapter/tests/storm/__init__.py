"""A storm: writers of every kind, DDL, runners, refreshes and checks on one database at the same time."""
