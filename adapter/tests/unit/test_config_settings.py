"""Where the database is: arguments, environment, file and dbt profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pgtrickle.config import Arguments, RunnerSettings, Settings, load_settings
from pgtrickle.errors import InvalidOption

PROFILES = """
config:
  send_anonymous_usage_stats: false
shop:
  target: dev
  outputs:
    dev:
      type: pgtrickle
      host: db.example
      port: "{{ env_var('DB_PORT', '5433') | as_number }}"
      user: "{{ env_var('DB_USER') }}"
      pass: "{{ env_var('DB_PASSWORD') }}"
      dbname: shop
      schema: analytics
      role: loader
      sslmode: verify-full
      sslcert: /c.crt
      sslkey: /c.key
      sslrootcert: /root.crt
      connect_timeout: 7
      keepalives_idle: 30
      search_path: "analytics, public"
      retries: 4
      threads: 8
    prod:
      type: postgres
      host: prod.example
      user: p
      password: "{{ env_var('UNSET_HERE') }}"
      database: shop
      port: 5432
      keepalives_idle: 0
    warehouse:
      type: snowflake
other:
  outputs:
    default: {type: postgres, host: h, user: u, dbname: d, port: "{{ env_var('DB_PORT', '1') | int }}"}
    bad_port: {type: postgres, host: h, user: u, dbname: d, port: many}
    lacking: {type: postgres, user: u}
"""
ENV = {"DB_USER": "ann", "DB_PASSWORD": "s3cr3t"}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def profiles(directory: Path) -> Path:
    (directory / "profiles.yml").write_text(PROFILES)
    return directory


def load(environ: Mapping[str, str] | None = None, **arguments: object) -> Settings:
    return load_settings(Arguments(**arguments), environ or {})  # type: ignore[arg-type]


def test_an_explicit_dsn_wins_over_everything(profiles: Path) -> None:
    (profiles / "pgtrickle.toml").write_text('dsn = "dbname=from_file"')
    settings = load({"PGHOST": "h"}, dsn="dbname=said", profile="shop")
    assert (settings.dsn, settings.params, settings.origin) == ("dbname=said", {}, "--dsn")


def test_pg_variables_win_over_the_file(directory: Path) -> None:
    (directory / "pgtrickle.toml").write_text('dsn = "dbname=from_file"')
    assert load({"PGDATABASE": "x"}).dsn == ""
    assert load({"PGPASSWORD": "alone"}).dsn == "dbname=from_file"
    assert load().origin == "pgtrickle.toml"


def test_nothing_said_means_libpq_defaults(directory: Path) -> None:
    assert load() == Settings()


def test_every_connection_field_of_a_profile_is_honoured(profiles: Path) -> None:
    settings = load(ENV, profile="shop")
    assert settings.params == {
        "host": "db.example",
        "port": 5433,
        "user": "ann",
        "password": "s3cr3t",
        "dbname": "shop",
        "sslmode": "verify-full",
        "sslcert": "/c.crt",
        "sslkey": "/c.key",
        "sslrootcert": "/root.crt",
        "connect_timeout": 7,
        "keepalives_idle": 30,
        "options": "-c search_path=analytics,\\ public",
    }
    assert (settings.role, settings.schema, settings.retries) == ("loader", "analytics", 4)


def test_a_password_is_never_part_of_a_representation(profiles: Path) -> None:
    assert "s3cr3t" not in repr(load(ENV, profile="shop"))
    assert "s3cr3t" not in repr(load(dsn="password=s3cr3t"))


def test_only_the_chosen_target_is_rendered(profiles: Path) -> None:
    load(ENV, profile="shop", target="dev")
    with pytest.raises(InvalidOption, match="UNSET_HERE"):
        load(ENV, profile="shop", target="prod")


def test_libpq_does_not_hear_of_a_keepalive_of_zero(profiles: Path) -> None:
    settings = load({**ENV, "UNSET_HERE": "x"}, profile="shop", target="prod")
    assert settings.params == {"host": "prod.example", "user": "p", "password": "x", "dbname": "shop", "port": 5432}


def test_the_default_target_and_a_filter_of_jinja(profiles: Path) -> None:
    assert load({"DB_PORT": "77"}, profile="other").params["port"] == 77


def test_the_profile_of_the_project_here_is_taken(profiles: Path) -> None:
    (profiles / "dbt_project.yml").write_text("name: p\nprofile: shop\n")
    assert load(ENV, target="dev").params["host"] == "db.example"


def test_profiles_are_found_in_the_directory_that_was_said(profiles: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (profiles / "profiles.yml").rename(elsewhere / "profiles.yml")
    with pytest.raises(InvalidOption, match=r"no profiles\.yml"):
        load(ENV, profile="shop")
    assert load(ENV, profile="shop", profiles_dir=str(elsewhere)).params["user"] == "ann"
    assert load({**ENV, "DBT_PROFILES_DIR": str(elsewhere)}, profile="shop").params["user"] == "ann"


def test_the_file_may_name_a_profile(profiles: Path) -> None:
    (profiles / "pgtrickle.toml").write_text('profile = "shop"\n[runner]\nworkers = 5\npoll_interval = 1\n')
    settings = load(ENV)
    assert settings.params["host"] == "db.example"
    assert settings.runner == RunnerSettings(workers=5, poll_interval=1.0)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"profile": "nope"}, "nope"),
        ({"profile": "shop", "target": "nope"}, "nope"),
        ({"profile": "shop", "target": "warehouse"}, "snowflake"),
        ({"profile": "other", "target": "bad_port"}, "whole number"),
        ({"profile": "other", "target": "lacking"}, "host, dbname"),
        ({"target": "dev"}, "2 profiles"),
        ({"config_file": "nope.toml"}, r"nope\.toml"),
        ({"runner": {"workers": 0}}, "at least 1"),
        ({"runner": {"log_format": "xml"}}, "xml"),
    ],
)
def test_what_cannot_be_found_or_read_is_named(profiles: Path, arguments: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidOption, match=word):
        load(ENV, **arguments)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("dns = 'typo'", "dns"),
        ("[runner]\nworker = 3", "worker"),
        ("[runner]\nworkers = 'two'", "workers"),
        ("[runner]\nworkers = true", "workers"),
        ("runner = 3", "table"),
        ("= 3", "TOML"),
    ],
)
def test_a_wrong_configuration_file_is_refused(directory: Path, text: str, word: str) -> None:
    (directory / "pgtrickle.toml").write_text(text)
    with pytest.raises(InvalidOption, match=word):
        load()


def test_broken_yaml_is_reported_without_quoting_it(directory: Path) -> None:
    (directory / "profiles.yml").write_text("shop:\n  pass: 's3cr3t\n")
    with pytest.raises(InvalidOption) as caught:
        load(profile="shop")
    assert "s3cr3t" not in str(caught.value)


def test_an_argument_that_was_not_said_does_not_hide_the_file(directory: Path) -> None:
    (directory / "pgtrickle.toml").write_text("[runner]\nworkers = 9")
    found = load(runner={"workers": None, "log_format": "logfmt"}).runner
    assert found == RunnerSettings(workers=9, log_format="logfmt")
