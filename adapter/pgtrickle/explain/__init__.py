"""How a query is, or would be, maintained: operators, rewrites, rules, statements, tables, costs, advice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgtrickle.errors import InvalidOption
from pgtrickle.explain.compose import explain_query, explain_stream_table
from pgtrickle.explain.model import Explanation
from pgtrickle.explain.picture import to_dot, to_mermaid
from pgtrickle.explain.text import to_text

#: Format -> how an explanation is shown in it.
FORMATS: Mapping[str, Callable[[Explanation], str]] = {"text": to_text, "mermaid": to_mermaid, "dot": to_dot}


def render(explanation: Explanation, form: str = "text", *, sql: bool = False) -> str:
    """An explanation as text, or as a picture of its operator trees.

    Args:
        explanation: of ``PgTrickle.explain`` or ``PgTrickle.validate_query``.
        form: ``text``, ``mermaid`` or ``dot``.
        sql: with the statements per changed source, in text.

    Raises:
        InvalidOption: another format.
    """
    if form not in FORMATS:
        raise InvalidOption(f"'{form}' is not a format.", clause="format", hint=f"Use {', '.join(FORMATS)}.")
    return to_text(explanation, sql=sql) if form == "text" else FORMATS[form](explanation)


__all__ = ["FORMATS", "explain_query", "explain_stream_table", "render", "to_text"]
