"""The engine's errors as dbt's, the engine's notices as dbt's warnings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dbt.adapters.events.types import AdapterEventWarning
from dbt_common.events.functions import warn_or_error
from dbt_common.exceptions import CompilationError, DbtDatabaseError

from pgtrickle import errors
from pgtrickle.api import Notice

#: Mistakes in the model's text or configuration; everything else is the database's answer.
MODEL_ERRORS = (errors.InvalidOption, errors.NotYetSupported, errors.UnsupportedQuery, errors.DependencyCycle)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the engine's errors as dbt errors; dbt adds the model's name and path."""
    try:
        yield
    except MODEL_ERRORS as error:
        raise CompilationError(str(error)) from error
    except errors.PgTrickleError as error:
        raise DbtDatabaseError(str(error)) from error


def warn_of(name: str, notices: Iterable[Notice]) -> None:
    """Say what the engine did implicitly, so that ``--warn-error`` and ``warn_error_options`` apply to it."""
    for notice in notices:
        warn(f"{name}: {notice.text} [{notice.code}]")


def warn(message: str) -> None:
    """Emit one warning of the adapter."""
    warn_or_error(AdapterEventWarning(name="PgTrickle", base_msg=message))
