"""Starts and stops a private PostgreSQL server from the shell.

python tools/dev_server.py start --major 18 --data DIR [--port P]     prints the connection string
python tools/dev_server.py stop --data DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adapter"))

from tests.support import servers


def main() -> int:
    """Run one command. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start")
    start.add_argument("--major", type=int, default=servers.EMBEDDED_MAJOR)
    start.add_argument("--data", type=Path, required=True)
    start.add_argument("--port", type=int)
    start.add_argument("--password")
    stop = commands.add_parser("stop")
    stop.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    data = arguments.data.resolve()
    if arguments.command == "stop":
        print("stopped" if servers.stop_detached(data) else "was not running")
        return 0
    try:
        server = servers.start(
            arguments.major, data=data, port=arguments.port, password=arguments.password, detached=True
        )
    except (servers.ServerUnavailable, servers.ServerFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(server.dsn())
    return 0


if __name__ == "__main__":
    sys.exit(main())
