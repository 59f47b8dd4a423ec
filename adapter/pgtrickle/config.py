"""Where the database is and how the runner behaves: arguments, environment, ``pgtrickle.toml``, dbt profile.

The first of these that says how to connect decides: explicit arguments (``--dsn``); a dbt profile, if one was asked for
by name; the ``PG*`` variables; ``pgtrickle.toml``; else libpq's defaults. Settings of the runner come from arguments,
then from ``pgtrickle.toml``, then from the defaults below.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pgtrickle.errors import InvalidOption
from pgtrickle.profile import read_profile

CONFIG_FILE = "pgtrickle.toml"
LOG_FORMATS = ("json", "logfmt")

#: Environment variables of libpq that say which database is meant; ``PGPASSWORD`` alone does not.
_PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How ``pgtrickle run`` behaves; the keys of the table ``[runner]`` in ``pgtrickle.toml``.

    Attributes:
        workers: groups refreshed at the same time; the runner holds one connection more than that.
        poll_interval: seconds between two looks at the sources of ``continuous`` stream tables.
        lease_seconds: for how long a runner keeps a stream table to itself; after a crash others wait this long.
        trim_interval: seconds between two trims of the change buffers.
        log_format: ``json`` (one object per line) or ``logfmt``.
    """

    workers: int = 2
    poll_interval: float = 0.01
    lease_seconds: float = 10.0
    trim_interval: float = 5.0
    log_format: str = "json"

    def __post_init__(self) -> None:
        lowest = {
            "workers": 1,
            "poll_interval": 0.001,
            "lease_seconds": 1.0,
            "trim_interval": 0.1,
        }
        for key, least in lowest.items():
            if getattr(self, key) < least:
                raise InvalidOption(f"The setting {key} must be at least {least}.", object_name=key)
        if self.log_format not in LOG_FORMATS:
            raise InvalidOption(
                f"The log format '{self.log_format}' is not known.",
                object_name="log_format",
                hint=f"Use one of {', '.join(LOG_FORMATS)}.",
            )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a command needs to know before it connects.

    Attributes:
        dsn: libpq connection string; empty for libpq's own defaults and environment.
        params: further libpq parameters; they override the dsn. May hold a password: not shown by ``repr``.
        role: ``SET ROLE`` after connecting; None for none.
        schema: where an unqualified name is looked for first (a dbt profile's schema); None: the ``search_path`` only.
        retries: how often to try to connect again.
        origin: where the connection was found, for messages.
        runner: how the runner behaves.
    """

    dsn: str = field(default="", repr=False)
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    role: str | None = None
    schema: str | None = None
    retries: int = 1
    origin: str = "libpq defaults"
    runner: RunnerSettings = field(default_factory=RunnerSettings)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was said explicitly, on the command line or by a caller; None means not said.

    Attributes:
        dsn: libpq connection string or URI.
        profile: name of a dbt profile.
        target: its output; None for the profile's own default.
        profiles_dir: where ``profiles.yml`` is; None: as dbt looks for it.
        config_file: path of a ``pgtrickle.toml``; None: the one in the working directory, if there is one.
        runner: settings of the runner.
    """

    dsn: str | None = None
    profile: str | None = None
    target: str | None = None
    profiles_dir: str | None = None
    config_file: str | None = None
    runner: Mapping[str, Any] = field(default_factory=dict)


def load_settings(arguments: Arguments, environ: Mapping[str, str] = os.environ) -> Settings:
    """Bring arguments, environment, file and profile together.

    Raises:
        InvalidOption: a file or profile that was asked for is missing, a key is not known or a value not possible.
    """
    data = _read_file(arguments, environ)
    runner = _runner_settings(
        {**data.pop("runner", {}), **{k: v for k, v in arguments.runner.items() if v is not None}}
    )
    return replace(_connection(arguments, data, environ), runner=runner)


def _connection(arguments: Arguments, data: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    role = data.get("role")
    if arguments.dsn is not None:
        return Settings(dsn=arguments.dsn, role=role, origin="--dsn")
    if arguments.profile or arguments.target or arguments.profiles_dir:
        return _from_profile(arguments.profile, arguments.target, arguments.profiles_dir, environ)
    if any(environ.get(name) for name in _PG_VARIABLES):
        return Settings(role=role, origin="PG* variables")
    if "dsn" in data:
        return Settings(dsn=str(data["dsn"]), role=role, origin=CONFIG_FILE)
    if "profile" in data or "target" in data:
        return _from_profile(data.get("profile"), data.get("target"), data.get("profiles_dir"), environ)
    return Settings(role=role)


def _from_profile(name: str | None, target: str | None, directory: str | None, environ: Mapping[str, str]) -> Settings:
    profile = read_profile(name, target, directory, environ)
    return Settings(
        params=profile.params,
        role=profile.role,
        schema=profile.schema,
        retries=profile.retries,
        origin=profile.origin,
    )


# --- pgtrickle.toml ---------------------------------------------------------------------------------------------------

_FILE_KEYS = frozenset({"dsn", "role", "profile", "target", "profiles_dir", "runner"})


def _read_file(arguments: Arguments, environ: Mapping[str, str]) -> dict[str, Any]:
    asked = arguments.config_file or environ.get("PGTRICKLE_CONFIG")
    path = Path(asked or CONFIG_FILE)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if asked is None:
            return {}
        raise InvalidOption(f"There is no configuration file '{path}'.", object_name=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(
            f"The configuration file '{path}' cannot be read: {error}.", object_name=str(path)
        ) from error
    data = _parse_toml(text, path)
    unknown = sorted(set(data) - _FILE_KEYS)
    if unknown:
        raise InvalidOption(
            f"The configuration file '{path}' has unknown keys: {', '.join(unknown)}.",
            object_name=str(path),
            hint=f"Known are {', '.join(sorted(_FILE_KEYS))}.",
        )
    if not isinstance(data.get("runner", {}), dict):
        raise InvalidOption(f"In '{path}', runner must be a table.", object_name=str(path), hint="Write [runner].")
    return data


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidOption(
            f"The configuration file '{path}' is not valid TOML: {error}.", object_name=str(path)
        ) from error


def _runner_settings(values: Mapping[str, Any]) -> RunnerSettings:
    defaults = RunnerSettings()
    known = {item.name: type(getattr(defaults, item.name)) for item in fields(RunnerSettings)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InvalidOption(
            f"Unknown settings of the runner: {', '.join(unknown)}.",
            object_name=unknown[0],
            hint=f"Known are {', '.join(sorted(known))}.",
        )
    return RunnerSettings(**{key: _typed(key, value, known[key]) for key, value in values.items()})


def _typed(key: str, value: Any, wanted: type) -> Any:
    """The value if its type fits; an int is a float, a bool is no int."""
    accepted = (int, float) if wanted is float else (wanted,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise InvalidOption(
            f"The setting {key} must be of type {wanted.__name__}, not {type(value).__name__}.", object_name=key
        )
    return wanted(value)
