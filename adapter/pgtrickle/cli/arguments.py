"""Arguments that several verbs share."""

from __future__ import annotations

import argparse


def add_name(parser: argparse.ArgumentParser) -> None:
    """One stream table."""
    parser.add_argument("name", metavar="NAME", help="stream table: name or schema.name, quoted as in SQL if need be")


def add_names(parser: argparse.ArgumentParser, verb: str) -> None:
    """Several stream tables, or all."""
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"stream tables to {verb}")
    parser.add_argument("--all", action="store_true", help=f"{verb} all stream tables")


def need_names(args: argparse.Namespace) -> None:
    """Either names or ``--all``.

    Raises:
        SystemExit: with the code of a wrong command line.
    """
    if bool(args.names) == bool(args.all):
        argparse.ArgumentParser(prog=f"pgtrickle {args.command}").error("give the names of stream tables, or --all")


def add_query(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The defining query, as text or as a file."""
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument("--query", "-q", metavar="SQL", help="the defining query")
    group.add_argument("--file", "-f", metavar="FILE", help="a file with the defining query; - is stdin")


def add_definition(parser: argparse.ArgumentParser) -> None:
    """How a stream table is maintained."""
    parser.add_argument("--schedule", help="30s, 1h30m, '0 6 * * * Europe/Berlin', continuous or calculated")
    parser.add_argument("--mode", metavar="MODE", help="AUTO, DIFFERENTIAL or FULL")
    parser.add_argument(
        "--option", "-o", action="append", metavar="KEY=VALUE", help="any further option; the value may be JSON"
    )
