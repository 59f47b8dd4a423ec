"""``pgtrickle run``: the runner."""

from __future__ import annotations

import argparse
import signal
from types import FrameType

from pgtrickle.cli.context import Context
from pgtrickle.cli.exits import Exit
from pgtrickle.config import LOG_FORMATS
from pgtrickle.refresh import Plans
from pgtrickle.schedule import log
from pgtrickle.schedule.runner import Runner

HELP = "Keep stream tables fresh: refresh what is due, until SIGTERM or SIGINT."


def configure(parser: argparse.ArgumentParser) -> None:
    """How it behaves."""
    parser.add_argument("--once", action="store_true", help="refresh what is due now, then end; 1 if one failed")
    parser.add_argument("--workers", type=int, metavar="N", help="groups refreshed at the same time (default 2)")
    parser.add_argument(
        "--poll-interval", type=float, metavar="SECONDS", help="between two looks for 'continuous' (default 0.01)"
    )
    parser.add_argument("--log-format", choices=LOG_FORMATS, help="one JSON object (default) or key=value per line")
    parser.add_argument("--verbose", "-v", action="store_true", help="log refreshes that found nothing to do too")


def run(context: Context) -> Exit:
    """Run until told to stop; the first signal lets the current refreshes finish, the second cancels them."""
    settings = context.settings.runner
    log.configure(settings.log_format, secrets=context.secrets(), verbose=context.args.verbose)
    plans = Plans()
    runner = Runner(
        settings,
        open_connection=lambda: context.connection("pgtrickle runner"),
        open_engine=lambda: context.engine("runner", plans),
    )
    _handle_signals(runner)
    if context.args.once:
        return Exit.ERROR if runner.run_once() else Exit.OK
    return Exit.OK if runner.run() else Exit.INTERRUPTED


def _handle_signals(runner: Runner) -> None:
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 1:
            runner.stop()
        else:
            runner.abort()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
