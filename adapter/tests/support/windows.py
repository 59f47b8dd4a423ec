"""Small windows read as large ones are: by other statements, planned each time. Tests have few rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgtrickle.refresh import attempt, foreseen


@contextmanager
def read_as_large(*, large: bool = True) -> Iterator[None]:
    """Refresh as if there were thousands of changes.

    Args:
        large: False leaves everything as it is.
    """
    with pytest.MonkeyPatch.context() as patched:
        if large:
            patched.setattr(attempt, "SMALL_WINDOW", -1)
            patched.setattr(foreseen, "begin", lambda *_: None)
        yield
