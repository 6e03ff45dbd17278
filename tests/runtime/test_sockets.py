"""A process that cannot listen names the wrong setting."""

import contextlib
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streams.core.errors import Misconfigured
from streams.runtime.sockets import listen

MEBIBYTE = 1024 * 1024


def test_any_free_port_is_listened_on() -> None:
    with listen("127.0.0.1", 0, "X") as listening:
        socket.create_connection(listening.getsockname()).close()


def test_a_name_is_listened_on_by_its_older_address() -> None:
    with listen("localhost", 0, "X") as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_port_in_use_is_named_by_its_setting() -> None:
    with listen("127.0.0.1", 0, "X") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured) as refused:
            listen("127.0.0.1", port, "X")
    assert str(refused.value) == (
        f"X_PORT: cannot listen on 127.0.0.1:{port} (Address already in use); choose another port"
    )


def test_a_client_that_does_not_read_holds_little_memory() -> None:
    with listen("127.0.0.1", 0, "X") as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        with accepted:
            accepted.setblocking(False)
            taken = 0
            with contextlib.suppress(BlockingIOError):
                while taken < 4 * MEBIBYTE:
                    taken += accepted.send(bytes(65536))
            assert taken < MEBIBYTE / 2


@pytest.mark.parametrize("host", ["no host", "two..dots", "192.0.2.1"])
def test_an_address_of_another_machine_names_its_setting(host: str) -> None:
    with pytest.raises(
        Misconfigured,
        match=rf"^X_HOST: cannot listen on {re.escape(host)}:0 \([^()]+\); choose an address of this machine$",
    ):
        listen(host, 0, "X")


def test_a_used_health_port_is_reported_without_kafka(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, "X") as taken:
        environ = {
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "SCORM_WEBHOOKS_DATA_DIR": str(tmp_path),
            "SCORM_WEBHOOKS_HEALTH_PORT": str(taken.getsockname()[1]),
        }
        # A stage waits a minute for Kafka.
        command = [sys.executable, "-m", "streams", "deliver"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    reason = json.loads(done.stderr)["why"]
    assert reason.startswith("SCORM_WEBHOOKS_HEALTH_PORT: cannot listen on 127.0.0.1:")
