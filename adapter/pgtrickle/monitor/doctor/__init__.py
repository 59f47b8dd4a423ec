"""The doctor: looks at everything that could be wrong, says what is, and mends what can be mended."""

from __future__ import annotations

import logging
from dataclasses import replace

from pgtrickle import db
from pgtrickle.errors import ConnectionFailed, PgTrickleError
from pgtrickle.monitor.doctor.captured import examine_capture, examine_pooler
from pgtrickle.monitor.doctor.checks import CHECKS, Diagnosis, ask_all
from pgtrickle.monitor.doctor.repairs import REPAIRS
from pgtrickle.monitor.doctor.structured import examine_structure
from pgtrickle.refresh import Session
from pgtrickle.results import Finding

__all__ = ["CHECKS", "examine", "treat"]

_log = logging.getLogger(__name__)
_ORDER = {"ERROR": 0, "WARNING": 1, "NOTE": 2}
#: What one repair brings to light, the next round mends: state can only be built again where capture works.
_ROUNDS = 3


def examine(conn: db.Connection) -> tuple[Diagnosis, ...]:
    """Everything that is wrong, the worst first. Writes nothing, and waits for nobody.

    Args:
        conn: autocommit; of the engine's role, to a database whose catalog this engine knows.
    """
    found = [*examine_structure(conn), *examine_pooler(conn), *examine_capture(conn), *ask_all(conn)]
    return tuple(sorted(found, key=lambda one: _ORDER[one.finding.severity]))


def treat(session: Session) -> tuple[Finding, ...]:
    """Mend what can be mended.

    Returns:
        All that was found: with ``fixed`` what is gone now, and what is left. If a repair fails, the finding says why.
    """
    seen: dict[tuple[str, str, str], Finding] = {}
    for _ in range(_ROUNDS):
        found = examine(session.conn)
        present = {_key(one): one.finding for one in found}
        for key, finding in seen.items():
            seen[key] = replace(finding, fixed=key not in present)
        seen.update({key: seen.get(key, finding) for key, finding in present.items()})
        wanted = [one for one in found if one.repair is not None]
        if not wanted:
            break
        for one in wanted:
            seen[_key(one)] = _mend(session, one)
    present = {_key(one) for one in examine(session.conn)}
    return tuple(replace(finding, fixed=key not in present) for key, finding in seen.items())


def _key(one: Diagnosis) -> tuple[str, str, str]:
    return one.finding.code, one.finding.object_name, one.target


def _mend(session: Session, one: Diagnosis) -> Finding:
    assert one.repair is not None
    try:
        REPAIRS[one.repair](session, one.target)
    except ConnectionFailed:
        raise
    except PgTrickleError as error:
        _log.warning("%s of %s cannot be mended: %s", one.finding.code, one.finding.object_name, error.message)
        return replace(one.finding, remedy=f"{error.message}. {error.hint or error.detail or ''}".strip())
    return one.finding
