"""Produce malformed records: header names that are not UTF-8, and times outside the calendar.

This is a separate program, because only the Python parts of aiokafka write such bytes:
`python strange_producer.py <bootstrap> <topic>`.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

VALUE = b"strange"


def produce_strange_records(bootstrap: str, topic: str) -> int:
    """Produce them. Returns the count. Each value is unique and begins with `VALUE`."""
    command = [sys.executable, str(Path(__file__)), bootstrap, topic]
    env = {**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}
    return int(subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=60).stdout)


class RawName(str):
    """A header name whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe\x80" if self == "raw" else super().encode(encoding, errors)


async def main(bootstrap: str, topic: str) -> None:
    from aiokafka import AIOKafkaProducer

    records: list[dict[str, Any]] = [
        {"headers": [(RawName("raw"), b"1")]},
        {"headers": [("fine", b"1"), (RawName("raw"), b"\xff"), ("none", None)]},
        {"timestamp_ms": 2**62},
        {"timestamp_ms": -1},
        {"headers": [("", b"")] * 200},
        {"headers": [("x" * 10_000, b"y" * 10_000)]},
        {"key": b"\xff\xfe"},
        {"key": b"k" * 100_000},
    ]
    for compression in (None, "zstd"):
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=compression)
        await producer.start()
        for number, record in enumerate(records):
            value = VALUE + b" %d %s" % (number, str(compression).encode())
            await producer.send_and_wait(topic, value, **{"key": b"%d" % number, **record})
        await producer.stop()
    print(2 * len(records))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
