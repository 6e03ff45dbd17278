"""Plan and apply the topics of a deployment: create, extend, configure and remove."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from streams.adapters.kafka.admin.consumer_lag import consumer_lag, group_offsets
from streams.adapters.kafka.connection.config import without_consumer_properties
from streams.adapters.kafka.connection.connection_errors import ConnectionErrors, unreachable_error
from streams.adapters.kafka.connection.security import require_token
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.errors import Misconfigured, Unavailable
from streams.ports.kafka import Partition
from streams.topics import DELIVER_GROUP, DELIVERIES, Topic, tier_of

# The name of the embedded broker's clusters, which are librdkafka's mock.
EMBEDDED_CLUSTER = "mockCluster"
REQUEST_SECONDS = 10.0
POLL_SECONDS = 0.05
# Brokers that make hundreds of partitions, or are busy, show them late.
SHOWN_SECONDS = 60.0


class TopicAction(StrEnum):
    """An action that `apply` would take on a topic."""

    KEEP = "keep"
    CREATE = "create"
    GROW = "grow"
    CONFIGURE = "configure"
    RETIRED = "retired"
    REMOVE = "remove"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One change of a plan: the topic as declared, and the reason."""

    action: TopicAction
    topic: Topic
    message: str

    @property
    def is_pending(self) -> bool:
        return self.action not in (TopicAction.KEEP, TopicAction.RETIRED, TopicAction.REFUSE)

    @property
    def is_refused(self) -> bool:
        return self.action is TopicAction.REFUSE


class TopicsAdmin:
    """Plans and applies changes. Declared names get `prefix`. Raises `Unavailable` if no broker responds."""

    def __init__(self, properties: Mapping[str, Any], prefix: str) -> None:
        self._errors = ConnectionErrors()
        self._servers = str(properties["bootstrap.servers"])
        admin_properties = without_consumer_properties(properties)
        self._config: dict[str, Any] = {**admin_properties, "error_cb": self._errors, "logger": LIBRDKAFKA_LOGGER}
        self._prefix = prefix

    @cached_property
    def _admin(self) -> AdminClient:
        require_token(self._config)
        return AdminClient(self._config)

    def partition_counts(self, seconds: float = REQUEST_SECONDS) -> dict[str, int]:
        """The partition counts of the cluster's topics with our prefix, by name without the prefix."""
        return {
            name.removeprefix(self._prefix): len(topic.partitions)
            for name, topic in self._metadata(seconds).topics.items()
            if name.startswith(self._prefix)
        }

    def _metadata(self, seconds: float = REQUEST_SECONDS) -> ClusterMetadata:
        try:
            metadata = self._admin.list_topics(timeout=seconds)
        except KafkaException as error:
            self._admin.poll(0)  # calls the error callback
            raise unreachable_error(self._servers, self._errors.last_error or error.args[0]) from None
        self._errors.clear()
        return metadata

    def plan(self, declared_topics: Sequence[Topic], *, remove_retired: bool = False) -> list[TopicChange]:
        """The change for each declared topic and retired retry tier. Retired ones stay unless `remove_retired`."""
        existing = self.partition_counts()
        names = {topic.name for topic in declared_topics}
        retired_topics = {name: existing[name] for name in sorted(existing) if tier_of(name) and name not in names}
        lag_by_topic = self._lag_by_topic(retired_topics)
        family = next(topic for topic in declared_topics if topic.name == DELIVERIES)
        return self._compare(declared_topics, existing) + [
            _plan_retired(replace(family, name=name), partitions, lag_by_topic[name], remove_retired)
            for name, partitions in retired_topics.items()
        ]

    def apply(self, plan: Sequence[TopicChange], replication: int | None = None) -> None:
        """Apply a plan. Raises `Misconfigured` before the first change if a part of the plan is refused."""
        if refused_changes := [change for change in plan if change.is_refused]:
            raise Misconfigured("; ".join(f"{change.topic.name}: {change.message}" for change in refused_changes))
        replication_factor = replication or min(3, len(self._metadata().brokers))
        durable_config = {"min.insync.replicas": str(max(1, replication_factor - 1))}
        new_topics = [
            NewTopic(
                self._prefix + change.topic.name,
                num_partitions=change.topic.partitions,
                replication_factor=replication_factor,
                config={**change.topic.config, **durable_config},
            )
            for change in plan
            if change.action is TopicAction.CREATE
        ]
        new_partitions = [
            NewPartitions(self._prefix + change.topic.name, change.topic.partitions)
            for change in plan
            if change.action is TopicAction.GROW
        ]
        config_resources = [self._resource(change.topic) for change in plan if change.action is TopicAction.CONFIGURE]
        removed_names = [self._prefix + change.topic.name for change in plan if change.action is TopicAction.REMOVE]
        # Delete first, while the tier is least likely to have new records.
        _wait_for_all(self._admin.delete_topics(removed_names) if removed_names else {})
        _wait_for_all(self._admin.create_topics(new_topics) if new_topics else {})
        _wait_for_all(self._admin.create_partitions(new_partitions) if new_partitions else {})
        _wait_for_all(self._admin.incremental_alter_configs(config_resources) if config_resources else {})
        self._wait_until_shown([change for change in plan if change.is_pending])

    def _wait_until_shown(self, changes: Sequence[TopicChange]) -> None:
        """Wait until the brokers' metadata shows the controller's changes, because the next command relies on it."""
        deadline = time.monotonic() + SHOWN_SECONDS
        while not self._is_shown(changes):
            if time.monotonic() > deadline:
                raise Unavailable("the cluster took the changes, but its brokers do not show them yet")
            time.sleep(POLL_SECONDS)

    def _is_shown(self, changes: Sequence[TopicChange]) -> bool:
        try:
            existing = self.partition_counts()
            differences = self._compare(
                [change.topic for change in changes if change.action is not TopicAction.REMOVE], existing
            )
        except Unavailable:  # a broker does not know a new topic yet
            return False
        removed_topics = {change.topic.name for change in changes if change.action is TopicAction.REMOVE}
        return removed_topics.isdisjoint(existing) and not any(change.is_pending for change in differences)

    def incarnation(self, topic: str) -> str:
        """Identifies this topic among topics of the same name, made before or after it. Raises `Unavailable`."""
        cluster = str(self._metadata().cluster_id)
        if cluster.startswith(EMBEDDED_CLUSTER):
            # The embedded broker has no topic ids, and its topics are new at each start.
            return f"{cluster}/{self._servers}"
        [description] = self._admin.describe_topics(TopicCollection([self._prefix + topic])).values()
        try:
            return f"{cluster}/{description.result(REQUEST_SECONDS).topic_id}"
        except KafkaException as error:
            raise unreachable_error(self._servers, self._errors.last_error or error.args[0]) from None
        except TimeoutError:
            raise Unavailable("the broker does not answer") from None

    def offsets(self, group: str, topics: Iterable[str]) -> dict[Partition, GroupOffsets]:
        """How far a group has committed these topics. Raises `Unavailable`."""
        existing = self.partition_counts()
        counts = {self._prefix + name: existing[name] for name in topics if name in existing}
        committed_offsets = group_offsets(self._admin, self._config, self._prefix + group, counts, REQUEST_SECONDS)
        return {
            at._replace(topic=at.topic.removeprefix(self._prefix)): offsets for at, offsets in committed_offsets.items()
        }

    def _lag_by_topic(self, tiers: Mapping[str, int]) -> dict[str, int]:
        """The count of records that wait in each of these tiers. `tiers` has their partition counts."""
        topics = {self._prefix + name: partitions for name, partitions in tiers.items()}
        if not topics:
            return {}
        lags = consumer_lag(self._admin, self._config, self._prefix + DELIVER_GROUP, topics, REQUEST_SECONDS)
        return {name.removeprefix(self._prefix): count for name, count in lags.items()}

    def _compare(self, declared_topics: Sequence[Topic], existing: Mapping[str, int]) -> list[TopicChange]:
        configs = self._configs(topic.name for topic in declared_topics if topic.name in existing)
        return [_plan_topic(topic, existing.get(topic.name), configs.get(topic.name, {})) for topic in declared_topics]

    def _resource(self, topic: Topic) -> ConfigResource:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.config.items()
        ]
        return ConfigResource(ResourceType.TOPIC, self._prefix + topic.name, incremental_configs=entries)

    def _configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ResourceType.TOPIC, self._prefix + name) for name in names]
        if not resources:
            return {}
        try:
            return {
                resource.name.removeprefix(self._prefix): {name: entry.value for name, entry in future.result().items()}
                for resource, future in self._admin.describe_configs(resources).items()
            }
        except KafkaException as error:
            raise Unavailable(str(error.args[0].str())) from None


