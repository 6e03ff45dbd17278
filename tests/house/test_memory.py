"""Every table in memory has a bound, and a new one needs an entry here."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERS = {
    *("dict", "list", "set", "deque", "OrderedDict", "defaultdict", "Counter"),
    *("Queue", "WeakSet", "WeakKeyDictionary", "WeakValueDictionary", "TTLCache", "LRUCache"),
}
CACHES = {"cache", "lru_cache"}

FIXED = "as many as the code, the settings or the schema registry name"
PARTITIONS = "topics, partitions or members of this deployment"
OPEN = "the records that PartitionConsumer holds: max_open, none larger than 64 KiB"
SLOTS = "the requests in flight and the queues for slots: OPEN"
WEBHOOKS = "all webhooks: each account has a limited number, and a limited size of them together (docs/capacity.md)"
CALLERS = "the requests in progress: the server limits its connections"
BATCH = "one batch"
COMPACTED = "the keys of a topic that only `publish` writes"
HASH_KEYS = "one for each restored database whose erasures are not forgotten"
TABLES = {
    "api/documentation/pages.py api_page_files": FIXED,
    "api/documentation/site.py BuiltSite._files": "the files of the built site",
    "api/documentation/site.py built_site": FIXED,
    "api/shell/assets.py assets": FIXED,
    "streams/adapters/avro/codec.py _fingerprint": "64 schemas",
    "streams/adapters/avro/codec.py AvroCodec._newest_schemas": FIXED,
    "streams/adapters/avro/codec.py AvroCodec._readers": FIXED,
    "streams/adapters/avro/codec.py AvroCodec._writers": FIXED,
    "streams/adapters/avro/confluent.py ConfluentCodec._writer_schemas": FIXED,
    "streams/adapters/avro/records.py _Shape._reads": FIXED,
    "streams/adapters/avro/records.py _Shape._writes": FIXED,
    "streams/adapters/avro/records.py _Shape.fields": FIXED,
    "streams/adapters/compact_subscriptions.py CompactSubscriptions._packed_webhooks": WEBHOOKS,
    "streams/adapters/compact_subscriptions.py _Cache": "MAX_CACHE_BYTES",
    "streams/adapters/compact_subscriptions.py _Cache._older": "MAX_CACHE_BYTES",
    "streams/stages/consuming/read_ahead.py ReadAhead.handled": "MAX_READ_AHEAD_EVENTS and MAX_READ_AHEAD_BYTES",
    "streams/stages/consuming/read_ahead.py ReadAhead._partitions": "MAX_READ_AHEAD_EVENTS and MAX_READ_AHEAD_BYTES",
    "streams/features/usage/account_check.py AccountCheck._existing_ids": "MAX_EXISTING_IDS",
    "streams/stages/consuming/event_reader.py EventReader._assigned_partitions": PARTITIONS,
    "streams/features/course_sessions/player_states.py SqlPlayerStates._is_full": "MAX_REMEMBERED_ACCOUNTS",
    "streams/stages/postponed_work.py PostponedWork._failures": "MAX_POSTPONED_PER_KIND",
    "streams/testing.py FakeProducer.published": "what a test publishes",
    "streams/adapters/faust/client.py FaustClient._next_offsets": PARTITIONS,
    "streams/adapters/faust/client.py FaustClient._paused": PARTITIONS,
    "streams/adapters/faust/client.py FaustClient._unacknowledged": "MAX_READ_AHEAD_EVENTS, and what a second adds",
    "streams/adapters/http/batching.py BatchedWrites._pending": SLOTS,
    "streams/adapters/http/batching.py Deadlines._deadlines": SLOTS,
    "streams/adapters/http/idle_connections.py IdleConnections._connections": "max_connections of PostExchange",
    "streams/adapters/http/sender.py _tls_context": FIXED,
    "streams/adapters/kafka/consuming/consumer_thread.py ConsumerThread.commands": PARTITIONS,
    "streams/adapters/kafka/consuming/consumer_thread.py ConsumerThread.pending_commits": PARTITIONS,
    "streams/adapters/kafka/consuming/consumer_watchdog.py ConsumerWatchdog._reset_partitions": PARTITIONS,
    "streams/adapters/kafka/consuming/consumer_watchdog.py ConsumerWatchdog._last_positions": PARTITIONS,
    "streams/adapters/kafka/consuming/consumer_watchdog.py ConsumerWatchdog._unread_since": PARTITIONS,
    "streams/adapters/kafka/consuming/membership.py Membership._partitions": PARTITIONS,
    "streams/adapters/kafka/consuming/messages.py _partition": "4096 partitions",
    "streams/adapters/kafka/producing/produce_outages.py ProduceOutages._topics": PARTITIONS,
    "streams/adapters/kafka/consuming/read_positions.py ReadPositions._lost": PARTITIONS,
    "streams/adapters/kafka/consuming/read_positions.py ReadPositions._next_offsets": PARTITIONS,
    "streams/adapters/kafka/consuming/read_positions.py ReadPositions._paused": PARTITIONS,
    "streams/adapters/kafka/producing/record_producer.py KafkaRecordProducer._pending": f"{CALLERS}; and {OPEN}",
    "streams/adapters/kafka/producing/record_producer.py _PendingCall.append_times": BATCH,
    "streams/adapters/kafka/producing/record_producer.py _PendingCall.reasons": BATCH,
    "streams/adapters/kafka/producing/record_producer.py _PendingCall.retries": BATCH,
    "streams/adapters/kafka/consuming/topics_watch.py TopicsWatch._absent_checks": PARTITIONS,
    "streams/adapters/kafka/consuming/topics_watch.py TopicsWatch._partition_counts": PARTITIONS,
    "streams/adapters/kafka/consuming/topics_watch.py TopicsWatch.missing_topics": PARTITIONS,
    "streams/adapters/sql/engine/bulk_insert.py statement": FIXED,
    "streams/adapters/sql/engine/rows.py _field_names": FIXED,
    "streams/adapters/sql/engine/schema_check.py revisions": FIXED,
    "streams/adapters/sql/engine/sqlite_file.py SqliteConnections._threads": "the connections of the pool",
    "streams/features/webhooks/stats_storage.py _SummaryParts.attempts": "the webhooks of one page or account",
    "streams/features/webhooks/stats_storage.py _SummaryParts.response_times": "the webhooks of one page or account",
    "streams/features/webhooks/stats_storage.py _SummaryParts.slowest_times_ms": "the kinds of outcomes",
    "streams/features/webhooks/stats_storage.py _SummaryParts.unfinished": "the webhooks of one page or account",
    "streams/core/deliveries/backlog.py LagClock._samples": "MAX_SAMPLES",
    "streams/core/queues/endpoint_queue.py EndpointQueue.first_attempts": SLOTS,
    "streams/core/queues/endpoint_queue.py EndpointQueue.in_flight": SLOTS,
    "streams/core/queues/endpoint_queue.py EndpointQueue.retries": SLOTS,
    "streams/core/queues/endpoint_queue.py EndpointQueue.slow_waiters": SLOTS,
    "streams/core/webhooks/health.py Fallbacks._failing": "MAX_FAILING_FALLBACKS",
    "streams/build.py build_version": FIXED,
    "streams/core/ids.py attempt_id": "8192 ids, each of ids of at most 128 characters",
    "streams/core/ids.py delivery_id": "8192 ids, each of ids of at most 128 characters",
    "streams/core/webhooks/network.py OwnNetwork._failed_webhooks": WEBHOOKS,
    "streams/core/webhooks/network.py OwnNetwork._newest_attempts": WEBHOOKS,
    "streams/adapters/lookups.py Lookups._addresses": "MAX_CACHED_NAMES",
    "streams/adapters/lookups.py Lookups._in_use": "LOOKUPS_AT_ONCE",
    "streams/adapters/lookups.py Lookups._tasks": "LOOKUPS_AT_ONCE",
    "streams/stages/access_tokens.py AccessTokens._renewing": "MAX_RENEWALS",
    "streams/stages/access_tokens.py AccessTokens._tokens": "MAX_TOKENS",
    "streams/core/queues/fair_queue.py FairQueue._queues": "MAX_READ_AHEAD_EVENTS, `max_open`, or requests",
    "streams/core/records/offset_tracker.py OffsetTracker._completed_offsets": OPEN,
    "streams/core/records/offset_tracker.py OffsetTracker._open_offsets": OPEN,
    "streams/core/queues/rate.py RateLimits._buckets": "MAX_BUCKETS",
    "streams/core/records/record_checks.py _tier_problem": "1000 names of tiers",
    "streams/core/deliveries/signing.py _key": "4096 secrets",
    "streams/core/queues/slots.py Slots._waiting_for_rates": "the accounts with waiters",
    "streams/stages/consuming/partition_state.py PartitionState.waiting": "its open records",
    "streams/core/queues/slots.py Slots._blocked": "an entry for each queue with a rate",
    "streams/core/queues/slots.py Slots._account_requests": SLOTS,
    "streams/core/queues/slow_slots.py SlowSlots._accounts": SLOTS,
    "streams/core/queues/slow_slots.py SlowSlots._without": SLOTS,
    "streams/core/queues/slow_slots.py SlowSlots.by_account": SLOTS,
    "streams/core/queues/slots.py Slots._waiting": FIXED,
    "streams/core/events/event_costs.py EventCosts._expected": "MAX_ACCOUNTS",
    "streams/stages/consuming/event_reader.py EventBatch.records": "LARGE_BATCH",
    "streams/core/queues/ready_queues.py ReadyQueues.by_account": SLOTS,
    "streams/core/queues/ready_queues.py ReadyQueues._turns": SLOTS,
    "streams/core/queues/slots.py Slots._by_age": SLOTS,
    "streams/core/queues/slots.py Slots._idle": "MAX_IDLE_QUEUES",
    "streams/core/queues/slots.py Slots._queues": "MAX_IDLE_QUEUES and those in use",
    "streams/core/queues/slots.py Slots._ready": FIXED,
    "streams/core/queues/slots.py Slots._rotation": FIXED,
    "streams/core/records/compacted_table.py CompactedTable.newer_release_ids": COMPACTED,
    "streams/core/records/compacted_table.py CompactedTable.outdated_ids": COMPACTED,
    "streams/core/erasures/erasures_table.py ErasuresTable._hash_keys": HASH_KEYS,
    "streams/core/erasures/erasures_table.py ErasuresTable._used_key_ids": HASH_KEYS,
    "streams/core/erasures/erasures_table.py ErasuresTable.ciphertexts": HASH_KEYS,
    "streams/core/webhooks/subscriptions_table.py SubscriptionsTable._accounts": WEBHOOKS,
    "streams/core/webhooks/subscriptions_table.py SubscriptionsTable._deleted_versions": "MAX_DELETIONS",
    "streams/core/webhooks/subscriptions_table.py _DictStore": WEBHOOKS,
    "streams/log_lines.py RepeatedLineFilter.seen": "MAX_LINE_KINDS",
    "streams/outage.py Outage._waiters": "the parts of this process",
    "streams/outage.py Outages._outages": FIXED,
    "streams/producer.py EventProducer._unacknowledged": "most_unacknowledged of the caller's own process",
    "streams/runtime/supervisor.py Supervisor.children": FIXED,
    "streams/features/accounts/access.py AccessService._key_cache": "MAX_REMEMBERED_KEYS",
    "streams/features/accounts/access.py AccessService._known_accounts": "MAX_REMEMBERED_KEYS",
    "streams/features/accounts/access.py AccessService._recent_keys": "MAX_REMEMBERED_KEYS",
    "streams/features/accounts/access.py AccessService._use_updates": "MAX_REMEMBERED_KEYS",
    "streams/features/events/recipients.py RecipientService._existing_accounts": "MAX_REMEMBERED_ACCOUNTS",
    "streams/fair_places.py FairPlaces._in_use": FIXED,
    "streams/fair_places.py FairPlaces._owners_in_use": CALLERS,
    "streams/fair_places.py FairPlaces._waiting": CALLERS,
    "streams/adapters/http_server/server.py Protocol.waiting_for_client": CALLERS,
    "streams/features/course_sessions/storage.py SqlCourseSessions._known_accounts": "MAX_KNOWN_TOKENS",
    "streams/features/invalid_records/service.py ReplayResult.failures": "the records that an operator replays",
    "streams/features/webhooks/outcome_watch.py OutcomeWatch._running_tests": "MAX_WAITING_TESTS_PER_ACCOUNT",
    "streams/features/webhooks/outcome_watch.py OutcomeWatch._futures": "MAX_WAITING_TESTS_PER_ACCOUNT",
    "streams/features/pulls/waits.py Waits._readers": "half of SCORM_WEBHOOKS_API_CONNECTIONS",
    "streams/features/pulls/waits.py Waits._allowed_at": "the webhooks of these readers",
    "streams/features/replays/backfill.py HistoryBackfill._paused_until": "MAX_UNFINISHED_JOBS_PER_ACCOUNT",
    "streams/stages/consuming/batch_consumer.py BatchConsumer._waiting_partitions": PARTITIONS,
    "streams/stages/consuming/batch_consumer.py BatchConsumer._next_offsets": PARTITIONS,
    "streams/stages/consuming/batch_consumer.py BatchConsumer._unopened_partitions": PARTITIONS,
    "streams/stages/consuming/deduplicator.py Deduplicator._in_progress": OPEN,
    "streams/stages/consuming/deduplicator.py Deduplicator._older_hashes": "`limit`: ids, and hashes of bodies",
    "streams/stages/consuming/deduplicator.py Deduplicator._recent_hashes": "`limit`: ids, and hashes of bodies",
    "streams/stages/consuming/partition_consumer.py PartitionConsumer._partitions": PARTITIONS,
    "streams/stages/consuming/partition_state.py PartitionState.not_due_records": "MAX_NOT_DUE_RECORDS",
    "streams/stages/consuming/partition_state.py PartitionState.pause_reasons": FIXED,
    "streams/stages/consuming/partition_state.py PartitionState.tasks": OPEN,
    "streams/stages/consuming/stored_offsets.py StoredOffsets._commits": PARTITIONS,
    "streams/stages/consuming/write_buffer.py _Queue.partitions": PARTITIONS,
    "streams/stages/consuming/write_buffer.py _Queue.entries": "MAX_BUFFERED_RECORDS and MAX_BUFFERED_BYTES",
    "streams/stages/limiting/slot_limiter.py SlotLimiter._waiting_slots": SLOTS,
    "streams/features/replays/stage.py _JobTurns._job_outages": "MAX_UNFINISHED_JOBS_PER_ACCOUNT",
    "streams/stages/publish.py Publish._live_ids": WEBHOOKS,
    "streams/stages/publish.py Publish._refused": WEBHOOKS,
    "streams/stages/release_held.py ReleaseHeld._webhooks": WEBHOOKS,
    "streams/stages/release_held.py _WebhookState.released_steps": "the size of its Room",
    "streams/telemetry.py PrometheusTelemetry._counts": FIXED,
    "streams/telemetry.py PrometheusTelemetry._histograms": FIXED,
    "streams/telemetry.py PrometheusTelemetry._levels": FIXED,
    "streams/telemetry.py PrometheusTelemetry._refreshes": FIXED,
    "streams/topics.py wait_of": "retry topics",
}


def name_of(expression: ast.AST) -> str:
    """`deque` of `collections.deque[str](…)`."""
    match expression:
        case ast.Call(function) | ast.Subscript(function):
            return name_of(function)
        case ast.Attribute(_, name) | ast.Name(name):
            return name
    return ""


def makes_table(value: ast.AST | None) -> bool:
    """Whether an expression makes a container that is empty, or computed."""
    match value:
        case ast.DictComp() | ast.ListComp() | ast.SetComp():
            return True
        case ast.Dict(keys=[]) | ast.List(elts=[]):
            return True
        case ast.IfExp(_, one, other):
            return makes_table(one) or makes_table(other)
        case ast.Lambda(_, body):
            return makes_table(body)
        case ast.Call(_, arguments, keywords):
            name = name_of(value)
            # Pydantic's is `Field`: a model is a value.
            factories = [one.value for one in keywords if name == "field" and one.arg == "default_factory"]
            # `dict(config)` copies what the caller has.
            is_copy = bool(arguments) and name in ("dict", "list", "set")
            made = name in CONTAINERS and not is_copy
            return made or any(makes_table(one) or name_of(one) in CONTAINERS for one in factories)
    return False


def tables_of(tree: ast.Module) -> Iterator[str]:
    """The attributes, fields, module variables and cached functions that can grow."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                if any(name_of(decorator) in CACHES for decorator in node.decorator_list):
                    yield name
            case ast.ClassDef(name):
                if any(name_of(base) in CONTAINERS for base in node.bases):
                    yield name
                # A frozen dataclass is a value.
                if not any("frozen=True" in ast.unparse(decorator) for decorator in node.decorator_list):
                    yield from (f"{name}.{target}" for target in targets_of(node.body))
                for part in node.body:
                    if isinstance(part, ast.FunctionDef) and part.name in ("__init__", "__post_init__"):
                        yield from (
                            f"{name}.{target[5:]}" for target in targets_of(ast.walk(part)) if "self." in target
                        )
    constants = ast.DictComp | ast.ListComp | ast.SetComp
    yield from targets_of(one for one in tree.body if not isinstance(getattr(one, "value", None), constants))


