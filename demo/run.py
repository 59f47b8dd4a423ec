"""Starts the demo from anywhere: ``python demo/run.py``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "adapter")]

from demo.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
