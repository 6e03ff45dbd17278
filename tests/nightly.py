"""What `make test` leaves to `make nightly`: what has a stricter proof that stays, and unchanged folders."""

from functools import cache

import pytest
from changes import has_changed

CHAOS = "tests/chaos/test_chaos.py::test_scenario"
BENCH = "tests/benchmarks/test_experiments.py"
FLOODS = "tests/adversary/test_floods.py::test_a_flood_of_one_customer_fails_no_other"
OAUTH = "tests/contract/test_oauth.py"
PLAIN = "tests/browser/test_without_javascript.py"
UP_STANDSTILL = "tests/e2e/test_standstills.py::test_a_stage_that_stands_still_is_started_again"
STOP_AT_START = "tests/e2e/test_up.py::test_a_stop_during_the_start_logs_no_error"
EXCHANGE = "tests/contract/test_group_protocols.py::test_a_group_changes_its_protocol_member_by_member"

# A test, or a file, with one of its parameters or with all, by the proof that takes its place: a test that stays, or a
# scenario of chaos, which every third run plays, and each run whose commit touches its stage.
LEFT_OUT: dict[str, str] = {
    "tests/e2e/test_kills.py": f"{CHAOS}[kill-all]",
    "tests/e2e/test_bad_days.py::test_a_killed_broker_loses_nothing_and_is_logged_once": f"{CHAOS}[broker-kill]",
    "tests/e2e/test_bad_days.py::test_stages_stop_in_time_during_a_broker_outage": "tests/runtime/test_process.py",
    "tests/e2e/test_bad_days.py::test_events_are_delivered_during_a_database_outage": f"{CHAOS}[database-stop]",
    "tests/e2e/test_bad_days.py::test_sigterm_of_each_stage_loses_and_repeats_nothing": f"{CHAOS}[rolling-restart]",
    "tests/e2e/test_commits.py": f"{CHAOS}[kill-api]",
    "tests/e2e/test_usage.py": f"{CHAOS}[meter]",
    "tests/e2e/test_growing.py": f"{CHAOS}[partitions]",
    "tests/e2e/test_schedule.py": f"{CHAOS}[retry-schedule]",
    "tests/e2e/test_newer_record.py": f"{CHAOS}[upgrade]",
    # `up` starts each stage again alike; tests/contract has the standstill of every client.
    f"{UP_STANDSTILL}[deliver]": f"{UP_STANDSTILL}[fan-out-faust]",
    f"{UP_STANDSTILL}[librdkafka]": f"{UP_STANDSTILL}[fan-out-faust]",
    # In the middle of the start, most stages have begun and none has ended its own.
    f"{STOP_AT_START}[0.5]": f"{STOP_AT_START}[1.5]",
    f"{STOP_AT_START}[3.0]": f"{STOP_AT_START}[1.5]",
    # Each experiment runs by `make bench`; one short run shows that the parts fit together.
    f"{BENCH}::test_throughput_under_a_sustained_load": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_a_day_has_figures_for_kafka_and_rest": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_a_system_at_rest_has_a_cost": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_a_prediction_is_beside_what_was_measured": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_old_rows_are_deleted_while_others_are_stored": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_kills_count_each_repeated_event": f"{BENCH}::test_throughput_of_a_backlog",
    f"{BENCH}::test_each_protocol_has_the_cost_of_a_rebalance": f"{BENCH}::test_throughput_of_a_backlog",
    # What SQLite does otherwise than PostgreSQL is in tests/contract; PostgreSQL refuses more.
    "tests/rest/test_fuzz.py[sqlite]": "tests/rest/test_fuzz.py[postgresql]",
    # `up` has one member in each group: rebalances on the embedded broker are not its life.
    "tests/contract/test_faust.py[embedded]": "tests/contract/test_faust.py[apache]",
    "tests/contract/test_event_consumers.py[embedded]": "tests/contract/test_event_consumers.py[apache]",
    "tests/contract/test_record_consumer.py[embedded]": "tests/contract/test_record_consumer.py[apache]",
    # A short form shows the end of one token, and tests of the token source show each failure.
    f"{OAUTH}::test_many_tokens_end_under_load": f"{OAUTH}::test_tokens_end_under_load_and_nothing_is_lost",
    f"{OAUTH}::test_clients_wait_while_the_token_endpoint_is_away": "tests/adapters/test_tokens.py",
    # Kafka 3.9 and a forced choice are as Kafka 3.7: no KIP-848.
    "tests/contract/test_record_consumer.py[apache_3_9]": "tests/contract/test_record_consumer.py[apache_3_7]",
    "tests/contract/test_record_consumer.py[classic]": "tests/contract/test_record_consumer.py[apache_3_7]",
    f"{EXCHANGE}[consumer]": f"{EXCHANGE}[auto]",
    "tests/contract/test_standstills.py[classic]": "tests/contract/test_standstills.py[auto]",
    # What comes before a key is checked touches no broker.
    "tests/adversary/test_without_a_key.py[clustered]": "tests/adversary/test_without_a_key.py[embedded]",
    # Each of these files would start both systems; the code that it tests is the same on both.
    "tests/adversary/test_with_a_key.py[embedded]": "tests/adversary/test_with_a_key.py[clustered]",
    "tests/adversary/test_cli.py[embedded]": "tests/adversary/test_cli.py[clustered]",
    "tests/adversary/test_endpoints.py[embedded]": "tests/adversary/test_endpoints.py[clustered]",
    "tests/adversary/test_roles.py[embedded]": "tests/adversary/test_roles.py[clustered]",
    # `api` and `up` serve by uvloop; asyncio's own loop is for platforms that have none.
    "tests/rest/test_connections.py[asyncio]": "tests/rest/test_connections.py[uvloop]",
}
# One flood of each class of requests stays, and that of unknown clients.
LEFT_OUT |= {
    f"{FLOODS}[{name}]": f"{FLOODS}[{proof}]"
    for name, proof in {
        "erasures": "searches",
        "registrations": "changes",
        "pages": "backfills",
        "sessions": "a_class",
        "events": "commits",
        "tests": "searches",
    }.items()
}
# SQLite has one writer, so its waits are those of a busy machine; PostgreSQL is what many customers share.
LEFT_OUT |= {"tests/adversary/test_floods.py[embedded]": "tests/adversary/test_floods.py[clustered]"}

