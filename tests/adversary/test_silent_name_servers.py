"""Names whose name servers are silent delay no other account, though a look-up lasts longer than its attempt."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adversary.conftest import SETTINGS
from adversary.system import AdversarySystem
from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.receiver import Receiver
from e2e.system import STAGES, until
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.real

SILENT_NAMES = 300
OTHER_ACCOUNTS = 8
ARRIVES_SECONDS = 3.0


@pytest.fixture
def attacked(kafka: Broker, postgres: Postgres, tmp_path: Path) -> Iterator[AdversarySystem]:
    """A system whose stage `deliver` asks these name servers."""
    receiver, prefix, [api_port] = Receiver(), random_prefix(), free_ports(1)
    limits = {"SCORM_WEBHOOKS_WEBHOOKS_PER_ACCOUNT": str(SILENT_NAMES), "SCORM_WEBHOOKS_API_PORT": str(api_port)}
    for system in prepared(kafka, postgres, prefix, tmp_path, **{**SETTINGS, **limits}):
        system.start([stage for stage in (*STAGES, "maintain", "meter", "api") if stage != "deliver"])
        system.start(["deliver"], PYTHONPATH=str(Path(__file__).parent / "silent_names"))
        yield AdversarySystem(system, receiver, kafka.bootstrap, prefix, api_port, system.health_port("deliver"))
    receiver.close()


def test_silent_name_servers_delay_nobody_else(attacked: AdversarySystem) -> None:
    """Each event of another account is its first one: the name of its endpoint must be looked up."""
    attacker = attacked.open_account("Attacker")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: attacked.register(attacker, f"http://{n}.silent.test:9/"), range(SILENT_NAMES)))
    others = [attacked.open_account("Other") for _ in range(OTHER_ACCOUNTS)]
    port = urlsplit(attacked.receiver.url("/")).port
    for number, account in enumerate(others):
        attacked.register(account, f"http://{number}.crm.test:{port}/{number}")
    for number, account in enumerate(others):
        attacked.publish(attacker)
        until(lambda: attacked.system.metric("deliver", "slow_slots_in_use") > 0, 20, "look-ups hang")
        attacked.publish(account)
        receives = partial(attacked.receiver.at, f"/{number}")
        until(receives, ARRIVES_SECONDS, f"the first event of account {number} arrives", every=0.005)