def _plan_topic(topic: Topic, partitions: int | None, config: Mapping[str, str]) -> TopicChange:
    if partitions is None:
        return TopicChange(TopicAction.CREATE, topic, f"{topic.partitions} partitions")
    if partitions > topic.partitions:
        message = (
            f"has {partitions} partitions, more than the {topic.partitions} in the settings; removing partitions "
            "would lose records: raise the setting"
        )
        return TopicChange(TopicAction.REFUSE, topic, message)
    if partitions < topic.partitions:
        return TopicChange(TopicAction.GROW, topic, f"from {partitions} to {topic.partitions} partitions")
    config_differences = [
        f"{name} {config.get(name)} → {value}" for name, value in topic.config.items() if config.get(name) != value
    ]
    if config_differences:
        return TopicChange(TopicAction.CONFIGURE, topic, ", ".join(config_differences))
    return TopicChange(TopicAction.KEEP, topic, f"{partitions} partitions")


def _plan_retired(topic: Topic, partitions: int, lag: int, remove: bool) -> TopicChange:
    records_left = "1 record still waits in it" if lag == 1 else f"{lag or 'no'} records still wait in it"
    if remove and lag:
        return TopicChange(TopicAction.REFUSE, topic, f"{records_left}; remove it when they are attempted")
    if remove:
        return TopicChange(TopicAction.REMOVE, topic, f"retired tier, {records_left}")
    if partitions < topic.partitions:
        return TopicChange(
            TopicAction.GROW,
            topic,
            f"retired tier, grows with its family to {topic.partitions} partitions; {records_left}",
        )
    return TopicChange(TopicAction.RETIRED, topic, f"no longer in the schedule, but still read; {records_left}")


def _wait_for_all(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        try:
            future.result(REQUEST_SECONDS)
        except TimeoutError:
            raise Unavailable("Kafka did not confirm the change in time; run the command again") from None
        except KafkaException as error:
            raise Misconfigured(f"the cluster rejected the change: {error.args[0].str()}") from None
