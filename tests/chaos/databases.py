"""The database stops, or is restored from an older dump."""

import re
import time
from datetime import UTC, datetime, timedelta

from chaos.scenario import ScenarioRun
from e2e.operator import Operator
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
    """Restore an older dump: what came after it is read again, and what was deleted after it stays deleted.

    A webhook that failed and was enabled again after the dump stays enabled: old failures are read again.
    """
    healed = scenario_run.customer("healed", "breaks=1")
    idle = scenario_run.loaded.account()
    deleted = scenario_run.loaded.webhook(idle, f"{scenario_run.name}-deleted")
    operator, since = Operator(scenario_run.loaded.system), datetime.now(UTC) - timedelta(minutes=1)
    dump = operator.dump(scenario_run.loaded.folder / f"{scenario_run.name}.dump")
    scenario_run.loaded.webhook(idle, f"{scenario_run.name}-forgotten")
    scenario_run.loaded.system.run("webhooks", "delete", deleted, "--yes")
    break_and_heal(scenario_run, healed)
    recorded = scenario_run.supervisor.progress("record")
    until(lambda: scenario_run.supervisor.progress("record") > recorded + 100, 60, "records after the dump")
    recorded = scenario_run.supervisor.progress("record")

    began_at = time.time()
    for stage in ("publish", "maintain", "record"):
        assert scenario_run.supervisor.stop(stage) == 0
    scenario_run.loaded.system.stop_commands_api()
    # A member with a fixed name stays in its group for the time of a session.
    output = operator.restore_when_stopped(dump, since)
    for result in ("webhooks made after", "webhooks deleted after"):
        assert re.search(rf"^{result}.* 1$", output, re.MULTILINE), output
    scenario_run.supervisor.start("record", "publish", "maintain")
    scenario_run.await_progress("record", recorded, began_at)
    assert status_of(scenario_run, healed) == "active", "old failures have paused a webhook again"
    assert scenario_run.loaded.system.attempt("webhooks", "show", deleted).returncode == 1, "a deleted webhook is back"


def break_and_heal(scenario_run: ScenarioRun, webhook: str) -> None:
    """Let the endpoint fail until its webhook is paused; then repair it and enable the webhook."""
    broken = scenario_run.loaded.folder / "broken"
    broken.touch()
    until(lambda: status_of(scenario_run, webhook) == "paused", 60, "the webhook is paused")
    broken.unlink()
    # For a person it would send a test event too.
    scenario_run.loaded.system.run("webhooks", "enable", webhook, "--held", "deliver", "--json")


def status_of(scenario_run: ScenarioRun, webhook: str) -> str:
    return str(scenario_run.loaded.system.run("webhooks", "show", webhook, "--json")["status"])
