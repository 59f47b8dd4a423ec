"""A proxy that cuts a connection at an exact message: a client that is killed between any two statements.

It reads PostgreSQL's protocol as far as needed: a message that asks for an answer (Query, Sync) is counted. Cut
*before*, the server never sees the message; cut *after*, it carries the message out and nobody hears the answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_ASKS = (b"Q", b"S")
_READY = b"Z"


class CuttingProxy:
    """Between a client and a server on localhost; as many connections as anybody likes.

    Attributes:
        dsn: connection string through the proxy.
        seen: messages since `arm`.
        cut: whether the cut has happened since `arm`.
        watch: called before each message that asks for an answer goes on.
    """

    def __init__(self, dsn: str) -> None:
        facts = conninfo_to_dict(dsn)
        self._server = (str(facts["host"]), int(str(facts["port"])))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.seen = 0
        self.cut = False
        self.watch: Callable[[], None] | None = None
        self._at: int | None = None
        self._answered = False
        self._act: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._passes = threading.Event()
        self._passes.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def arm(self, at: int | None, *, answered: bool = False, act: Callable[[], None] | None = None) -> None:
        """Cut at the message of this number, from 1; None: never.

        Args:
            at: counted over all connections from now on.
            answered: the server gets the message and finishes it.
            act: do this before the message goes on, instead of cutting.
        """
        with self._lock:
            self.seen, self.cut, self._at, self._answered, self._act = 0, False, at, answered, act

    def silence(self, seconds: float) -> None:
        """Nothing passes for so long, in no direction, and nobody is told: as a network that drops packets."""
        self._passes.clear()
        time.sleep(seconds)
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for one in (client, server):
                # Small messages must not wait for each other's acknowledgement.
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            silent = threading.Event()
            threading.Thread(target=self._ask, args=(client, server, silent), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server, silent), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError, EOFError, struct.error):
            # The first message has no type.
            length = _read(client, 4)
            server.sendall(length + _read(client, struct.unpack("!I", length)[0] - 4))
            while True:
                kind, body = _message(client)
                self._passes.wait()
                verdict = self._count() if kind in _ASKS else None
                if verdict is False:
                    break
                if verdict:
                    silent.set()
                server.sendall(kind + body)
        if not silent.is_set():
            _close(client, server)

    def _count(self) -> bool | None:
        """None: let it pass; False: cut before it; True: cut after it."""
        if self.watch is not None:
            self.watch()
        with self._lock:
            self.seen += 1
            if self.seen != self._at:
                return None
            self.cut = True
            if self._act is not None:
                self._act()
                return None
            return self._answered

    def _answer(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError, EOFError, struct.error):
            while True:
                kind, body = _message(server)
                self._passes.wait()
                if not silent.is_set():
                    client.sendall(kind + body)
                elif kind == _READY:
                    break
        _close(client, server)


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    kind, length = _read(source, 1), _read(source, 4)
    return kind, length + _read(source, struct.unpack("!I", length)[0] - 4)


def _read(source: socket.socket, size: int) -> bytes:
    parts = []
    while size > 0:
        part = source.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
