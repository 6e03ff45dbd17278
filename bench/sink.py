"""Customers' servers (sink.c), which remember what arrived when."""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("sink.c")
_RECEIPT = struct.Struct("48s40sdq")

# (path, event id, seconds of CLOCK_MONOTONIC when it had arrived whole, whether it was answered)
Receipt = tuple[str, str, float, bool]


class Sink:
    """Listens on loopback until it is closed, or whoever made it is gone."""

    def __init__(self) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise SystemExit("the receiver of the benchmarks wants a C compiler: apt-get install gcc libc6-dev")
        self._folder = tempfile.TemporaryDirectory(prefix="sink-")
        program, receipts = Path(self._folder.name, "sink"), Path(self._folder.name, "receipts")
        subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, SOURCE], check=True)
        # A session of its own: a share of the cores of its own, as every other process here has.
        self._process = subprocess.Popen(
            [program, receipts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self._receipts = receipts.open("rb")

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self) -> int:
        """How many requests came in since they were taken last."""
        assert self._process.poll() is None, "the sink ended"
        return (os.fstat(self._receipts.fileno()).st_size - self._receipts.tell()) // _RECEIPT.size

    def take(self) -> list[Receipt]:
        """What came in since the last time, in order."""
        new = self._receipts.read(self.count() * _RECEIPT.size)
        return [
            (path.rstrip(b"\0").decode(), event_id.rstrip(b"\0").decode(), at, bool(answered))
            for path, event_id, at, answered in _RECEIPT.iter_unpack(new)
        ]

    def close(self) -> None:
        self._process.communicate()
        self._receipts.close()
        self._folder.cleanup()
