"""Writes the pages of docs/reference that come from the code: errors, explanations, Python, SQL support.

python tools/reference_pages.py            write them
python tools/reference_pages.py --check    say which are out of date; exit 1 if any
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
sys.path.insert(0, str(ROOT / "adapter"))

MADE = "<!-- Made by tools/reference_pages.py from {source}; change that, then run it. -->"


def main() -> int:
    """Write or check the pages. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = {name: text for name, text in pages().items() if _differs(REFERENCE / name, text)}
    for name, text in stale.items():
        if check:
            print(f"docs/reference/{name} is out of date: run python tools/reference_pages.py")
        else:
            (REFERENCE / name).write_text(text)
            print(f"wrote docs/reference/{name}")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """File name and text of every page."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "errors.md": errors_page,
        "explain.md": explain_page,
        "python-api.md": python_page,
        "sql-support.md": support_page,
    }
    return {name: "\n".join(make()).rstrip() + "\n" for name, make in makers.items()}


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_text() != text


def _text(text: str) -> list[str]:
    return textwrap.dedent(text).splitlines()


# --- errors -----------------------------------------------------------------------------------------------------------


def errors_page() -> Iterator[str]:
    """Every error class with its code."""
    errors = importlib.import_module("pgtrickle.errors")
    yield MADE.format(source="pgtrickle/errors.py")
    yield "# Errors"
    yield ""
    yield from _text(
        """\
        Every error has a stable code, one sentence, and where they apply the object, the clause, a detail and a hint.
        In Python each is a class of `pgtrickle.errors`, all derived from `PgTrickleError`; `as_dict()` gives the parts.
        The command line prints the same text, with `--json` the same parts. dbt shows it under the model's name: as a
        compilation error where the model is at fault, else as a database error.
        """
    )
    yield ""
    yield "| Code | Class | Meaning |"
    yield "|---|---|---|"
    classes: list[Any] = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PgTrickleError)
    ]
    for kind in sorted(classes, key=lambda kind: kind.code):
        if kind is not errors.PgTrickleError:
            parent = kind.__mro__[1].__name__
            origin = "" if parent == "PgTrickleError" else f" (a `{parent}`)"
            yield f"| `{kind.code}` | `{kind.__name__}`{origin} | {_flat(kind.__doc__)} |"
    yield ""
    yield "A code never changes its meaning. The first digit says who can act:"
    yield ""
    for digit, meaning in (
        ("1", "the query or an option is at fault: change it"),
        ("2", "the name or the dependencies are not what was expected"),
        ("3", "the database: installation, privileges, locks, connection"),
        ("4", "a refresh failed; the stream table keeps its old content"),
        ("5", "a proof was not possible"),
        ("9", "an invariant of ours does not hold: please report it"),
    ):
        yield f"- `PGT{digit}xx`: {meaning}"


# --- Python -----------------------------------------------------------------------------------------------------------


def python_page() -> Iterator[str]:
    """The public class, its methods and what they return."""
    api = importlib.import_module("pgtrickle.api")
    yield MADE.format(source="pgtrickle/api.py and pgtrickle/results.py")
    yield "# Python"
    yield ""
    yield _prose(api.__doc__)
    yield ""
    yield "<!-- not run: see use without dbt, where it is -->"
    yield "```python"
    yield "from pgtrickle.api import PgTrickle"
    yield "```"
    yield ""
    yield "## `PgTrickle`"
    yield ""
    yield _prose(api.PgTrickle.__doc__)
    for name, member in vars(api.PgTrickle).items():
        if not name.startswith("_"):
            yield from _method(name, member)
    yield ""
    yield "## What the calls return"
    yield ""
    yield "Frozen dataclasses, importable from `pgtrickle.api`."
    for name in sorted(set(api.__all__) - {"PgTrickle"}):
        kind = getattr(api, name)
        if dataclasses.is_dataclass(kind):
            yield ""
            yield f"### `{name}`"
            yield ""
            yield _prose(kind.__doc__)


def _method(name: str, member: object) -> Iterator[str]:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    if not inspect.isfunction(function):
        return
    signature = inspect.signature(function)
    shown = [parameter for argument, parameter in signature.parameters.items() if argument not in ("self", "cls")]
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=shown)))
    yield ""
    yield f"### `{name}`"
    yield ""
    yield "```text"
    yield _wrapped(f"{name}{text}")
    yield "```"
    yield ""
    yield _prose(function.__doc__)


def _wrapped(signature: str) -> str:
    if len(signature) <= 100:
        return signature
    head, _, rest = signature.partition("(")
    arguments, _, result = rest.rpartition(") ->")
    parts = re.split(r", (?![^\[]*\])", arguments)
    return "\n".join([f"{head}(", *(f"    {part}," for part in parts), f") ->{result}"])


def _prose(docstring: str | None) -> str:
    """A docstring as Markdown: ``code`` as `code`, sections and their items as lists."""
    out: list[str] = []
    for line in inspect.cleandoc(docstring or "").splitlines():
        heading = re.fullmatch(r"(Args|Attributes|Returns|Raises):", line)
        item = re.match(r"    (\w+): (.*)", line)
        single = re.match(r"    (\S.*)", line)
        indented = re.match(r"\s{5,}(.*)", line)
        if heading:
            out += ["", f"*{ {'Args': 'Arguments'}.get(heading[1], heading[1]) }*", ""]
        elif item:
            out.append(f"- `{item[1]}`: {item[2]}")
        elif line.startswith((">>>", "...")):
            continue
        elif single:
            out.append(f"- {single[1]}")
        elif indented:
            out[-1] += f" {indented[1]}"
        else:
            out.append(line)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()
    return text.replace("``", "`")


def _flat(docstring: str | None) -> str:
    return " ".join(inspect.cleandoc(docstring or "").split()).replace("``", "`").replace("|", r"\|")


# --- explanations -----------------------------------------------------------------------------------------------------


def explain_page() -> Iterator[str]:
    """The keys of an explanation's JSON."""
    model = importlib.import_module("pgtrickle.explain.model")
    yield MADE.format(source="pgtrickle/explain/model.py")
    yield "# Explanations"
    yield ""
    yield from _text(
        """\
        `pgtrickle explain NAME --format json` and `pgtrickle validate --format json` print one JSON object with the
        keys of `Explanation`; in brackets is what each holds. In Python the same names are attributes of the values
        that `explain` and `validate_query` return. Keys keep their meaning; new ones may be added.
        [How to read an explanation](../how-to/read-an-explanation.md) shows one.
        """
    )
    for kind in _mentioned(model.Explanation):
        yield ""
        yield f"## `{kind.__name__}`"
        yield ""
        text = _prose(kind.__doc__).replace("*Attributes*", "*Keys*")
        for field in dataclasses.fields(kind):
            text = text.replace(f"- `{field.name}`:", f"- `{field.name}` ({_json_type(str(field.type))}):")
        yield text


