"""Tries mutants: each in a forked process that loads the faulty module and plays the battery against a server."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import CodeType, FunctionType, ModuleType
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from tests.mutation.battery import ADAPTER, Baseline, Item, Noticed, learn, play
from tests.mutation.mutants import Mutant
from tests.mutation.screen import makes_a_difference
from tests.support import servers

TEMPLATE = "battery"
#: What a mutant has to get past takes the sound compiler at most so long, each item played alone.
MOST_SECONDS = 30.0
#: The unit tests that look at trees and statements.
UNIT_TESTS = ("compiler_aggregates", "compiler_deltas", "compiler_pretty", "compiler_scales", "compiler_trees")
DROP = SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
CREATE = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: what was tried.
        notice: how it was noticed; None if it survived.
        items: the items that run the line.
        changed: those of them for which a surviving mutant makes other SQL, as far as was looked.
        seconds: how long it took.
    """

    mutant: Mutant
    notice: str | None
    items: int
    changed: int
    seconds: float


class _Faulty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a text instead of from its file."""

    def __init__(self, module: str, path: str, source: str) -> None:
        self.module, self.path, self.source = module, path, source

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        package = [os.path.dirname(self.path)] if self.path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, submodule_search_locations=package
        )

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(ast.parse(self.source), self.path, "exec"), module.__dict__)


class Laboratory:
    """A server with a template database; forks a process per trial.

    Args:
        workers: how many trials at the same time.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.server = servers.start(servers.EMBEDDED_MAJOR, settings={"max_connections": "60", "autovacuum": "off"})
        with self.server.connect() as conn:
            conn.execute("ALTER ROLE postgres SET search_path = p, public")
            conn.execute(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
        installed = self._one(lambda: _install(self.server.dsn(TEMPLATE)), 60)
        if installed != "done":
            raise RuntimeError(f"the engine could not be installed: {installed}")

    def close(self) -> None:
        """Stop the server."""
        self.server.stop()

    # --- the sound compiler ----------------------------------------------------------------------------------------

    def baselines(self, items: Sequence[Item], targets: frozenset[str]) -> dict[str, Baseline]:
        """What the sound compiler makes of each item; items that it cannot play are left out with a message."""
        parts = [list(items[start :: self.workers]) for start in range(self.workers)]
        jobs = [self._learning(part, targets) for part in parts]
        found: dict[str, Baseline] = {}
        for _, learnt, _ in self._parallel(jobs, [60 + 10 * len(part) for part in parts]):
            if not isinstance(learnt, dict):
                raise RuntimeError(f"the sound compiler failed: {learnt}")
            found.update(learnt)
        return found

    def _learning(self, part: Sequence[Item], targets: frozenset[str]) -> Callable[[str], object]:
        def work(dsn: str) -> object:
            return learn(dsn, part, targets)

        return work

    # --- mutants ---------------------------------------------------------------------------------------------------

    def trials(
        self,
        mutants: Sequence[Mutant],
        chosen: Callable[[Mutant], Sequence[tuple[Item, Baseline]]],
        *,
        most: int | None = None,
    ) -> Iterator[Verdict]:
        """Try mutants; verdicts come as they are ready.

        Args:
            mutants: what to try.
            chosen: the items that a mutant has to get past.
            most: items that are played, of those for which the mutant makes other SQL; None for all of them and
                the unit tests of the compiler.
        """
        import tests.property.replay  # noqa: F401 - what every trial needs is loaded once, before it is forked

        selected = [chosen(mutant) for mutant in mutants]
        costs = [sum(base.seconds for _, base in part) for part in selected]
        patience = [60 if most is not None else 60 + 4 * min(cost, MOST_SECONDS) for cost in costs]
        jobs = [_trial(mutant, part, most) for mutant, part in zip(mutants, selected, strict=True)]
        for number, answer, seconds in self._parallel(jobs, patience):
            changed = answer if isinstance(answer, int) else 0
            notice = None if isinstance(answer, int) else str(answer)
            yield Verdict(mutants[number], notice, len(selected[number]), changed, seconds)

    # --- processes -------------------------------------------------------------------------------------------------

    def _parallel(
        self, jobs: Sequence[Callable[[str], object]], patience: Sequence[float]
    ) -> Iterator[tuple[int, object, float]]:
        waiting = list(range(len(jobs)))[::-1]
        free = [f"trial{number}" for number in range(self.workers)]
        running: dict[int, tuple[int, int, float, str]] = {}
        while waiting or running:
            while waiting and free:
                number, name = waiting.pop(), free.pop()
                pid, pipe = _fork(self._in_database(jobs[number], name))
                running[pipe] = (number, pid, time.monotonic(), name)
            ready, _, _ = select.select(list(running), [], [], 0.5)
            for pipe, (number, pid, began, name) in list(running.items()):
                seconds = time.monotonic() - began
                if pipe not in ready and seconds < patience[number]:
                    continue
                answer = _collect(pid, pipe) if pipe in ready else _kill(pid, pipe)
                del running[pipe]
                free.append(name)
                yield number, answer, seconds

    def _in_database(self, job: Callable[[str], object], name: str) -> Callable[[], object]:
        def work() -> object:
            with self.server.connect() as conn:
                conn.execute(DROP.format(Identifier(name)))
                conn.execute(CREATE.format(Identifier(name), Identifier(TEMPLATE)))
            return job(self.server.dsn(name))

        return work

    def _one(self, job: Callable[[], object], seconds: float) -> object:
        pid, pipe = _fork(job)
        ready, _, _ = select.select([pipe], [], [], seconds)
        return _collect(pid, pipe) if ready else _kill(pid, pipe)


def load(mutant: Mutant) -> None:
    """Put the fault into this process: into the function that is loaded, or else by loading everything again."""
    path = ADAPTER / mutant.path
    source = mutant.source(path.read_text(encoding="utf-8"))
    if _exchange(mutant, compile(ast.parse(source), str(path), "exec")):
        return
    for name in list(sys.modules):
        if name.split(".")[0] == "pgtrickle" or name == "tests.property.replay":
            del sys.modules[name]
    sys.meta_path.insert(0, _Faulty(mutant.module, str(path), source))


def _exchange(mutant: Mutant, code: CodeType) -> bool:
    """Give the function around the fault its faulty code. False if what it does was done when the module was loaded."""
    holder: Any = importlib.import_module(mutant.module)
    for name in mutant.function.split("."):
        made = code
        code = next((each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name), code)
        member = vars(holder).get(name)
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        if isinstance(function, FunctionType):
            same = code.co_name == name and code.co_freevars == function.__code__.co_freevars
            if not same or _makes_functions(code) or name in made.co_names:
                return False
            function.__code__ = code
            return True
        if not isinstance(member, type):
            return False
        holder = member
    return False


def _makes_functions(code: CodeType) -> bool:
    """Whether the functions it returns may have been made already; generators and lambdas are used at once."""
    return any(isinstance(each, CodeType) and not each.co_name.startswith("<") for each in code.co_consts)


def _trial(mutant: Mutant, part: Sequence[tuple[Item, Baseline]], most: int | None) -> Callable[[str], object]:
    def work(dsn: str) -> object:
        try:
            load(mutant)
            played = _of_interest(part, most)
            if most is None:
                _unit_tests()
            play(dsn, played, corrupt=mutant.path.endswith(("verify.py", "classes.py")))
        except Noticed as notice:
            return str(notice)
        except psycopg.OperationalError as error:
            return f"the server gave up: {error}"
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is noticed
            return f"{type(error).__name__}: {error}"[:300]
        return len(played)

    return work


def _of_interest(part: Sequence[tuple[Item, Baseline]], most: int | None) -> list[tuple[Item, Baseline]]:
    """Items to which the mutant makes a difference; nothing else has to be played.

    Raises:
        Exception: the mutant crashes on what the sound compiler compiles. Nothing has to be played to see that.
    """
    found = []
    left = MOST_SECONDS
    for item, base in part:
        if makes_a_difference(base.trees):
            found.append((item, base))
            left -= base.seconds
            if len(found) == most or left < 0:
                break
    return found


def _unit_tests() -> None:
    import pytest

    files = [str(ADAPTER / "tests" / "unit" / f"test_{name}.py") for name in (*UNIT_TESTS, "distinct_aggregates")]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        ended = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", *files])
    if ended != pytest.ExitCode.OK:
        raise Noticed("a unit test of the compiler fails")


def _install(dsn: str) -> object:
    from pgtrickle.api import PgTrickle

    with PgTrickle.connect(dsn) as engine:
        engine.install()
    return "done"


def _fork(job: Callable[[], object]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        os.setpgid(0, 0)
        try:
            answer: Any = job()
        except BaseException:  # noqa: BLE001 - told to the parent
            answer = traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)


def _collect(pid: int, pipe: int) -> object:
    """The answer of a process that has begun to write; a process that died without one has crashed."""
    with os.fdopen(pipe, "rb") as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return pickle.loads(text) if text else "crashed"


def _kill(pid: int, pipe: int) -> str:
    os.close(pipe)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "took too long"
