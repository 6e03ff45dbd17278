"""The database stops, or is restored from an older dump."""

import subprocess
import time
from pathlib import Path

import parts
from chaos.scenario import ScenarioRun
from e2e.system import until


def stop(scenario_run: ScenarioRun, seconds: float) -> None:
    """Events are delivered without it, and recorded afterwards."""
    scenario_run.loaded.postgres.stop()
    began_at = time.time()
    until(lambda: not scenario_run.loaded.system.is_ready("record"), 30, "record is not ready")
    sent, recorded = scenario_run.supervisor.progress("deliver"), scenario_run.supervisor.progress("record")
    until(lambda: scenario_run.supervisor.progress("deliver") > sent + 100, 30, "deliveries without a database")
    scenario_run.hold_for(max(0, began_at + seconds - time.time()))
    scenario_run.loaded.postgres.start()
    scenario_run.await_progress("record", recorded, time.time())


def restore(scenario_run: ScenarioRun) -> None:
    """Restore an older dump: `record` reads again from the start, and the topic is reconciled.

    A webhook that failed and was enabled again after the dump stays enabled: old failures are read again.
    """
    healed = scenario_run.customer("healed", "breaks=1")
    young = scenario_run.loaded.account()
    dump = scenario_run.loaded.folder / f"{scenario_run.name}.dump"
    _run("pg_dump", "-Fc", "-f", dump, scenario_run.loaded.database_url)
    scenario_run.loaded.webhook(young, f"{scenario_run.name}-forgotten")
    break_and_heal(scenario_run, healed)
    recorded = scenario_run.supervisor.progress("record")
    until(lambda: scenario_run.supervisor.progress("record") > recorded + 100, 60, "records after the dump")
    recorded = scenario_run.supervisor.progress("record")

    began_at = time.time()
    for stage in ("publish", "maintain", "record"):
        assert scenario_run.supervisor.stop(stage) == 0
    _run("pg_restore", "--clean", "--if-exists", "-d", scenario_run.loaded.database_url, dump)
    read_again(scenario_run)
    output = scenario_run.loaded.system.run("publish", "--reconcile", "--yes")
    assert ", 1 deleted" in output, output
    scenario_run.supervisor.start("record", "publish", "maintain")
    scenario_run.await_progress("record", recorded, began_at)
    assert status_of(scenario_run, healed) == "active", "old failures have paused a webhook again"


def break_and_heal(scenario_run: ScenarioRun, webhook: str) -> None:
    """Let the endpoint fail until its webhook is paused; then repair it and enable the webhook."""
    broken = scenario_run.loaded.folder / "broken"
    broken.touch()
    until(lambda: status_of(scenario_run, webhook) == "paused", 60, "the webhook is paused")
    broken.unlink()
    scenario_run.loaded.system.run("webhooks", "enable", webhook, "--held", "deliver")


def status_of(scenario_run: ScenarioRun, webhook: str) -> str:
    return str(scenario_run.loaded.system.run("webhooks", "show", webhook, "--json")["status"])


def restore_with_deletions(scenario_run: ScenarioRun) -> None:
    """A webhook deleted after the dump is back and gets events, although the topic's tombstone is newer."""
    account, run = scenario_run.loaded.account(), scenario_run.loaded.system.run
    webhook = scenario_run.loaded.webhook(account, f"{scenario_run.name}-back")
    dump = scenario_run.loaded.folder / f"{scenario_run.name}.dump"
    _run("pg_dump", "-Fc", "-f", dump, scenario_run.loaded.database_url)
    run("webhooks", "delete", webhook, "--yes")
    until(scenario_run.loaded.system.has_published, 60, "the tombstone")
    recorded, began_at = scenario_run.supervisor.progress("record"), time.time()
    until(lambda: scenario_run.supervisor.progress("record") > recorded + 100, 60, "work after the deletion")
    for stage in ("publish", "maintain", "record"):
        assert scenario_run.supervisor.stop(stage) == 0
    _run("pg_restore", "--clean", "--if-exists", "-d", scenario_run.loaded.database_url, dump)
    read_again(scenario_run)
    run("publish", "--reconcile", "--yes")
    scenario_run.supervisor.start("record", "publish", "maintain")
    scenario_run.await_progress("record", 0, began_at)
    scenario_run.supervisor.wait_until_ready()
    scenario_run.add(account)
    until(
        lambda: scenario_run.loaded.system.states(webhook).get("delivered", 0) > 0,
        60,
        "events of the webhook that is back",
    )


def read_again(scenario_run: ScenarioRun) -> None:
    """Let `record` read all again. The broker refuses while the group has a static member."""
    command = ("topics", "rewind", "record", "--to", "2020-01-01T00:00:00Z", "--yes")
    until(lambda: scenario_run.loaded.system.attempt(*command).returncode == 0, 60, "record reads again")


def _run(program: str, *arguments: str | Path) -> None:
    folder = parts.postgres()
    assert folder
    done = subprocess.run([folder / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
