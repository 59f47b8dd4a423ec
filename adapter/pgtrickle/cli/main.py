"""The command line: options that every verb has, the registry of verbs, and what happens with errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

import pgtrickle
from pgtrickle.cli import (
    alter,
    context,
    create,
    dag,
    doctor,
    drop,
    explain,
    health,
    history,
    init,
    let_go,
    plan,
    refresh,
    resume,
    run,
    status,
    suspend,
    uninstall,
    validate,
    verify,
    version,
)
from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import MEANINGS, Exit
from pgtrickle.cli.secrecy import hide_password
from pgtrickle.config import LOG_FORMATS, Arguments, Settings, load_settings
from pgtrickle.errors import InvalidOption, PgTrickleError

COMMANDS: Mapping[str, ModuleType] = {
    "init": init,
    "create": create,
    "alter": alter,
    "drop": drop,
    "suspend": suspend,
    "resume": resume,
    "let-go": let_go,
    "refresh": refresh,
    "verify": verify,
    "status": status,
    "health": health,
    "doctor": doctor,
    "history": history,
    "explain": explain,
    "validate": validate,
    "plan": plan,
    "dag": dag,
    "run": run,
    "uninstall": uninstall,
    "version": version,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: without the program's name; None: ``sys.argv``.

    Returns:
        An exit code of ``pgtrickle.cli.exits``. argparse itself exits with 2 for a wrong command line.
    """
    if argv is None:
        hide_password(sys.argv[1:])
    args = build_parser().parse_args(argv)
    try:
        module = COMMANDS[args.command]
        settings = Settings() if getattr(module, "OFFLINE", False) else load_settings(_arguments(args))
        return int(module.run(Context(args, settings)))
    except InvalidOption as error:
        context.print_error(error, as_json=args.json)
        return Exit.USAGE
    except PgTrickleError as error:
        context.print_error(error, as_json=args.json)
        return Exit.ERROR
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would complain once more when it flushes stdout.
        sys.stderr.close()
        return Exit.OK


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs."""
    parser = argparse.ArgumentParser(
        prog="pgtrickle",
        description="Stream tables for PostgreSQL: tables that follow their query, at the cost of what changed.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(default=None)],
    )
    parser.add_argument("--version", action="version", version=f"pgtrickle {pgtrickle.__version__}")
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # SUPPRESS: what was said before the verb is not overwritten by what was not said behind it.
    common = _common(default=argparse.SUPPRESS)
    for name, module in COMMANDS.items():
        verb = verbs.add_parser(name, help=module.HELP, description=module.HELP, parents=[common])
        module.configure(verb)
    return parser


def _common(default: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("connection (default: PG* variables, then pgtrickle.toml)")
    group.add_argument("--dsn", default=default, help="libpq connection string or URI")
    group.add_argument("--profile", default=default, help="profile of dbt's profiles.yml")
    group.add_argument("--target", default=default, help="target of the profile")
    group.add_argument("--profiles-dir", default=default, metavar="DIR", help="where profiles.yml is")
    group.add_argument("--config", default=default, metavar="FILE", help="configuration file, default pgtrickle.toml")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", default=default or False, help="JSON for machines")
    return parser


def _arguments(args: argparse.Namespace) -> Arguments:
    runner = {key: getattr(args, key, None) for key in ("workers", "poll_interval", "log_format")}
    return Arguments(
        dsn=args.dsn,
        profile=args.profile,
        target=args.target,
        profiles_dir=args.profiles_dir,
        config_file=args.config,
        runner=runner,
    )


def _epilog() -> str:
    codes = "\n".join(f"  {code.value:>3}  {text.replace('`', '')}" for code, text in MEANINGS.items())
    return f"exit codes:\n{codes}\n\nlog formats of run: {', '.join(LOG_FORMATS)}"
