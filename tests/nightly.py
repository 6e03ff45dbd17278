"""What `make test` leaves to `make nightly`: each with the stricter proof that stays."""

import pytest

CHAOS = "tests/chaos/test_chaos.py::test_scenario"

# A test, or a file, by the proof that takes its place: a test that stays, or a scenario of chaos, which every third run
# plays, and each run whose commit touches its stage.
LEFT_OUT: dict[str, str] = {
    "tests/e2e/test_kills.py": f"{CHAOS}[kill-all]",
    "tests/e2e/test_bad_days.py::test_a_killed_broker_loses_nothing_and_is_logged_once": f"{CHAOS}[broker-kill]",
    "tests/e2e/test_bad_days.py::test_events_are_delivered_during_a_database_outage": f"{CHAOS}[database-stop]",
    "tests/e2e/test_bad_days.py::test_sigterm_of_each_stage_loses_and_repeats_nothing": f"{CHAOS}[rolling-restart]",
    "tests/e2e/test_commits.py": f"{CHAOS}[kill-api]",
    "tests/e2e/test_usage.py": f"{CHAOS}[meter]",
    "tests/e2e/test_growing.py": f"{CHAOS}[partitions]",
    "tests/e2e/test_schedule.py": f"{CHAOS}[retry-schedule]",
    "tests/e2e/test_newer_record.py": f"{CHAOS}[upgrade]",
}


def is_left_out(nodeid: str) -> bool:
    """Whether only the nightly run plays this test."""
    test = nodeid.partition("[")[0]
    return test in LEFT_OUT or test.partition("::")[0] in LEFT_OUT


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what the nightly run plays, unless files or tests are named on the command line."""
    if config.getoption("--nightly") or list(config.args) != list(config.getini("testpaths")):
        return
    left_out = [item for item in items if is_left_out(item.nodeid)]
    items[:] = [item for item in items if not is_left_out(item.nodeid)]
    config.hook.pytest_deselected(items=left_out)