# A browser without scripts: three stories stay, and tests of tests/dashboard post each form in their own process.
_FORMS = {
    "a_secret_is_revealed_and_rotated": "webhook_pages.the_secret_is_shown_on_demand_and_rotated_in_two_steps",
    "a_reload_rotates_no_second_time": "webhook_pages.a_form_that_is_sent_twice_acts_once",
    "a_reload_makes_no_second_key": "webhook_pages.a_key_is_not_created_twice_by_one_form",
    "dead_letters_are_retried_and_discarded": "replay_pages.checked_dead_letters_are_previewed",
    "a_delivered_event_is_sent_again": "replay_pages.a_period_is_counted_confirmed_and_sent",
    "a_period_is_counted_sent_again_and_cancelled": "replay_pages.a_running_replay_is_named_and_cancelled",
    "any_id_finds_its_deliveries": "delivery_pages.any_id_finds_its_deliveries",
    "facets_narrow_a_list_and_chips_widen_it": "delivery_pages.facets_count_what_a_link_would_show",
    "keys_and_users_are_added_and_removed": "webhook_pages.keys_and_people_are_managed_by_owners",
    "a_learner_is_erased": "learner_pages.a_learner_is_erased_after_a_question",
    "times_are_shown_in_a_chosen_zone": "sign_in_pages.the_zone_of_times_is_chosen",
    "colours_are_those_of_the_choice": "delivery_pages.the_colours_are_chosen",
}
LEFT_OUT |= {
    f"{PLAIN}::test_{story}": "tests/dashboard/test_{}.py::test_{}".format(*proof.split("."))
    for story, proof in _FORMS.items()
}


REGISTRY = (
    "streams/adapters/avro",
    "streams/producer.py",
    "streams/stages/fan_out.py",
    "tests/real/registry.py",
    "tests/contract/test_schema_registry.py",
    "tests/e2e/test_schema_registry.py",
    "pyproject.toml",
    "requirements",
)
# Folders and files whose tests a run plays when one of these files has changed, which break them most often.
IF_CHANGED: dict[str, tuple[str, ...]] = {
    # A schema registry starts in three seconds, and a system in ten; tests/adapters has its REST API by a fake.
    "tests/contract/test_schema_registry.py": REGISTRY,
    "tests/e2e/test_schema_registry.py": REGISTRY,
    # Beside these files it is "kill-all" and "broker-kill" of chaos, which kill more.
    "tests/e2e/test_single_machine.py": (
        *("tests/e2e/test_single_machine.py", "tests/e2e/up.py", "deploy/systemd", "pyproject.toml", "requirements"),
        *("streams/runtime", "streams/cli", "streams/adapters/kafka", "streams/adapters/faust"),
    ),
    "tests/alerts/test_rules.py": ("tests/alerts", "deploy/helm/scorm-webhooks/files"),
    "tests/chart/test_options.py": ("tests/chart", "tools", "deploy/helm"),
    # What people see: pages, forms, and the players' courses.
    "tests/browser": (
        *("tests/browser", "api", "docs", "tools", "examples/course", "pyproject.toml", "requirements"),
        *("streams/features", "streams/core", "streams/adapters/sql", "streams/runtime"),
    ),
    # The receivers and producers of customers, which see bodies, signatures and records.
    "tests/examples": (
        *("tests/examples", "examples", "producer", "schemas", "pyproject.toml", "requirements"),
        *("streams/core/events", "streams/core/deliveries", "streams/core/webhooks", "streams/adapters/avro"),
        *("streams/adapters/kafka", "streams/adapters/http", "streams/demo", "streams/producer.py"),
        *("streams/testing.py", "streams/topics.py"),
    ),
    "tests/image": ("tests/image", "deploy/Dockerfile", ".dockerignore", "pyproject.toml", "requirements"),
}


def is_left_out(nodeid: str) -> bool:
    """Whether this run leaves this test to the night."""
    return _is_replaced(nodeid) or any(
        nodeid.startswith((f"{place}/", f"{place}::")) and not _has_changed(paths)
        for place, paths in IF_CHANGED.items()
    )


@cache
def _has_changed(paths: tuple[str, ...]) -> bool:
    return has_changed(*paths)


def _is_replaced(nodeid: str) -> bool:
    test, _, parameters = nodeid.removesuffix("]").partition("[")
    file = test.partition("::")[0]
    names = [test, file, *(f"{name}[{one}]" for name in (test, file) for one in parameters.split("-"))]
    return any(name in LEFT_OUT for name in names)


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what the nightly run plays, unless files or tests are named on the command line."""
    if config.getoption("--nightly") or list(config.args) != list(config.getini("testpaths")):
        return
    left_out = [item for item in items if is_left_out(item.nodeid)]
    items[:] = [item for item in items if not is_left_out(item.nodeid)]
    config.hook.pytest_deselected(items=left_out)