def targets_of(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What gets a container by one of these statements."""
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and makes_table(node.value):
            yield from map(ast.unparse, node.targets if isinstance(node, ast.Assign) else [node.target])


def found() -> set[str]:
    files = (path for folder in ("streams", "api") for path in sorted((ROOT / folder).rglob("*.py")))
    # A command of the CLI and the demo end soon.
    lasting = (path for path in files if not {"cli", "demo", "migrations"} & set(path.relative_to(ROOT).parts))
    return {f"{path.relative_to(ROOT)} {table}" for path in lasting for table in tables_of(ast.parse(path.read_text()))}


def test_every_table_in_memory_has_a_bound() -> None:
    assert found() == set(TABLES)


def test_a_new_table_is_noticed() -> None:
    source = """
class Lasting:
    def __init__(self):
        self.a: dict[str, bytes] = {}
        self.b = OrderedDict[str, int]()
        self.c = collections.deque(maxlen=3) if self.a else None
        self.d = defaultdict(list)
        self.config = dict(config)
        self.fixed = {"a": 1}
@dataclass(slots=True)
class State:
    e: set[str] = field(default_factory=set)
    f: dict[str, int] = field(default_factory=lambda: {})
@dataclass(frozen=True)
class Value:
    fixed: list[str] = field(default_factory=list)
g = {}
class Cache(dict[str, int]): ...
@functools.lru_cache(10)
def h(text): ...
"""
    names = {"Lasting.a", "Lasting.b", "Lasting.c", "Lasting.d", "State.e", "State.f", "g", "Cache", "h"}
    assert set(tables_of(ast.parse(source))) == names
