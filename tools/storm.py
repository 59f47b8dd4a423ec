"""Lets storms loose on databases of their own, one seed after the other, until the time is over.

python tools/storm.py --seconds 600 --start 0 --majors 14,18
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))


from tests.storm.log import Log
from tests.storm.storm import Storm, Weather
from tests.support import servers


def storm(server: servers.Server, seed: int, weather: Weather) -> Log:
    """One storm in a database that is thrown away."""
    with server.database(f"storm{seed}") as dsn, tempfile.TemporaryDirectory() as home:
        return Storm(server, dsn, seed, weather, Path(home)).run()


def main() -> int:
    """Blow until the time is over. Returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--majors", default="14,18", help="in turn")
    parser.add_argument("--each", type=float, default=60, help="seconds of one storm")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--runners", type=int, default=2)
    options = parser.parse_args()
    running = [servers.start(int(major), settings={"autovacuum_naptime": "5s"}) for major in options.majors.split(",")]
    totals: Counter[tuple[str, str]] = Counter()
    found, seed, deadline = 0, options.start, time.monotonic() + options.seconds
    try:
        while time.monotonic() < deadline:
            each = min(options.each, max(5.0, deadline - time.monotonic()))
            weather = Weather(
                seconds=each,
                writers=options.writers,
                patient=4,
                runners=options.runners,
                refreshers=3,
                whole=True,
                patience=each / 2,
                calms=max(1, int(each / 15)),
                limit=400_000 if seed % 3 == 2 else 1 << 30,
            )
            server = running[seed // 3 % len(running)]
            # Longer than any storm takes: then it shows where everybody is.
            faulthandler.dump_traceback_later(5 * each + 200)
            log = storm(server, seed, weather)
            state = "FAILED" if log.violations else "ok"
            print(f"PostgreSQL {server.major}: {log.report()}\n{state}: seed {seed}", flush=True)
            if log.violations:
                print("\n".join([*log.violations, log.tail()]), flush=True)
            found += bool(log.violations)
            add(totals, log)
            seed += 1
    finally:
        for server in running:
            server.stop()
    summary = Log(options.start, counts=totals)
    print(f"\nall {seed - options.start} storms: {found} failed; next seed {seed}\n{summary.report()}")
    return 1 if found else 0


def add(totals: Counter[tuple[str, str]], log: Log) -> None:
    """Sum up, but keep the longest waits."""
    for key, number in log.counts.items():
        totals[key] = max(totals[key], number) if key[0].startswith("longest") else totals[key] + number


if __name__ == "__main__":
    sys.exit(main())
