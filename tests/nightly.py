"""When each test is played: always, by a landing, or at night alone. Each entry of `NIGHT` has one word why."""

import pytest

DAY = ""

# A folder, a file, a test, or one of these with a parameter. The most precise entry decides: `DAY` brings back what
# an entry for more has left to the night.
NIGHT: dict[str, str] = {
    # The fake, PostgreSQL and today's Kafka are met by day; SQLite and the embedded broker by e2e, rest and dashboard.
    "tests/contract[sqlite]": "second store",
    "tests/contract[embedded]": "second store",
    "tests/contract[classic]": "old broker",
    "tests/contract[apache_3_7]": "old broker",
    "tests/contract[apache_3_9]": "old broker",
    "tests/contract/test_group_protocols.py": "old broker",
    "tests/contract/test_oauth.py": "slow",
    "tests/contract/test_schema_registry.py": "slow",
    "tests/contract/test_security.py": "slow",
    "tests/contract/test_standstills.py": "slow",
    # What kills, what stops a machine or a broker, what waits for minutes.
    "tests/e2e/test_acls.py": "slow",
    "tests/e2e/test_api_processes.py": "slow",
    "tests/e2e/test_bad_days.py": "slow",
    "tests/e2e/test_bursts.py": "slow",
    "tests/e2e/test_command_line.py::test_a_list_to_a_broken_output_is_one_line": "slow",
    "tests/e2e/test_command_line.py::test_ctrl_c_leaves_a_replay_running": "slow",
    "tests/e2e/test_command_line.py::test_without_kafka_a_command_says_why_in_one_line": "slow",
    "tests/e2e/test_commits.py": "slow",
    "tests/e2e/test_compose_story.py": "slow",
    "tests/e2e/test_delivery_rules.py::test_a_probe_that_succeeds_enables_a_webhook": "slow",
    "tests/e2e/test_delivery_rules.py::test_a_webhook_retries_by_its_own_schedule": "slow",
    "tests/e2e/test_delivery_rules.py::test_no_second_has_more_than_the_rate_and_the_burst": "slow",
    "tests/e2e/test_demo.py::test_the_demo_ends_cleanly_on_ctrl_c": "slow",
    "tests/e2e/test_documented.py": "slow",
    "tests/e2e/test_egress_proxy.py": "slow",
    "tests/e2e/test_erasure.py": "slow",
    "tests/e2e/test_erasure.py::test_an_erased_learner_is_gone_and_nothing_fires": DAY,
    "tests/e2e/test_growing.py": "slow",
    "tests/e2e/test_kills.py": "slow",
    "tests/e2e/test_metrics.py::test_maintain_exposes_what_waits_everywhere": "slow",
    "tests/e2e/test_metrics.py::test_the_lag_of_a_stage_that_stands_still_grows": "slow",
    "tests/e2e/test_newer_record.py": "slow",
    "tests/e2e/test_pooler.py": "slow",
    "tests/e2e/test_pulls.py": "slow",
    "tests/e2e/test_pulls.py::test_a_stop_of_the_api_sends_its_readers_away": DAY,
    "tests/e2e/test_pulls.py::test_what_waits_is_sent_when_the_webhook_has_a_url": DAY,
    "tests/e2e/test_replays.py": "slow",
    "tests/e2e/test_restore.py": "slow",
    "tests/e2e/test_run_stages.py::test_a_lost_lease_restarts_that_stage_alone": "slow",
    "tests/e2e/test_schedule.py": "slow",
    "tests/e2e/test_schema_registry.py": "slow",
    "tests/e2e/test_single_machine.py": "slow",
    "tests/e2e/test_standstills.py": "slow",
    "tests/e2e/test_start_pages.py": "slow",
    "tests/e2e/test_startup.py": "slow",
    "tests/e2e/test_startup.py::test_a_stage_without_kafka_is_live_and_says_why[deliver]": DAY,
    "tests/e2e/test_startup.py::test_a_wrong_setting_is_reported_before_the_wait": DAY,
    "tests/e2e/test_tiers.py": "slow",
    "tests/e2e/test_traces.py::test_without_a_collector_events_arrive_and_no_trace_leaves": "slow",
    "tests/e2e/test_up.py": "slow",
    "tests/e2e/test_up.py::test_a_second_up_in_a_directory_is_refused": DAY,
    "tests/e2e/test_up.py::test_an_invalid_record_is_listed_shown_and_replayed": DAY,
    "tests/e2e/test_up.py::test_the_port_of_up_counts_what_its_stages_do": DAY,
    "tests/e2e/test_up.py::test_up_delivers_and_names_waiting_deliveries_at_its_end": DAY,
    "tests/e2e/test_up.py::test_up_exits_with_2_for_a_misconfigured_stage": DAY,
    "tests/e2e/test_up.py::test_up_is_ready_only_when_all_partitions_are_read": DAY,
    "tests/e2e/test_usage.py": "slow",
    # Each page for each person: the story, the ten minutes and the main pages by day.
    "tests/browser": "slow",
    "tests/browser/test_story.py": DAY,
    "tests/browser/test_ten_minutes.py": DAY,
    "tests/browser/test_pages.py::test_a_page_is_accessible_and_fits_its_screen": DAY,
    "tests/examples": "slow",
    "tests/examples/test_crm.py": DAY,
    "tests/examples/test_receiver.py": DAY,
    "tests/examples/test_receiver.py::test_a_missing_setting_is_one_line": "slow",
    "tests/examples/test_receiver.py::test_a_wrong_setting_is_one_line": "slow",
    # A helm for each value: the defaults, each profile and the table of settings by day.
    "tests/chart": "slow",
    "tests/chart/test_document.py": DAY,
    "tests/chart/test_options.py::test_every_option_is_tried": DAY,
    "tests/chart/test_schema.py::test_the_schema_knows_every_value_and_no_other": DAY,
    "tests/chart/test_settings.py": DAY,
    "tests/chart/test_valid.py": DAY,
    "tests/image": "slow",
    "tests/benchmarks": "tool",
    "tests/test_client_package.py": "slow",
    "tests/test_producer_package.py": "slow",
    # A customer among others is on the clustered system by day.
    "tests/adversary[embedded]": "second store",
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only": "slow",
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[embedded]": "second store",
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[is_silent]": DAY,
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[sends_without_end]": DAY,
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[sends_a_gzip_bomb]": DAY,
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[closes_at_once]": DAY,
    "tests/adversary/test_endpoints.py::test_an_endpoint_affects_its_own_account_only[junk]": DAY,
    "tests/adversary/test_endpoints.py::test_healthy_endpoints_that_hang_do_not_keep_every_slot": "slow",
    "tests/adversary/test_floods.py": "slow",
    "tests/adversary/test_settings.py": "slow",
    "tests/adversary/test_silent_name_servers.py": "slow",
    "tests/adversary/test_stops.py": "slow",
    "tests/adversary/test_untrusted_producer.py::test_a_foreign_record_is_stored_as_invalid": "slow",
    "tests/adversary/test_untrusted_producer.py::test_a_foreign_record_is_stored_as_invalid[embedded]": "second store",
    "tests/adversary/test_untrusted_producer.py::test_a_foreign_record_is_stored_as_invalid[junk]": DAY,
    "tests/adversary/test_untrusted_producer.py::test_a_foreign_record_is_stored_as_invalid[nested]": DAY,
    "tests/adapters/test_compact_subscriptions.py::test_the_cache_counts_filters": "slow",
    "tests/adapters/test_compact_subscriptions.py::test_the_cache_takes_no_more_than_it_may": "slow",
    "tests/alerts/test_rules.py": "slow",
    "tests/real/test_code_samples.py::test_a_sample_verifies_requests[Go]": "slow",
    "tests/real/test_code_samples.py::test_a_sample_verifies_requests[Java]": "slow",
    "tests/real/test_code_samples.py::test_a_sample_verifies_requests[Ruby]": "slow",
    "tests/rest/test_accounts.py::test_an_account_has_100_active_keys_at_most": "slow",
    "tests/rest/test_accounts.py::test_an_account_has_200_users_at_most": "slow",
    "tests/rest/test_fuzz.py": "slow",
    "tests/rest/test_generated_clients.py": "slow",
    "tests/rest/test_generated_clients.py::test_an_example_is_never_a_default": DAY,
    "tests/rest/test_generated_clients.py::test_every_patch_body_is_a_changes_model": DAY,
    "tests/rest/test_generated_clients.py::test_no_field_of_a_change_has_a_default": DAY,
    "tests/rest/test_response_sizes.py": "slow",
    "tests/rest/test_response_sizes.py::test_every_get_route_is_in_the_list": DAY,
    "tests/rest/test_connections.py[asyncio]": "slow",
    "tests/rest/test_webhooks.py::test_a_list_of_the_largest_webhooks_stays_small": "slow",
    "tests/house/test_audit.py": "tool",
    "tests/house/test_capacity.py::test_the_accounts_of_the_page_fit_the_memory_of_the_chart": "slow",
    "tests/house/test_flaky.py": "tool",
    "tests/house/test_hanging.py": "tool",
    "tests/house/test_new_field.py": "tool",
    "tests/house/test_makefile.py": "tool",
    "tests/house/test_quick.py": "tool",
    "tests/house/test_seconds_by_kind.py": "tool",
    "tests/house/test_misconfiguration.py::test_each_stage_refuses_a_wrong_value_in_one_line": "slow",
    "tests/house/test_misconfiguration.py::test_each_stage_refuses_a_wrong_value_in_one_line[api]": DAY,
    "tests/house/test_misconfiguration.py::test_each_stage_refuses_a_wrong_value_in_one_line[deliver]": DAY,
    "tests/house/test_nights.py": "tool",
    "tests/house/test_site.py::test_a_bad_link_or_anchor_fails_the_build": "tool",
    "tests/house/test_site.py::test_the_parser_of_asyncapi_accepts_the_document": "slow",
    "tests/chaos/test_checker.py": "tool",
    "tests/chaos/test_soak.py": "tool",
    "tests/kube/test_harness.py": "tool",
    "tests/browser/test_harness.py": "tool",
}

