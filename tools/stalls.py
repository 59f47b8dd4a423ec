"""Measures how long writers and readers wait while the engine does each thing that it can do.

    python tools/stalls.py --major 18 --rows 300000

Prints one table for a database where nothing is in the way, and one where an old transaction that has read and written
every table is open when each operation begins. The exit code is 1 if somebody waited longer than is promised.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))

from tests.faults import stalls
from tests.support import servers


def main() -> int:
    """Measure, print, complain."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--major", type=int, default=servers.EMBEDDED_MAJOR)
    parser.add_argument("--rows", type=int, default=300_000, help="of the big source")
    args = parser.parse_args()
    server = servers.start(args.major)
    broken: list[str] = []
    try:
        for held in (False, True):
            with server.database(f"stalls_{held}".lower()) as dsn:
                measured = stalls.run(dsn, held=held, rows=args.rows, tell=_progress)
            if not held:
                with server.database("stalls_migration") as dsn:
                    measured += stalls.migrate(dsn, 1, tell=_progress)
            broken += [line for one in measured for line in one.broken()]
            title = "behind an old transaction" if held else "nothing in the way"
            sys.stdout.write(f"\n{title}, PostgreSQL {args.major}\n\n{stalls.table(measured)}\n")
    finally:
        server.stop()
    sys.stdout.write("\n".join(["", "NOT AS PROMISED:", *broken]) + "\n" if broken else "\nall as promised\n")
    return 1 if broken else 0


def _progress(one: stalls.Measured) -> None:
    sys.stderr.write(f"{one.operation.name}: {one.seconds:.1f} s {one.error or ''}\n")


if __name__ == "__main__":
    sys.exit(main())
