"""Create SQLite's file for its owner only, and end the threads of its connections."""

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import aiosqlite
from sqlalchemy.engine import URL

BUSY_TIMEOUT_SECONDS = 30
THREADS_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.002


def make_private_file(url: URL) -> None:
    """Create the database's file with mode 0600, if it does not exist. SQLite gives `-wal` and `-shm` the same mode.

    If this fails, SQLite reports the error when it opens the file. An existing file is not opened here: a close drops
    every lock that this process has on it (https://sqlite.org/howtocorrupt.html, section 2.2). Another process would
    then remove the log to which this one still writes.
    """
    path = url.database
    if path and path != ":memory:" and not path.startswith("file:"):
        with suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


class _Connection(aiosqlite.Connection):
    """A connection that two tasks may close: its thread ends at the first stop, and would not answer a second one."""

    _is_stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        if self._is_stopped:
            return None
        self._is_stopped = True
        return super().stop()


class SqliteConnections:
    """Opens connections by aiosqlite, which starts a thread for each, and tracks these threads."""

    def __init__(self, url: URL) -> None:
        self._url = url
        arguments, self._options = url.get_dialect()().create_connect_args(url)
        self._path = arguments[0]
        self._threads: WeakSet[threading.Thread] = WeakSet()

    async def open(self) -> aiosqlite.Connection:
        """Open a connection, for SQLAlchemy's `async_creator`."""
        make_private_file(self._url)
        connect = partial(sqlite3.connect, self._path, **{**self._options, "timeout": BUSY_TIMEOUT_SECONDS})
        connection = _Connection(connect, iter_chunk_size=64)
        connection._thread.daemon = True
        self._threads.add(connection._thread)
        return await connection

    async def wait_until_ended(self) -> None:
        """Wait for the threads of connections that are closed or cancelled.

        A thread that outlives the event loop cannot return its last result, and ends with a traceback.
        """
        deadline = time.monotonic() + THREADS_TIMEOUT_SECONDS
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
