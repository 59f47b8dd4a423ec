"""Plays random histories of DDL, writes and refreshes, one seed after the other, until the time is over.

python tools/reshape.py --seconds 600 --start 0 --majors 14,18
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))


from pgtrickle.api import PgTrickle
from tests.support import servers
from tests.support.ddl_histories import History


def play(server: servers.Server, seed: int, steps: int) -> tuple[str | None, Counter[str]]:
    """One history in a database that is thrown away: what went wrong, and what was done how often."""
    name = f"reshape{seed}"
    history = None
    try:
        with server.database(name) as dsn, PgTrickle.connect(dsn) as one, PgTrickle.connect(dsn) as other:
            one.install()
            with server.connect(name) as conn:
                history = History(conn, (one, other), seed)
                history.play(steps)
        return None, Counter(history.counts)
    except AssertionError as error:
        return str(error), Counter(history.counts if history else {})


def main() -> int:
    """Play until the time is over. Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--majors", default="14,18", help="in turn")
    parser.add_argument("--steps", type=int, default=40, help="of one history")
    options = parser.parse_args()
    running = [servers.start(int(major)) for major in options.majors.split(",")]
    totals: Counter[str] = Counter()
    found, seed, deadline = 0, options.start, time.monotonic() + options.seconds
    try:
        while time.monotonic() < deadline:
            server = running[seed % len(running)]
            wrong, counts = play(server, seed, options.steps)
            totals += counts
            found += wrong is not None
            print(f"PostgreSQL {server.major}: {'ok' if wrong is None else 'FAILED'}: seed {seed}", flush=True)
            if wrong is not None:
                print(wrong, flush=True)
            seed += 1
    finally:
        for server in running:
            server.stop()
    done = ", ".join(f"{name} {number}" for name, number in totals.most_common())
    print(f"{seed - options.start} histories, {found} failed; {done}")
    return int(found > 0)


if __name__ == "__main__":
    raise SystemExit(main())