# `make test` plays these of the tests that are not fast. `CI=true make test`, a landing, plays them all.
FIRST: tuple[str, ...] = (
    "tests/contract",
    "tests/e2e/test_story.py",
    "tests/examples/test_crm.py",
    "tests/browser/test_story.py",
)
NOT_FAST = ("real", "e2e", "slow")
# The entries that have decided about a test of this run.
USED: set[str] = set()


def entry_of(nodeid: str) -> str | None:
    """The entry of `NIGHT` that decides about a test."""
    test, _, parameters = nodeid.removesuffix("]").partition("[")
    file = test.partition("::")[0]
    places = [test, file]
    while "/" in places[-1]:
        places.append(places[-1].rpartition("/")[0])
    names = (name for place in places for name in (*(f"{place}[{one}]" for one in parameters.split("-")), place))
    return next((name for name in names if name in NIGHT), None)


def marks_of(item: pytest.Item) -> list[pytest.MarkDecorator]:
    """`night`, with its reason; or `landing`, which `make test` leaves out; or nothing."""
    entry = entry_of(item.nodeid)
    USED.update([entry] if entry else [])
    if entry and NIGHT[entry] != DAY:
        return [pytest.mark.night(NIGHT[entry])]
    is_fast = not any(item.get_closest_marker(mark) for mark in NOT_FAST)
    return [] if is_fast or item.nodeid.startswith(FIRST) else [pytest.mark.landing]
