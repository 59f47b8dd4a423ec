"""The command line itself: verbs, options, rendering, exit codes. No server."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from pgtrickle.cli import COMMANDS, main
from pgtrickle.cli.context import read_options
from pgtrickle.cli.exits import MEANINGS, Exit
from pgtrickle.cli.main import build_parser
from pgtrickle.cli.render import age, table, to_json
from pgtrickle.cli.secrecy import without_password
from pgtrickle.cli.verify import exit_code
from pgtrickle.errors import InvalidOption
from pgtrickle.results import RefreshResult, VerifyResult

VERBS = (
    "init create alter drop suspend resume let-go refresh verify status health doctor history explain validate plan dag"
    " run uninstall"
)


def test_every_promised_verb_is_there_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(COMMANDS) == {*VERBS.split(), "version"}
    for name, module in COMMANDS.items():
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert module.HELP.split()[0] in capsys.readouterr().out


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Exit)


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["fly"],
        ["create", "t"],
        ["create", "t", "--query", "x", "--file", "y"],
        ["create", "t", "-q", "x", "--if-not-exists", "--or-replace"],
        ["refresh"],
        ["refresh", "t", "--all"],
        ["verify"],
        ["drop"],
        ["dag", "--format", "png"],
        ["history", "--limit", "many"],
        ["run", "--log-format", "xml"],
    ],
)
def test_a_wrong_command_line_ends_with_usage(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*line, "--dsn", "host=127.0.0.1 port=1"] if line else line)
    assert ended.value.code == Exit.USAGE
    assert capsys.readouterr().err


def test_options_may_stand_before_or_behind_the_verb() -> None:
    parser = build_parser()
    before = parser.parse_args(["--dsn", "a", "--json", "status"])
    behind = parser.parse_args(["status", "--dsn", "a", "--json"])
    assert (before.dsn, before.json) == (behind.dsn, behind.json) == ("a", True)
    assert (parser.parse_args(["status"]).dsn, parser.parse_args(["status"]).json) == (None, False)


def test_a_server_that_is_not_there_is_an_error_with_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--dsn", "host=127.0.0.1 port=1 password=hunter2"]) == Exit.ERROR
    said = capsys.readouterr().err
    assert "PGT304" in said
    assert "hunter2" not in said


def test_an_error_for_machines_is_json_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "status", "--dsn", "host=127.0.0.1 port=1"]) == Exit.ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["error"]["code"] == "PGT304"


def test_a_broken_connection_string_is_not_quoted_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--dsn", "host=h password=x hunter2"]) == Exit.USAGE
    assert "hunter2" not in capsys.readouterr().err


def test_uninstall_asks_nobody_who_cannot_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "--dsn", "host=127.0.0.1 port=1"]) == Exit.USAGE
    assert "--yes" in capsys.readouterr().err


def test_version_needs_no_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == Exit.OK
    assert set(json.loads(capsys.readouterr().out)) == {"pgtrickle", "python", "psycopg", "libpq"}


def test_tables_align_text_left_and_numbers_right() -> None:
    text = table(["name", "rows", "note"], [["a", 5, None], ["bcd", 1200, "two\nlines"]])
    assert text.splitlines() == ["NAME  ROWS  NOTE", "a        5", "bcd   1200  two lines"]


def test_json_writes_times_and_nested_values() -> None:
    value = {
        "at": datetime(2024, 1, 1, tzinfo=timezone.utc),
        "for": timedelta(seconds=2),
        "r": RefreshResult("t", "FULL"),
    }
    document = json.loads(to_json(value))
    assert document["at"] == "2024-01-01T00:00:00+00:00"
    assert document["for"] == 2.0
    assert document["r"]["action"] == "FULL"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (59.94, "59.9s"), (60, "1m0s"), (3661, "1h1m"), (90_000, "1d1h"), (None, "")]
)
def test_ages_are_short(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_options_are_json_where_they_can_be() -> None:
    assert read_options(["a=1", 'b=[{"columns": ["x"]}]', "c=text", "d=", "e=x=y"]) == {
        "a": 1,
        "b": [{"columns": ["x"]}],
        "c": "text",
        "d": "",
        "e": "x=y",
    }
    with pytest.raises(InvalidOption):
        read_options(["novalue"])


def test_verify_tells_the_worst() -> None:
    equal, different, unproven = (VerifyResult("t", proven) for proven in (True, False, None))
    assert exit_code([]) == exit_code([equal]) == Exit.OK
    assert exit_code([equal, unproven]) == Exit.NOT_PROVEN
    assert exit_code([unproven, different]) == Exit.DIFFERENT


@pytest.mark.parametrize("dsn", ["postgresql://me:s3cret@host:5433/shop", "host=host password=s3cret dbname=shop"])
@pytest.mark.parametrize("joined", [False, True])
def test_a_password_is_taken_off_the_command_line(dsn: str, joined: bool) -> None:
    option = [f"--dsn={dsn}"] if joined else ["--dsn", dsn]
    shown, password = without_password([*option, "status"])
    assert password == "s3cret"
    assert "s3cret" not in " ".join(shown)
    assert "dbname=shop" in " ".join(shown)
    assert shown[-1] == "status"
    assert without_password(shown) == (shown, None)
