"""A stage whose client fetches no more is started again by its supervisor."""

import json
from pathlib import Path

import pytest

from e2e.receiver import Receiver
from e2e.system import until
from e2e.up import await_ready, running_up

pytestmark = pytest.mark.e2e

SITE = Path(__file__).parent / "stopped_fetch"


@pytest.mark.parametrize(("stage", "client"), [("deliver", "faust"), ("fan-out", "faust"), ("fan-out", "librdkafka")])
def test_a_stage_that_stands_still_is_started_again(
    stage: str, client: str, tmp_path: Path, receiver: Receiver
) -> None:
    orders = tmp_path / "orders"
    orders.mkdir()
    env = {"PYTHONPATH": str(SITE), "STOPPED_FETCHES": str(orders)}
    env |= {"SCORM_WEBHOOKS_WATCHDOG_SECONDS": "5", "SCORM_WEBHOOKS_LOG_FORMAT": "json"}
    env |= {"SCORM_WEBHOOKS_FAN_OUT_CONSUMER": client}
    with running_up(tmp_path, env) as (up, _):
        await_ready(up)
        account = up.run("accounts", "create", "Acme", "--json")["id"]
        up.run("webhooks", "create", "--account", account, "--url", receiver.url("/crm"), "--json")
        order = orders / stage
        order.touch()
        until(lambda: not order.exists(), 30, "the client has stopped")
        event = (
            f'{{"type":"package.updated","accountId":"{account}","createdAt":"2026-04-10T14:32:00Z",'
            '"data":{"packageId":"pkg_1","version":"2"}}'
        )
        [published] = up.run("events", "publish", "-", "--json", stdin=event)["events"]
        until(lambda: receiver.ids("/crm") == [published["id"]], 90, "the event at the customer")
    lines = [json.loads(line) for line in (tmp_path / "up.log").read_text().splitlines() if line.startswith("{")]
    [found] = [line for line in lines if line["event"] == "consumer_stands_still"]
    assert (found["stage"], found["level"]) == (stage, "error")
    assert [(line["child"], line["code"]) for line in lines if line["event"] == "stage_ended"] == [(stage, 3)]
