"""The endpoint of the experiments (sink.c), which records every request and its time."""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("sink.c")
_RECEIPT = struct.Struct("48s40sdq")

RECEIPT_BYTES = _RECEIPT.size

# (path, event id, CLOCK_MONOTONIC seconds at its complete arrival, whether it got a response)
Receipt = tuple[str, str, float, bool]


def compile_c(source: Path, program: Path) -> None:
    """Compile a program of the experiments. Raises `SystemExit` without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the experiments need a C compiler: apt-get install gcc libc6-dev")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)


class Sink:
    """Listens on loopback until `close` or the end of the parent process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sink-")
        program, receipts = Path(self._folder.name, "sink"), Path(self._folder.name, "receipts")
        compile_c(SOURCE, program)
        # Its own session, and so its own share of the CPU, as every other process here.
        self._process = subprocess.Popen(
            [program, receipts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.receipts = receipts
        self._receipts = receipts.open("rb")

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self) -> int:
        """Number of requests since the last `take`."""
        assert self._process.poll() is None, "the sink has ended"
        return (os.fstat(self._receipts.fileno()).st_size - self._receipts.tell()) // _RECEIPT.size

    def take(self) -> list[Receipt]:
        """The requests since the last call, in order."""
        new = self._receipts.read(self.count() * _RECEIPT.size)
        return [
            (path.rstrip(b"\0").decode(), event_id.rstrip(b"\0").decode(), at, bool(answered))
            for path, event_id, at, answered in _RECEIPT.iter_unpack(new)
        ]

    def close(self) -> None:
        self._process.communicate()
        self._receipts.close()
        self._folder.cleanup()
