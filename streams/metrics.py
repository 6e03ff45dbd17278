"""Every metric, declared once."""

from collections.abc import Iterable, Sequence

from streams.core.deliveries.delivery import DeathReason, HoldReason
from streams.core.deliveries.outcome import LEASE_KINDS, OutcomeKind
from streams.core.failed_work import WorkKind
from streams.core.webhooks.webhook import PauseReason
from streams.topics import RECORD_INPUTS, SESSION_EVENTS

NAMESPACE = "scorm_webhooks"
FAST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600, 21600)

COUNTERS: dict[str, tuple[str, Sequence[str]]] = {
    "events_total": ("Events fanned out, by type.", ["type"]),
    "events_unmatched_total": (
        "Events that no webhook receives, by reason: no_webhook, type, scope, filter, newcomer.",
        ["reason"],
    ),
    "events_of_unknown_accounts_total": (
        "Events of accounts that do not exist. They reach no webhook; counted by meter.",
        [],
    ),
    "deliveries_created_total": ("Deliveries written by fan-out.", []),
    "deliveries_held_total": ("Deliveries held, by reason.", ["reason"]),
    "deliveries_released_total": ("Held deliveries released, by the choice made for them.", ["choice"]),
    "dead_letters_total": ("Deliveries given up, by reason.", ["reason"]),
    "attempts_total": ("Attempts made, by outcome.", ["outcome"]),
    "leases_total": ("Leases of pulled deliveries that have ended, by outcome.", ["outcome"]),
    "attempts_postponed_total": ("Attempts postponed because this machine lacks a resource. They do not count.", []),
    "duplicates_dropped_total": ("Delivery records that this process had handled before.", []),
    "conflicting_ids_total": (
        "Deliveries not made because their event's id belongs to another body; kept in session-events.invalid.",
        [],
    ),
    "retries_superseded_total": ("Retries that were not sent because a replay took their place.", []),
    "deliveries_erased_total": ("Delivery records that were not sent because their learner was erased.", []),
    "tests_expired_total": ("Test deliveries that were too old to be sent.", []),
    "usage_launches_total": ("Launches counted as usage.", []),
    "usage_duplicates_total": ("Launches that were counted before.", []),
    "usage_late_launches_total": ("Launches of a month that was closed, which are counted apart.", []),
    "outgoing_events_total": ("Events of our own, such as usage.threshold, sent to session-events.", []),
    "records_stored_total": ("Records stored in SQL.", []),
    "records_refused_total": ("Records that the database refused; stored without details.", []),
    "invalid_records_total": ("Records kept in session-events.invalid, by the topic they come from.", ["topic"]),
    "invalid_records_not_stored_total": (
        "Invalid records of which Kafka does not take even the start, by the topic they are in.",
        ["topic"],
    ),
    "webhooks_paused_total": ("Webhooks paused automatically, by reason.", ["reason"]),
    "webhooks_published_total": ("Webhooks written to subscriptions.", []),
    "subscriptions_invalid_total": ("Records of subscriptions that could not be read.", []),
    "erasures_published_total": ("Erasures of learners written to erasures.", []),
    "erasures_invalid_total": ("Records of erasures that could not be read.", []),
    "mails_total": ("Mails by outcome: sent, again, given_up, not_sent (no mail server).", ["outcome"]),
    "oidc_sign_ins_total": (
        "Sign-ins by OpenID Connect, by outcome: signed_in, refused, failed (the provider).",
        ["outcome"],
    ),
    "work_failed_total": ("Work that failed at what its row holds, and is tried again, by kind.", ["kind"]),
    "rows_pruned_total": ("Rows deleted at the end of their retention, by kind.", ["kind"]),
    "api_requests_total": ("Requests to the API, by method, route and status.", ["method", "route", "status"]),
    "api_connections_closed_total": ("Connections to the API that a limit closed, by reason.", ["reason"]),
    "api_requests_without_place_total": (
        "Requests refused with 429, because their account has enough requests in progress; by class.",
        ["request_class"],
    ),
    "produce_errors_total": ("Records that had to be produced again.", []),
    "commit_errors_total": ("Commits of offsets that Kafka did not take. What is not committed is read again.", []),
    "rebalances_total": ("Assignments of partitions to this process.", []),
}
# Counters whose one label has known values. They start at 0: Prometheus sees no increase where a series begins.
KNOWN_VALUES: dict[str, Iterable[str]] = {
    "attempts_total": sorted(set(OutcomeKind) - LEASE_KINDS),
    "leases_total": (OutcomeKind.DELIVERED, *sorted(LEASE_KINDS)),
    "dead_letters_total": DeathReason,
    "deliveries_held_total": HoldReason,
    "webhooks_paused_total": [reason for reason in PauseReason if reason.is_automatic],
    "mails_total": ("sent", "again", "given_up", "not_sent"),
    "work_failed_total": WorkKind,
    "invalid_records_total": (SESSION_EVENTS, *RECORD_INPUTS),
    "invalid_records_not_stored_total": (SESSION_EVENTS, *RECORD_INPUTS),
    "api_connections_closed_total": (
        "bad_request",
        "headers_too_large",
        "too_large",
        "timeout",
        "too_many_connections",
        "slow_reader",
    ),
}
GAUGES: dict[str, tuple[str, Sequence[str]]] = {
    "build_info": ("1, with the release and the Python that it runs on.", ["version", "python"]),
    "ready": ("1 when this stage can work.", []),
    "publisher": ("1 in the process of publish that works.", []),
    "maintainer": (
        "1 in the process of maintain that works; it alone has the gauges of the whole deployment.",
        [],
    ),
    "webhooks": ("Webhooks by status: active, paused. Of the whole deployment.", ["status"]),
    "retries_waiting": ("Deliveries that wait for a retry, by tier. Of the whole deployment.", ["tier"]),
    "retries_overdue_seconds": ("How late the oldest retry is, by tier. Of the whole deployment.", ["tier"]),
    "held_deliveries": ("Held deliveries, by reason. Of the whole deployment.", ["reason"]),
    "held_deliveries_oldest_seconds": ("Age of the oldest of them, by reason.", ["reason"]),
    "undecided_dead_letters": ("Dead letters that nobody decided on, by reason. Of the whole deployment.", ["reason"]),
    "undecided_dead_letters_oldest_seconds": ("Age of the oldest of them, by reason.", ["reason"]),
    "group_lag_records": (
        "Records that a consumer group has not committed. Of the whole deployment.",
        ["group", "topic"],
    ),
    "group_lag_seconds": ("Age of the oldest of them, at most 15 seconds too long.", ["group", "topic"]),
    "retention_behind_seconds": (
        "How much older than its retention the oldest row is, by kind; 0 where retention keeps up.",
        ["kind"],
    ),
    "event_loop_lag_seconds": ("Longest delay of the event loop in the last 15 seconds.", []),
    "consumer_standstill_seconds": (
        "For how long a consumer has not read a record that another client reads, by consumer; normally 0.",
        ["consumer"],
    ),
    "clock_skew_seconds": ("This machine's clock minus the broker's, at the last sentinel.", []),
    "database_pool_size": ("Connections to the database that the pool of this process may open.", []),
    "database_connections": ("Connections of the pool to the database, by state: in_use, idle.", ["state"]),
    "api_connections": ("Open connections to the API.", []),
    "subscriptions_webhooks": ("Webhooks in this process's subscriptions table.", []),
    "erased_learners": ("Erased learners that this process knows from the topic erasures.", []),
    "records_open": ("Records that deliver handles at the moment.", []),
    "partitions_of_newer_release": ("Partitions that wait, because a newer release wrote their next record.", []),
    "own_network_down": ("1 while most endpoints are unreachable, which counts as an outage of our own network.", []),
    "slots_in_use": ("Slots in use, by class of endpoint: healthy, new, suspect, test.", ["endpoint_class"]),
    "slow_slots_in_use": ("Slow slots in use, by requests of more than a second.", []),
    "slots_waiting": ("Deliveries that wait for a slot in memory.", []),
    "deliver_overdue_seconds": (
        "How late the oldest delivery is that waits for a free slot of this process, not for its own endpoint.",
        [],
    ),
}
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "api_request_seconds": ("From a request to the API to its response.", FAST_BUCKETS),
    "attempt_seconds": ("From the start of an attempt to its outcome.", FAST_BUCKETS),
    "first_attempt_delay_seconds": (
        "From an event's append to the start of its first attempt, where it was not held.",
        SLOW_BUCKETS,
    ),
    "event_to_delivered_seconds": ("From an event's append to its delivery, retries included.", SLOW_BUCKETS),
}
