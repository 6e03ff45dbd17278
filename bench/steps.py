"""CPU time of a stage by step of its work, sampled by py-spy."""

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# The innermost frame that matches one of these decides the step.
STEPS = {
    "probes": r"aiohttp/web|health_server|prometheus_client/(exposition|registry)",
    "fetch": r"kafka/consuming/(messages|consumer_thread|record_consumer)\.py|faust|mode/|aiokafka",
    "decode": r"AvroCodec\.decode|_decode \(|\.to_value",
    "body": r"core/events/event",
    "match": r"wants \(|subscriptions_reader|compacted/end_offset|subscriptions_table|streams/stages/fan_out",
    "sign": r"core/deliveries/(request|signing)\.py|hmac|base64",
    "send": r"adapters/http/|aiohttp|asyncio/timeouts|yarl",
    "encode": r"AvroCodec\.encode|\.to_record",
    "produce": r"kafka/producing/record_producer\.py",
    "slots": r"slot_limiter|core/queues/slots|core/queues/endpoint_queue|contextlib",
    "store": r"adapters/sql|sqlalchemy|psycopg|asyncpg|core/deliveries/delivery_state|core/webhooks/network",
    "bookkeeping": r"streams/",
}
_PATTERNS = {step: re.compile(pattern) for step, pattern in STEPS.items()}


@contextmanager
def sampled(pid: int) -> Iterator[Counter[str]]:
    """Samples by step of a process during the block; complete at its end. Needs permission to trace."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        spy = str(Path(sys.executable).with_name("py-spy"))
        command = [spy, "record", "--gil", "-d", "600", "-r", "200", "-f", "raw", "-o", str(raw), "-p", str(pid)]
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield found
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.wait(30)
        for line in raw.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            found[_step(stack.split(";"))] += int(count)


def _step(frames: list[str]) -> str:
    for frame in reversed(frames):
        for step, pattern in _PATTERNS.items():
            if pattern.search(frame):
                return step
    return "event loop"
