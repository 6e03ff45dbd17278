"""The checker finds each injected fault: a loss, an unexpected event, a repeat, a changed body."""

import ast
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chaos import checker
from chaos.checker import Delivery, Evidence, Receipt, Verdict, check
from real.postgres import Postgres

PATHS = {"/crm": "wh_crm", "/lms": "wh_lms"}
# Both webhooks want the first event, one of them the second.
WANTED = frozenset({("evt_1", "wh_crm"), ("evt_1", "wh_lms"), ("evt_2", "wh_crm")})


def receipt(event: str, path: str, **more: Any) -> Receipt:
    return Receipt(**{"path": path, "event": event, "attempt": 1, "sha": event, "status": 200, "at": 0.0, **more})


def row(event: str, webhook: str, state: str = "delivered") -> Delivery:
    return Delivery(f"{event}/{webhook}", event, webhook, state)


@pytest.fixture
def evidence() -> Evidence:
    """The evidence of a run without faults."""
    return Evidence(
        published=frozenset({"evt_1", "evt_2"}),
        acknowledged=frozenset({"evt_1", "evt_2"}),
        wanted=WANTED,
        paths=PATHS,
        receipts=[receipt("evt_1", "/crm"), receipt("evt_1", "/lms"), receipt("evt_2", "/crm")],
        deliveries=[row("evt_1", "wh_crm"), row("evt_1", "wh_lms"), row("evt_2", "wh_crm")],
        attempts=[("evt_1/wh_crm", 1, 1)],
    )


def test_a_run_without_a_fault_has_no_complaints(evidence: Evidence) -> None:
    verdict = check(evidence)
    assert (verdict.complaints(), verdict.lost, verdict.repeated) == ([], frozenset(), {})
    assert verdict.states == {"delivered": 3}


def lose_the_row(evidence: Evidence) -> Evidence:
    return replace(evidence, deliveries=evidence.deliveries[:-1])


def leave_it_waiting(evidence: Evidence) -> Evidence:
    return replace(evidence, deliveries=[*evidence.deliveries[:-1], row("evt_2", "wh_crm", "waiting")])


def never_send_it(evidence: Evidence) -> Evidence:
    return replace(evidence, receipts=evidence.receipts[:-1])


def only_fail_it(evidence: Evidence) -> Evidence:
    return replace(evidence, receipts=[*evidence.receipts[:-1], receipt("evt_2", "/crm", status=500)])


@pytest.mark.parametrize("inject", [lose_the_row, leave_it_waiting, never_send_it, only_fail_it])
def test_a_loss_is_found(evidence: Evidence, inject: Callable[[Evidence], Evidence]) -> None:
    verdict = check(inject(evidence))
    assert verdict.lost == {("evt_2", "wh_crm")}
    assert verdict.complaints()


def unknown_event(evidence: Evidence) -> Evidence:
    return replace(evidence, receipts=[*evidence.receipts, receipt("evt_3", "/crm")])


def unwanted_event(evidence: Evidence) -> Evidence:
    return replace(evidence, receipts=[*evidence.receipts, receipt("evt_2", "/lms")])


def unknown_path(evidence: Evidence) -> Evidence:
    return replace(evidence, receipts=[*evidence.receipts, receipt("evt_2", "/elsewhere")])


def unwanted_row(evidence: Evidence) -> Evidence:
    return replace(evidence, deliveries=[*evidence.deliveries, row("evt_2", "wh_lms", "held")])


def attempt_of_nothing(evidence: Evidence) -> Evidence:
    return replace(evidence, attempts=[*evidence.attempts, ("unknown", 1, 1)])


@pytest.mark.parametrize("inject", [unknown_event, unwanted_event, unknown_path, unwanted_row, attempt_of_nothing])
def test_an_unexpected_record_is_found(evidence: Evidence, inject: Callable[[Evidence], Evidence]) -> None:
    verdict = check(inject(evidence))
    assert len(verdict.unexpected) == 1
    assert verdict.complaints()


def test_a_repeat_is_counted_and_is_no_complaint(evidence: Evidence) -> None:
    again = [receipt("evt_1", "/crm"), receipt("evt_1", "/crm"), receipt("evt_1", "/lms", status=500)]
    verdict = check(replace(evidence, receipts=[*evidence.receipts, *again]))
    assert verdict.repeated == {("evt_1", "wh_crm"): 2}
    assert verdict.complaints() == []


def test_a_delivery_stored_twice_is_found(evidence: Evidence) -> None:
    duplicate = Delivery("another id", "evt_1", "wh_crm", "dead")
    assert check(replace(evidence, deliveries=[*evidence.deliveries, duplicate])).stored_twice == {("evt_1", "wh_crm")}


def test_a_changed_body_is_found(evidence: Evidence) -> None:
    other = receipt("evt_1", "/lms", attempt=2, sha="other")
    assert check(replace(evidence, receipts=[*evidence.receipts, other])).altered == {"evt_1"}


def test_held_dead_and_discarded_are_final(evidence: Evidence) -> None:
    ended = [row("evt_1", "wh_crm", "held"), row("evt_1", "wh_lms", "dead"), row("evt_2", "wh_crm", "discarded")]
    verdict = check(replace(evidence, deliveries=ended, receipts=[]))
    assert verdict.complaints() == []
    assert verdict.states == {"held": 1, "dead": 1, "discarded": 1}


def test_an_unacknowledged_event_may_arrive_or_not(evidence: Evidence) -> None:
    unsure = replace(evidence, acknowledged=frozenset({"evt_1"}))
    assert check(unsure).complaints() == []
    gone = replace(unsure, deliveries=unsure.deliveries[:-1], receipts=unsure.receipts[:-1])
    assert check(gone).complaints() == []


def test_the_checker_reads_the_files_of_a_run(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE deliveries (id text, event_id text, webhook_id text, state text)")
        connection.execute("CREATE TABLE attempts (delivery_id text, generation int, number int)")
        connection.execute("INSERT INTO deliveries VALUES ('d', 'evt_1', 'wh_crm', 'delivered')")
        connection.execute("INSERT INTO attempts VALUES ('d', 1, 1)")
    (tmp_path / "published").write_text("evt_1\n")
    (tmp_path / "acknowledged").write_text("evt_1\n")
    (tmp_path / "wanted").write_text("evt_1 wh_crm\n")
    (tmp_path / "paths").write_text("/crm wh_crm\n")
    line = '{"path": "/crm", "event": "evt_1", "attempt": 1, "sha": "x", "status": 204, "at": 1.5}\n'
    (tmp_path / "receipts").write_text(line)
    verdict: Verdict = check(checker.read(tmp_path, url))
    assert verdict.complaints() == []
    assert verdict.owed == {("evt_1", "wh_crm")}


def test_the_checker_does_not_import_the_product() -> None:
    tree = ast.parse(Path(checker.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} - sys.stdlib_module_names == {"psycopg"}
