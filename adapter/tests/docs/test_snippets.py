"""Every code block of README and docs that says it runs, runs, and prints what the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.sql import SQL, Identifier

from tests.conftest import fresh_database
from tests.docs.snippets import Session, SnippetFailed, blocks_of, compare
from tests.support.servers import Server

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "demo" / "README.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
WITH_SNIPPETS = [
    name
    for name, page in zip(NAMES, PAGES, strict=True)
    if any(block.directive == "run" for block in blocks_of(page.read_text()))
]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.fixture
def page_database(server: Server) -> Iterator[str]:
    """A database for one page; roles that the page creates go with it."""
    roles = "SELECT rolname FROM pg_roles"
    with server.connect() as connection:
        before = set(connection.execute(roles).fetchall())
    yield from fresh_database(server)
    with server.connect() as connection:
        for (role,) in set(connection.execute(roles).fetchall()) - before:
            connection.execute(SQL("DROP ROLE {}").format(Identifier(role)))


@pytest.mark.newest_only
@pytest.mark.parametrize("name", WITH_SNIPPETS)
def test_the_snippets_of_a_page_do_what_the_page_says(name: str, page_database: str, tmp_path: Path) -> None:
    session = Session(page_database, tmp_path)
    try:
        for block in blocks_of((ROOT / name).read_text()):
            try:
                session.run(block)
            except SnippetFailed as failure:
                pytest.fail(f"{name}, line {block.line}: {failure}", pytrace=False)
    finally:
        session.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_code_says_whether_it_is_run(name: str) -> None:
    unmarked = [block.line for block in blocks_of((ROOT / name).read_text()) if block.needs_mark]
    assert not unmarked, f"{name}: blocks at lines {unmarked} have no <!-- run --> or <!-- not run: why -->"


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    broken = [link for link in links if not _leads_somewhere(page, link)]
    assert not broken, f"{name}: {broken}"


def test_the_index_leads_to_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text())}
    assert [page for page in sorted((ROOT / "docs").rglob("*.md")) if page not in {*linked, index}] == []


def _leads_somewhere(page: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    path = page.parent / target if target else page
    return path.exists() and (not anchor or anchor in _anchors(path.read_text()))


def _anchors(markdown: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", markdown, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_block_knows_its_mark_its_language_and_its_line() -> None:
    page = "text\n<!-- run: exit 2 -->\n```bash\nfalse\n```\n\n```sql\nselect 1\n```\n"
    page += "<!-- not run: why -->\n\n```sql\nx\n```\n"
    first, second, third = blocks_of(page)
    assert (first.line, first.language, first.text, first.directive, first.argument) == (
        4,
        "bash",
        "false",
        "run",
        "exit 2",
    )
    assert second.needs_mark
    assert third.directive == "not run"
    assert not third.needs_mark


def test_shown_output_may_leave_out_but_not_invent() -> None:
    compare("a | b\n---+---\n1 | ...", "a   | b\n1 | 2\n3 | 4")
    with pytest.raises(SnippetFailed):
        compare("a\n2", "a\n1")


def test_a_failing_command_fails_the_page(tmp_path: Path) -> None:
    session = Session("host=localhost port=1 user=x dbname=x", tmp_path)
    (block,) = blocks_of("<!-- run -->\n```bash\necho said; false\n```")
    with pytest.raises(SnippetFailed, match="said"):
        session.run(block)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/contributing/")])
def test_the_files_that_contributors_are_sent_to_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    paths = re.findall(r"`((?:adapter|docs|macros|tools|demo|pgtrickle)/[\w/.-]+)`", text)
    missing = [path for path in paths if not (ROOT / path).exists() and not (ROOT / "adapter" / path).exists()]
    assert not [path for path in missing if path not in TO_BE_WRITTEN]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/contributing/")])
def test_code_that_a_guide_takes_from_a_file_is_in_that_file(name: str) -> None:
    for block in blocks_of((ROOT / name).read_text()):
        if block.directive != "not run" or not block.argument.startswith("from "):
            continue
        path = ROOT / "adapter" / block.argument.removeprefix("from ").strip()
        assert is_in(block.text, path.read_text()), f"{name}, line {block.line}: {path.name} does not say that"


def is_in(shown: str, code: str) -> bool:
    """Whether the shown lines stand in the code as they are; a line ``...`` stands for anything between two of them."""
    position = 0
    for part in re.split(r"^\s*\.\.\.\n?", f"{shown}\n", flags=re.MULTILINE):
        found = f"\n{code}".find(f"\n{part}", position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def test_an_excerpt_may_leave_out_but_not_invent() -> None:
    code = "a = 1\nb = 2\n\nc = 3\n"
    assert is_in("a = 1\nb = 2", code)
    assert is_in("a = 1\n...\nc = 3", code)
    assert not is_in("a = 1\nc = 3", code)
    assert not is_in("c = 3\n...\na = 1", code)
    assert not is_in("= 1", code)


#: Files that a guide tells its reader to write.
TO_BE_WRITTEN = ("pgtrickle/gates/window.py", "pgtrickle/schedule/kinds/weekday.py")
