"""Each test runs on `up` with the embedded broker, and on a real Kafka and PostgreSQL; some on both at night alone."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary.system import OPERATOR_KEY, WEBHOOKS_PER_ACCOUNT, Account, AdversarySystem
from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.postgres import Postgres
from real.process import free_ports

# Low limits and a short timeout make the tests fast.
SETTINGS = {
    "SCORM_WEBHOOKS_OPERATOR_KEYS": OPERATOR_KEY,
    "SCORM_WEBHOOKS_RATE_LIMIT": "100000",
    "SCORM_WEBHOOKS_WEBHOOKS_PER_ACCOUNT": str(WEBHOOKS_PER_ACCOUNT),
    "SCORM_WEBHOOKS_ATTEMPT_TIMEOUT_SECONDS": "4",
}


@pytest.fixture(scope="package", params=["embedded", pytest.param("clustered", marks=pytest.mark.real)])
def any_system(request: pytest.FixtureRequest) -> AdversarySystem:
    attacked: AdversarySystem = request.getfixturevalue(request.param)
    return attacked


@pytest.fixture
def attacked(any_system: AdversarySystem) -> Iterator[AdversarySystem]:
    """The system; after the test another account must still be served."""
    yield any_system
    any_system.assert_other_account_is_served()


@pytest.fixture
def account(attacked: AdversarySystem) -> Account:
    """A new account of the attacker."""
    return attacked.open_account("Attacker")


@pytest.fixture(scope="package")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdversarySystem]:
    """`scorm-webhooks up` with the embedded broker and SQLite."""
    folder, receiver = tmp_path_factory.mktemp("embedded"), Receiver()
    health_port, api_port = free_ports(2)
    ports = {"SCORM_WEBHOOKS_HEALTH_PORT": str(health_port), "SCORM_WEBHOOKS_API_PORT": str(api_port)}
    system = System(folder, {**SETTINGS, **ports})
    with (folder / "up.log").open("ab") as log:
        up = subprocess.Popen([sys.executable, "-m", "streams", "up"], env=system.env, cwd=folder, stderr=log)
    try:
        # Each look asks ten processes.
        ready = f"every stage ready; the log is in {folder}"
        until(lambda: is_ready(health_port) or up.poll() is not None, 90, ready, every=0.3)
        assert up.poll() is None, (folder / "up.log").read_text()
        broker = json.loads((folder / ".scorm-webhooks" / "broker.json").read_text())
        attacked = AdversarySystem(system, receiver, broker["bootstrap"], "", api_port, health_port)
        yield attacked
        print(f"\nembedded: {attacked.figures()}")  # seen with -s
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(timeout=60)
        receiver.close()


@pytest.fixture(scope="package")
def clustered(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdversarySystem]:
    """Each stage as a process, on Kafka and PostgreSQL."""
    folder, receiver, prefix = tmp_path_factory.mktemp("clustered"), Receiver(), random_prefix()
    [api_port] = free_ports(1)
    settings = {**SETTINGS, "SCORM_WEBHOOKS_API_PORT": str(api_port)}
    for system in prepared(kafka, postgres, prefix, Path(folder), **settings):
        system.start((*STAGES, "maintain", "meter", "api"))
        attacked = AdversarySystem(system, receiver, kafka.bootstrap, prefix, api_port, system.health_port("deliver"))
        yield attacked
        print(f"\nclustered: {attacked.figures()}")
    receiver.close()


def is_ready(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200)
    except OSError:
        return False
