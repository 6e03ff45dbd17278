"""`up` on one machine: one command, without a broker or a database."""

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import parts
from conftest import Broker, left_out
from e2e.receiver import Receiver
from e2e.system import System, until
from e2e.up import await_ready, is_ready, reasons, running_up, up_on_a_terminal
from real.prometheus import Prometheus
from streams.runtime.startup import STAGES

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`up` on an embedded broker; each test has its own account."""
    with running_up(tmp_path_factory.mktemp("up"), {}) as (system, _):
        yield system


@pytest.fixture
def up(shared_up: System) -> System:
    """The shared `up`, ready."""
    await_ready(shared_up)
    return shared_up


def pid_of(up: System) -> int:
    return int(json.loads((up.folder / ".scorm-webhooks" / "broker.json").read_text())["pid"])


def child_of(running_up: int, stage: str) -> int:
    """The process id of a stage of `up`."""
    children = Path(f"/proc/{running_up}/task/{running_up}/children").read_text().split()
    [found] = (int(pid) for pid in children if f"\0{stage}\0" in Path(f"/proc/{pid}/cmdline").read_text())
    return found


def metrics_of(system: System) -> str:
    url = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_HEALTH_PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def total(system: System, name: str, stage: str) -> float:
    """The sum of a metric over the other labels of a stage."""
    samples = re.findall(rf"^scorm_webhooks_{name}\{{(.*)\}} (\S+)$", metrics_of(system), re.MULTILINE)
    return sum(float(value) for labels, value in samples if f'stage="{stage}"' in labels)


def test_the_port_of_up_counts_what_its_stages_do(up: System, receiver: Receiver) -> None:
    counted = (("attempts_total", "deliver"), ("deliveries_created_total", "fan-out"))
    attempts, created = (total(up, name, stage) for name, stage in counted)
    account = up.account()
    up.webhook(account, receiver.url("/crm"))
    up.run("events", "publish", "-", stdin=updated(account, 1))
    until(lambda: receiver.ids("/crm") == ["evt_1"], 30, "the event at the customer")
    until(lambda: total(up, "attempts_total", "deliver") == attempts + 1, 10, "the attempt is counted")
    until(lambda: total(up, "deliveries_created_total", "fan-out") == created + 1, 10, "the delivery is counted")
    assert all(total(up, "ready", stage) == 1 for stage in STAGES)
    assert total(up, "attempts_total", "record") == 0
    assert metrics_of(up).count("# TYPE scorm_webhooks_attempts_total") == 1


@pytest.mark.real
def test_the_alerts_work_on_a_prometheus_that_reads_up(up: System) -> None:
    if not parts.prometheus():
        left_out("promtool")
    prometheus = Prometheus(every="3s")
    try:
        prometheus.watch({"up": int(up.env["SCORM_WEBHOOKS_HEALTH_PORT"])})
        until(lambda: prometheus.value("scorm_webhooks_ready") == len(STAGES), 30, "each stage is ready")
        until(lambda: not prometheus.rule_errors(), 60, lambda: str(prometheus.rule_errors()))
        until(lambda: not prometheus.pending(), 60, lambda: str(prometheus.pending()))
        deliver = child_of(pid_of(up), "deliver")
        # Frozen, it does not answer: its series end, and the others go on.
        os.kill(deliver, signal.SIGSTOP)
        try:
            down = ("ScormWebhooksStageDown", "deliver")
            until(lambda: down in prometheus.pending(), 60, lambda: str(prometheus.pending()))
            assert {stage for _, stage in prometheus.pending()} <= {"deliver", ""}
        finally:
            os.kill(deliver, signal.SIGCONT)
        until(lambda: down not in prometheus.pending(), 60, lambda: str(prometheus.pending()))
    finally:
        prometheus.remove()


def test_up_delivers_and_names_waiting_deliveries_at_its_end(up: System, receiver: Receiver) -> None:
    account = up.run("accounts", "create", "Acme", "--json")["id"]
    up.run("webhooks", "create", "--account", account, "--url", receiver.url("/crm"), "--json")
    event = (
        f'{{"type":"package.updated","accountId":"{account}","createdAt":"2026-04-10T14:32:00Z",'
        '"data":{"packageId":"pkg_1","version":"2"}}'
    )
    [published] = up.run("events", "publish", "-", "--json", stdin=event)["events"]
    event_id = published["id"]
    assert published["webhooks"] == 1
    unknown = up.attempt("events", "publish", "-", stdin=event.replace(account, "acc_nobody"))
    assert unknown.returncode == 2
    assert "line 1: accountId: there is no account acc_nobody" in unknown.stderr
    until(lambda: receiver.ids("/crm") == [event_id], 30, "the event at the customer")
    of_account = ("--account", account, "--state", "delivered")
    until(lambda: up.run("deliveries", "list", *of_account, "--json"), 30, "recorded", 0.3)


def test_a_small_up_has_five_processes(tmp_path: Path, receiver: Receiver) -> None:
    env = {"SCORM_WEBHOOKS_LOG_FORMAT": "json"}
    with running_up(tmp_path, env, options=("--small",)) as (system, running):
        await_ready(system)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 5
        until(lambda: "Dashboard: " in (tmp_path / "up.out").read_text(), 10, "the addresses")
        assert re.match(r"Kafka: 127\.0\.0\.1:\d+  \(embedded", (tmp_path / "up.out").read_text())
        account = system.account()
        webhook = system.webhook(account, receiver.url("/crm"))["id"]
        system.run("events", "publish", "-", stdin=updated(account, 1))
        until(lambda: receiver.ids("/crm") == ["evt_1"], 30, "the event at the customer")
        # A job of `maintain`, and a release by `publish`.
        until(lambda: system.run("deliveries", "list", "--state", "delivered", "--json"), 30, "recorded", 0.3)
        system.run("deliveries", "replay", webhook, "--since", "2026-04-10T14:32:00Z", "--yes", "--json")
        until(lambda: receiver.ids("/crm") == ["evt_1", "evt_1"], 30, "sent again")
    drained = {line["stage"] for line in log_events_of(tmp_path) if line["event"] == "drained"}
    assert drained == set(STAGES)


def test_the_start_on_a_terminal_is_some_lines_and_links(tmp_path: Path) -> None:
    with up_on_a_terminal(tmp_path, {}) as printed:
        until(lambda: "/sign-in/" in printed(), 90, printed)
        lines = [line for line in printed().splitlines() if not line.startswith("Not ready yet: ")]
        begins = [
            "Starting every stage",
            "",
            "",
            "Kafka: 127.0.0.1:",
            "API: http://",
            "Dashboard: ",
            "A customer: ",
            "Sign in once",
        ]
        assert [line[: len(begin)] for line, begin in zip(lines, begins, strict=True)] == begins, lines
        warnings = " ".join(lines[1:3])
        assert "smtp_url_not_set" in warnings
        assert "public_url_not_set" in warnings


def test_up_continues_when_its_topics_exist(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix}
    with running_up(tmp_path, env) as (system, running):
        until(lambda: "run `scorm-webhooks topics apply`" in reasons(system), 60, every=0.3)
        # Each stage says what it lacks, once it has looked.
        until(lambda: f"{topic_prefix}deliveries.retry.1s" in reasons(system), 30, lambda: reasons(system), every=0.3)
        system.run("topics", "apply")
        await_ready(system)
        assert running.poll() is None


def test_up_exits_with_2_for_a_misconfigured_stage(tmp_path: Path) -> None:
    done = System(tmp_path, {"SCORM_WEBHOOKS_API_HOST": "no such host"}).attempt("up")
    assert done.returncode == 2, done.stderr
    assert "SCORM_WEBHOOKS_API_HOST" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_up_is_ready_only_when_all_partitions_are_read(up: System, receiver: Receiver) -> None:
    account = up.account()
    up.webhook(account, receiver.url("/crm"))
    os.kill(child_of(pid_of(up), "deliver"), signal.SIGKILL)
    until(lambda: not is_ready(up), 10, "the kill is seen")
    await_ready(up, 30)
    up.run("events", "publish", "-", stdin="\n".join(updated(account, number) for number in range(20)))
    until(lambda: len(receiver.ids("/crm")) == 20, 5, "every event")


def test_a_new_webhook_gets_the_events_of_before(up: System, receiver: Receiver) -> None:
    account = up.account()
    up.webhook(account, receiver.url("/first"))
    up.run("events", "publish", "-", stdin="\n".join(updated(account, number) for number in range(5)))
    until(lambda: len(receiver.ids("/first")) == 5, 30, "the events at the first webhook")
    late = up.webhook(account, receiver.url("/late"))["id"]
    wanted = ("deliveries", "replay", late, "--since", "2026-04-10T14:32:00Z", "--backfill")
    asked = up.answer("n\n", *wanted)
    assert "5 events without a delivery; the topic has events since" in asked.stdout, asked.stderr
    assert receiver.ids("/late") == []
    job = up.run(*wanted, "--yes", "--json")
    assert (job["status"], job["backfill"]["added"], job["backfill"]["skipped"]) == ("finished", 5, 0)
    until(lambda: len(receiver.ids("/late")) == 5, 30, "the events at the late webhook")
    first, second = (dict(zip(receiver.ids(path), receiver.at(path), strict=True)) for path in ("/first", "/late"))
    assert {name: one.body for name, one in first.items()} == {name: one.body for name, one in second.items()}
    again = up.run(*wanted, "--state", "dead", "--yes", "--json")
    assert (again["done"], again["backfill"]["added"], again["backfill"]["skipped"]) == (0, 0, 5)
    assert len(receiver.ids("/first")) == 5


def test_a_second_up_in_a_directory_is_refused(up: System) -> None:
    second = up.attempt("up")
    assert second.returncode == 2
    assert second.stderr.strip().splitlines()[-1].startswith("error: SCORM_WEBHOOKS_DATA_DIR: another")


def test_an_invalid_record_is_listed_shown_and_replayed(up: System) -> None:
    broker = json.loads((up.folder / ".scorm-webhooks" / "broker.json").read_text())
    producer = Producer({"bootstrap.servers": broker["bootstrap"]})
    producer.produce("session-events", b"junk of e2e", b"k")
    assert producer.flush(20) == 0

    def junk() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = up.run("invalid", "list", "--topic", "session-events", "--json")
        return [row for row in rows if row["key"] == "k"]

    until(lambda: len(junk()) == 1, 30, "the record stored as invalid", 0.3)
    [row] = junk()
    assert up.run("invalid", "show", row["id"], "--raw") == "junk of e2e"
    shown = up.run("invalid", "show", row["id"], "--json")
    assert (shown["valueStart"], shown["error"]) == (b"junk of e2e".hex(), row["error"])
    assert up.run("invalid", "replay", row["id"]).strip() == "1 replayed"
    until(lambda: len(junk()) == 2, 30, "it is invalid again", 0.3)
    unknown = up.attempt("invalid", "show", "0-999999")
    assert unknown.returncode != 0
    assert "there is no invalid record 0-999999" in unknown.stderr


def test_a_stop_under_load_logs_no_error(tmp_path: Path, receiver: Receiver) -> None:
    receiver.responses["/crm"] = lambda request: 500 if request.number % 3 == 0 else 200
    with running_up(tmp_path, {"SCORM_WEBHOOKS_LOG_FORMAT": "json"}) as (system, _):
        await_ready(system)
        account = system.account()
        system.webhook(account, receiver.url("/crm"))
        system.run("events", "publish", "-", stdin="\n".join(updated(account, number) for number in range(500)))
        until(lambda: len(receiver.ids("/crm")) > 20, 30, "deliveries under way")
    log_events = log_events_of(tmp_path)
    expected = {"smtp_url_not_set", "public_url_not_set", "deliveries_end_with_broker"}
    assert [line for line in log_events if line["level"] != "info" and line["event"] not in expected] == []
    assert {line["stage"] for line in log_events if line["event"] == "stopped"} == set(STAGES)


def test_a_killed_up_knows_what_it_owed_and_the_erased(tmp_path: Path, receiver: Receiver) -> None:
    env = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "1h", "SCORM_WEBHOOKS_LOG_FORMAT": "json"}
    receiver.responses["/crm"] = lambda request: 500 if request.number == 1 else 200
    with running_up(tmp_path, env, signal.SIGKILL) as (system, _):
        await_ready(system)
        account = system.account()
        webhook = system.webhook(account, receiver.url("/crm"))["id"]
        system.run("events", "publish", "-", stdin=updated(account, 1))
        until(lambda: system.run("deliveries", "list", "--state", "waiting", "--json"), 30, "the retry waits", 0.3)
        assert system.run("learners", "erase", account, "ada", "--yes", "--json")["propagated"]
    (tmp_path / "up.log").unlink()
    # The embedded broker of the second start is empty: `publish` writes the erasures again.
    with running_up(tmp_path, env) as (system, _):
        await_ready(system)
        [line] = [line for line in log_events_of(tmp_path) if line["event"] == "deliveries_lost_with_broker"]
        assert line["deliveries"] == 1
        [job] = system.run("dead-letters", "retry", "--all", "--yes", "--reason", "broker_restarted", "--json")
        assert (job["status"], job["done"], job["failed"]) == ("finished", 1, 0)
        until(lambda: system.run("deliveries", "list", "--state", "delivered", "--json"), 30, "delivered", 0.3)
        for number, learner in ((2, "ada"), (3, "grace")):
            event = {
                **json.loads(updated(account, number)),
                "type": "session.launched",
                "data": {"sessionId": f"s-{number}", "packageId": "pkg_1", "learnerId": learner},
            }
            system.run("events", "publish", "-", stdin=json.dumps(event))
        receiver.wait_for("/crm", {"evt_1", "evt_3"}, 30)
        of_webhook = ("--webhook", webhook, "--state", "discarded", "--json")
        until(lambda: system.run("deliveries", "list", *of_webhook), 30, "the other is erased", 0.3)
        assert receiver.ids("/crm") == ["evt_1", "evt_1", "evt_3"]


def log_events_of(folder: Path) -> list[dict[str, Any]]:
    """The log lines of `up` and its stages."""
    return [json.loads(line) for line in (folder / "up.log").read_text().splitlines()]


def updated(account: str, number: int) -> str:
    """One line for `events publish`."""
    event = {
        "id": f"evt_{number}",
        "type": "package.updated",
        "accountId": account,
        "createdAt": "2026-04-10T14:32:00Z",
        "data": {"packageId": "pkg_1", "version": "2"},
    }
    return json.dumps(event)


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0])
def test_a_stop_during_the_start_logs_no_error(tmp_path: Path, seconds: float) -> None:
    # The moment of its start depends on the machine.
    with running_up(tmp_path, {"SCORM_WEBHOOKS_LOG_FORMAT": "json"}):
        started = time.monotonic()
        until(lambda: "embedded_broker_started" in (tmp_path / "up.log").read_text(), 30, "the first line")
        until(lambda: time.monotonic() > started + seconds)
    # On a fast machine `notify` has started, and tells what is not set.
    of_settings = {"smtp_url_not_set", "public_url_not_set"}
    assert {line["level"] for line in log_events_of(tmp_path) if line["event"] not in of_settings} == {"info"}
