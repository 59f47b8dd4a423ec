"""Structured log lines."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pytest

from pgtrickle.schedule import log


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_json_has_one_object_per_line_with_time_level_and_event(stream: io.StringIO) -> None:
    log.configure("json", stream=stream)
    log.info("refreshed", table='a."B\n"', inserted=3, reason=None)
    log.warning("suspended", table="t")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {"level": "info", "event": "refreshed", "table": 'a."B\n"', "inserted": 3}
    assert second["level"] == "warning"


def test_logfmt_quotes_what_would_be_ambiguous(stream: io.StringIO) -> None:
    log.configure("logfmt", stream=stream)
    log.error("failed", table="t", message='a "b"\n= c', empty="", good=True, several=[1, 2])
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert 'level=error event=failed table=t message="a \\"b\\"\\n= c" empty="" good=true several=1,2' in line


@pytest.mark.parametrize("log_format", ["json", "logfmt"])
def test_a_secret_never_appears(stream: io.StringIO, log_format: str) -> None:
    log.configure(log_format, secrets=["hunter2", ""], stream=stream)
    log.error("failed", message="password=hunter2 is wrong", nested=["hunter2"])
    assert "hunter2" not in stream.getvalue()
    assert "********" in stream.getvalue()


def test_debug_events_are_for_those_who_ask(stream: io.StringIO) -> None:
    log.configure("json", stream=stream)
    log.debug("quiet")
    log.configure("json", stream=stream, verbose=True)
    log.debug("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]
