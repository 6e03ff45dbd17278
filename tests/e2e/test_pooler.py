"""Every stage through PgBouncer in transaction mode, each process with its pool of five connections."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import System, until
from real.pgbouncer import PgBouncer
from real.postgres import Postgres
from real.process import free_ports
from streams.runtime.background import BACKGROUND_NAME

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PROCESSES = (BACKGROUND_NAME, "fan-out", "deliver", "record", "api")
# As many requests of an account have places at once.
REGISTRATIONS = 16
EVENTS = 20
# To wait ten seconds for a connection of the pool is an outage.
PROBLEMS = ("database_unreachable", "stage_failed", "misconfigured")


@pytest.fixture(scope="module")
def running(
    kafka: Broker, postgres: Postgres, pgbouncer: PgBouncer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Every stage, through the pooler."""
    folder, [port] = tmp_path_factory.mktemp("pooled"), free_ports(1)
    settings = {"SCORM_WEBHOOKS_DATABASE_POOLER": "transaction", "SCORM_WEBHOOKS_API_PORT": str(port)}
    for system in prepared(kafka, postgres, random_prefix(), folder, **settings):
        # The tests' own connection is opened past the pooler.
        assert system.has_published()
        url = pgbouncer.before(make_url(system.env["DATABASE_URL"]))
        system.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
        system.start(PROCESSES)
        yield system


def documented_connections() -> int:
    """The connections of these processes, by docs/capacity.md."""
    page = (ROOT / "docs" / "capacity.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)`[^|]* \| (\d+) ", page, re.MULTILINE))
    return sum(int(rows[stage]) for stage in PROCESSES)


def test_registrations_at_once_wait_for_no_connection(running: System, pgbouncer: PgBouncer) -> None:
    opened = running.run("accounts", "create", "Acme", "--json")
    address = f"http://127.0.0.1:{running.env['SCORM_WEBHOOKS_API_PORT']}/v1/webhooks"

    def register(number: int) -> Any:
        headers = {"Authorization": f"Bearer {opened['apiKey']}"}
        return httpx.post(address, json={"url": f"http://127.0.0.1:1/{number}"}, headers=headers, timeout=30)

    with ThreadPoolExecutor(REGISTRATIONS) as people:
        responses = list(people.map(register, range(REGISTRATIONS)))
    assert [response.status_code for response in responses] == [201] * REGISTRATIONS
    until(running.has_published, 30, "every registration is published")
    name = make_url(running.env["DATABASE_URL"]).database
    assert 0 < pgbouncer.clients(str(name)) <= documented_connections()


def test_the_path_of_an_event_and_of_a_job(running: System, receiver: Receiver) -> None:
    prefix = running.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    platform = Platform(running.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")
    account = running.account()
    webhook = str(running.webhook(account, receiver.url("/crm"))["id"])
    for number in range(EVENTS):
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"evt_{number}")
    platform.flush()
    until(lambda: running.states(webhook) == {"delivered": EVENTS}, 60, lambda: str(running.states(webhook)))
    running.run("deliveries", "replay", webhook, "--since", "2026-04-10T00:00:00Z", "--yes", "--json")
    until(lambda: len(receiver.at("/crm")) == 2 * EVENTS, 60, "sent again")
    for stage in PROCESSES:
        assert [line for line in running.log_events(stage) if line["event"] in PROBLEMS] == [], stage


def test_without_the_setting_a_stage_says_what_to_set(running: System) -> None:
    env = {**running.env, "SCORM_WEBHOOKS_DATABASE_POOLER": ""}
    done = System(running.folder, env).attempt("notify")
    assert done.returncode == 2
    assert "set SCORM_WEBHOOKS_DATABASE_POOLER=transaction" in done.stdout + done.stderr