_JSON_TYPES = {"str": "text", "int": "number", "float": "number", "bool": "true or false"}


def _json_type(annotation: str) -> str:
    """What a field looks like in JSON."""
    if annotation.endswith(" | None"):
        return f"{_json_type(annotation.removesuffix(' | None'))} or null"
    several = re.fullmatch(r"tuple\[(.*), \.\.\.\]", annotation)
    if several:
        return f"list of {_json_type(several[1])}"
    if annotation.startswith("tuple["):
        return "list of texts"
    return _JSON_TYPES.get(annotation, f"`{annotation}`")


def _mentioned(kind: Any) -> list[Any]:
    """A dataclass and those that its fields hold, in the order in which they are mentioned."""
    found = [kind]
    for known in found:
        names = [name for field in dataclasses.fields(known) for name in re.findall(r"[A-Z]\w+", str(field.type))]
        module = vars(sys.modules[known.__module__])
        kinds = (module.get(name) for name in names)
        found += [one for one in kinds if dataclasses.is_dataclass(one) and one not in found]
    return found


# --- SQL --------------------------------------------------------------------------------------------------------------


def support_page() -> Iterator[str]:
    """The matrix of constructs."""
    support = importlib.import_module("pgtrickle.delta.support")
    yield MADE.format(source="pgtrickle/delta/support.py")
    yield "# SQL support"
    yield ""
    yield from _text(
        """\
        What can be maintained by the changes alone (mode `DIFFERENTIAL`), construct by construct, and how. The words in
        the column "How" are the strategies of [stages](../concepts/stages.md).

        In mode `FULL` every query works that PostgreSQL can put into a view. In mode `AUTO` a query with a construct
        that has no delta is computed in full at each refresh, and creation, `status` and `explain` say why. In mode
        `DIFFERENTIAL` it is refused with `PGT101`, naming the construct. `pgtrickle validate` tells all of that
        without creating anything.
        """
    )
    yield ""
    yield "| Construct | DIFFERENTIAL | How | Note |"
    yield "|---|---|---|---|"
    for construct, differential, how, note in support.SUPPORT:
        answer = {True: "yes", False: "no"}.get(differential, differential)
        yield "| " + " | ".join(_cell(part) for part in (construct, answer, how, note)) + " |"


def _cell(value: object) -> str:
    return str(value or "").replace("|", r"\|").replace("``", "`").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
