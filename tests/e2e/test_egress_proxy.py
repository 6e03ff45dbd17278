"""Events go through an egress proxy; while it is down they wait, and no webhook is paused."""

import json
import re
from pathlib import Path

import pytest

import parts
from conftest import left_out
from e2e.receiver import Receiver
from e2e.system import System, until
from e2e.test_up import metrics_of, updated
from e2e.up import await_ready, running_up
from real.process import free_ports
from real.tinyproxy import CREDENTIALS, Tinyproxy

pytestmark = [pytest.mark.e2e, pytest.mark.real]


def proxy_errors(system: System) -> float:
    samples = re.findall(r"^scorm_webhooks_attempts_total\{(.*)\} (\S+)$", metrics_of(system), re.MULTILINE)
    return sum(float(value) for labels, value in samples if 'outcome="proxy_error"' in labels)


def test_events_wait_for_the_egress_proxy(tmp_path: Path, receiver: Receiver) -> None:
    if not parts.tinyproxy():
        left_out("tinyproxy")
    (port,) = free_ports(1)
    (tmp_path / "credentials").write_text(f"{CREDENTIALS}\n")
    env = {
        "SCORM_WEBHOOKS_EGRESS_PROXY": f"http://127.0.0.1:{port}",
        "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "SCORM_WEBHOOKS_SOURCE_ADDRESSES": "203.0.113.7",
    }
    with running_up(tmp_path, env) as (system, _):
        await_ready(system)
        account = system.account()
        webhook = system.webhook(account, receiver.url("/crm"), "--set", 'pauseAfter={"failures": 1}')
        assert system.run("webhooks", "source-addresses", "--json")["addresses"] == ["203.0.113.7"]
        system.run("events", "publish", "-", stdin=updated(account, 1))
        until(lambda: proxy_errors(system) >= 2, 30, "two attempts fail at the proxy")
        assert receiver.ids("/crm") == []
        assert system.run("webhooks", "show", webhook["id"], "--json")["status"] == "active"
        proxy = Tinyproxy(port)
        try:
            until(lambda: receiver.ids("/crm") == ["evt_1"], 30, "the event at the customer")
            assert proxy.requests[0].startswith("CONNECT 127.0.0.1:")
        finally:
            proxy.remove()
        [shown] = system.run("deliveries", "list", "--webhook", webhook["id"], "--json")
        details = system.run("deliveries", "show", shown["id"], "--json")
    log = (tmp_path / "up.log").read_text()
    assert CREDENTIALS.partition(":")[2] not in log + json.dumps(details)
    assert f"127.0.0.1:{port} could not be reached: Connection refused" in log
    outcomes = [attempt["outcome"] for attempt in details["attempts"]]
    assert (outcomes[-1], set(outcomes[:-1])) == ("delivered", {"proxy_error"})
