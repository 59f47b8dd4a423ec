"""Reads a dbt profile without dbt: the same file, the same fields, the same ``env_var``.

Needs PyYAML, and Jinja2 for profiles that use expressions; both come with dbt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pgtrickle.errors import InvalidOption

ADAPTER_TYPES = ("pgtrickle", "postgres")
INSTALL_HINT = "Install it with: pip install 'dbt-pgtrickle[profile]', or connect with --dsn or the PG* variables."

#: Fields of a dbt-postgres profile that are libpq parameters, with libpq's names.
_LIBPQ = {
    "host": "host",
    "port": "port",
    "user": "user",
    "password": "password",
    "pass": "password",
    "dbname": "dbname",
    "database": "dbname",
    "sslmode": "sslmode",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslrootcert": "sslrootcert",
    "connect_timeout": "connect_timeout",
    "keepalives_idle": "keepalives_idle",
    "application_name": "application_name",
}
_NUMBERS = ("port", "connect_timeout", "keepalives_idle")
_REQUIRED = ("host", "user", "dbname")


@dataclass(frozen=True, slots=True)
class Profile:
    """One output of a dbt profile, as far as connecting needs it.

    Attributes:
        params: libpq parameters; holds the password, so it is not shown by ``repr``.
        role: the profile's ``role``.
        schema: the profile's target schema.
        retries: how often dbt tries to connect again.
        origin: ``profile shop, target dev``, for messages.
    """

    params: Mapping[str, Any] = field(repr=False)
    role: str | None
    schema: str | None
    retries: int
    origin: str


def read_profile(
    name: str | None, target: str | None, directory: str | None, environ: Mapping[str, str] = os.environ
) -> Profile:
    """Find and read a profile as dbt does.

    Args:
        name: profile; None: ``DBT_PROFILE``, the ``profile`` of ``dbt_project.yml`` here, or the only one in the file.
        target: output; None: ``DBT_TARGET`` or the profile's ``target``.
        directory: of ``profiles.yml``; None: ``DBT_PROFILES_DIR``, the working directory, ``~/.dbt``.

    Raises:
        InvalidOption: file, profile, target or a required field is missing, or a value cannot be rendered.
    """
    path = _find_file(directory, environ)
    document = _load_yaml(path)
    name = name or environ.get("DBT_PROFILE") or _project_profile() or _only_profile(document, path)
    profile = document.get(name)
    if not isinstance(profile, dict) or not isinstance(profile.get("outputs"), dict):
        raise InvalidOption(
            f"There is no profile '{name}' with outputs in '{path}'.",
            object_name=name,
            hint=f"It has {_listed(key for key in document if key != 'config')}.",
        )
    render = _renderer(environ)
    outputs = profile["outputs"]
    target = target or environ.get("DBT_TARGET") or str(render(profile.get("target", "default"), "target"))
    output = outputs.get(target)
    if not isinstance(output, dict):
        raise InvalidOption(
            f"The profile '{name}' has no target '{target}'.", object_name=name, hint=f"It has {_listed(outputs)}."
        )
    return _profile({key: render(value, key) for key, value in output.items()}, name, target)


def _profile(output: Mapping[str, Any], name: str, target: str) -> Profile:
    origin = f"profile {name}, target {target}"
    if output.get("type") not in ADAPTER_TYPES:
        raise InvalidOption(
            f"The {origin}, is of type '{output.get('type')}'.",
            object_name=name,
            hint=f"Needed is one of the types {', '.join(ADAPTER_TYPES)}.",
        )
    params = {
        libpq: _number(key, output[key], name) if key in _NUMBERS else str(output[key])
        for key, libpq in _LIBPQ.items()
        if output.get(key) not in (None, "")
    }
    # dbt's 0 means libpq's default; sent to libpq it would mean the same, but not to every server.
    if params.get("keepalives_idle") == 0:
        del params["keepalives_idle"]
    missing = [key for key in _REQUIRED if key not in params]
    if missing:
        raise InvalidOption(f"The {origin}, lacks {', '.join(missing)}.", object_name=name)
    if output.get("search_path"):
        params["options"] = "-c search_path=" + str(output["search_path"]).replace(" ", "\\ ")
    return Profile(
        params=params,
        role=_text(output.get("role")),
        schema=_text(output.get("schema")),
        retries=_number("retries", output.get("retries") or 1, name),
        origin=origin,
    )


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _number(key: str, value: Any, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InvalidOption(f"In the profile '{name}', {key} is not a whole number.", object_name=name) from None


def _listed(names: Any) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


# --- finding ----------------------------------------------------------------------------------------------------------


def _find_file(directory: str | None, environ: Mapping[str, str]) -> Path:
    asked = directory or environ.get("DBT_PROFILES_DIR")
    places = [Path(asked).expanduser()] if asked else [Path.cwd(), Path.home() / ".dbt"]
    for place in places:
        if (place / "profiles.yml").is_file():
            return place / "profiles.yml"
    raise InvalidOption(
        f"There is no profiles.yml in {' or '.join(map(str, places))}.",
        object_name="profiles.yml",
        hint="Give its directory with --profiles-dir.",
    )


def _project_profile() -> str | None:
    path = Path("dbt_project.yml")
    return _text(_load_yaml(path).get("profile")) if path.is_file() else None


def _only_profile(document: Mapping[str, Any], path: Path) -> str:
    names = [key for key in document if key != "config"]
    if len(names) != 1:
        raise InvalidOption(
            f"'{path}' has {len(names)} profiles.", object_name=str(path), hint="Choose one with --profile."
        )
    return names[0]


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise InvalidOption("Reading a dbt profile needs PyYAML.", object_name=str(path), hint=INSTALL_HINT) from error
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"'{path}' cannot be read: {error}.", object_name=str(path)) from error
    except yaml.YAMLError as error:
        # The message of the parser quotes the line at fault, which may be the password's.
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InvalidOption(f"'{path}'{line} is not valid YAML.", object_name=str(path)) from None
    if not isinstance(document, dict):
        raise InvalidOption(f"'{path}' is not a YAML mapping.", object_name=str(path))
    return document


# --- rendering --------------------------------------------------------------------------------------------------------


def _renderer(environ: Mapping[str, str]) -> Callable[[Any, str], Any]:
    def env_var(name: str, default: str | None = None) -> str:
        value = environ.get(name, default)
        if value is None:
            raise InvalidOption(f"The profile needs the environment variable '{name}'.", object_name=name)
        return value

    def render(value: Any, key: str) -> Any:
        if not isinstance(value, str) or ("{{" not in value and "{%" not in value):
            return value
        try:
            import jinja2
            from jinja2.sandbox import SandboxedEnvironment
        except ImportError as error:
            raise InvalidOption(
                f"The profile's {key} is an expression, which needs Jinja2.", object_name=key, hint=INSTALL_HINT
            ) from error
        environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined)
        environment.globals["env_var"] = env_var
        for name in ("as_number", "as_native", "as_text", "as_bool"):
            # Types are settled by field afterwards, so these are the identity on text.
            environment.filters[name] = str
        try:
            return environment.from_string(value).render()
        except jinja2.TemplateError as error:
            raise InvalidOption(
                f"The profile's {key} cannot be rendered: {error.message or type(error).__name__}.",
                object_name=key,
                hint="Only env_var(), literals and filters are known here.",
            ) from error

    return render
