"""Change capture: triggers that fill one change buffer per source, trimming, and the facts that answers rest on."""

from __future__ import annotations

from pgtrickle.capture.buffers import buffer_of, drop_buffer, output_log_of
from pgtrickle.capture.examine import Examination, examine
from pgtrickle.capture.fingerprint import (
    Difference,
    Severity,
    compare,
    content_touched,
    fingerprint,
    partitions_changed,
)
from pgtrickle.capture.install import InstalledSource, install, narrow, release, renew, repair, settle
from pgtrickle.capture.relations import restrictions
from pgtrickle.capture.trim import TrimResult, let_go, rejoin, trim
from pgtrickle.capture.uninstall import clear, uninstall

__all__ = [
    "Difference",
    "Examination",
    "InstalledSource",
    "Severity",
    "TrimResult",
    "buffer_of",
    "clear",
    "compare",
    "content_touched",
    "drop_buffer",
    "examine",
    "fingerprint",
    "install",
    "let_go",
    "narrow",
    "output_log_of",
    "partitions_changed",
    "rejoin",
    "release",
    "renew",
    "repair",
    "restrictions",
    "settle",
    "trim",
    "uninstall",
]
