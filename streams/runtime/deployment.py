"""A deployment's settings, and the clients, codecs and stores that are made from them.

Imports within functions, here and in `startup` and `bootstrap`, save many megabytes of memory: `fan-out` runs without
SQLAlchemy and cryptography, `deliver` without SQLAlchemy and Faust.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scorm_webhooks_cli.local_key import local_key_path
from scorm_webhooks_cli.private_file import link_if_missing, write_private
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.avro.confluent import URL_VARIABLE as REGISTRY_URL
from streams.adapters.avro.confluent import ConfluentCodec, ConfluentRegistry, registry_properties
from streams.adapters.clock import SystemClock
from streams.adapters.kafka.admin.group_members import GroupMembers
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.kafka.compacted.erasure_history import KafkaErasureHistory
from streams.adapters.kafka.compacted.erasures_reader import ErasuresReader
from streams.adapters.kafka.compacted.subscriptions_reader import SubscriptionsReader
from streams.adapters.kafka.connection.config import (
    consumer_config,
    kafka_properties,
    producer_config,
    subscriptions_config,
)
from streams.adapters.kafka.connection.security import token_source
from streams.adapters.kafka.connection.tokens import TokenSource
from streams.adapters.kafka.consuming.consumer_watchdog import ConsumerWatchdog, GetPositions, NewWatchdog
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer
from streams.adapters.kafka.consuming.record_probe import RecordProbe
from streams.adapters.kafka.event_history import KafkaEventHistory
from streams.adapters.kafka.invalid_records import KafkaInvalidRecords
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.core.deliveries.schedule import Tier
from streams.core.errors import Misconfigured
from streams.outage import Outages
from streams.ports.delivery import ReplayLookup
from streams.ports.kafka import EventClient, EventCodec, EventHistory
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import ErasureHistory
from streams.runtime.fatal_errors import end_soon
from streams.secret_files import with_secrets
from streams.settings import Settings, find_broker, load_settings
from streams.topics import FAN_OUT_GROUP, SESSION_EVENTS, Topic, declare

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from streams.adapters.encryption import FernetEncryption
    from streams.adapters.sql.engine.database import Database

# All events and deliveries wait for these readers, which read few records.
COMPACTED_TOPIC_WATCHDOG_SECONDS = 15.0
# In the data directory, if there is no DATABASE_URL.
SQLITE_FILE_NAME = "scorm-webhooks.db"

AnyDeployment = TypeVar("AnyDeployment", bound="Deployment")


@dataclass(frozen=True)
class Deployment:
    """A deployment. Its parts are made on first use."""

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    # With an embedded broker, `up` runs one process of each stage, and no other process joins its groups.
    sole_member: bool = False
    # Other processes of `api` listen on the same port.
    shares_api_port: bool = False

    @classmethod
    def from_environment(cls: type[AnyDeployment], environ: Mapping[str, str] | None = None) -> AnyDeployment:
        """Read the settings. Raises `Misconfigured` for a setting that is unknown or wrong."""
        environ = with_secrets(os.environ if environ is None else environ)
        return cls(load_settings(environ), environ)

    # -- addresses and topics --------------------------------------------------------------------------------------

    @cached_property
    def kafka(self) -> dict[str, Any]:
        """librdkafka's properties for this deployment's broker."""
        return kafka_properties(find_broker(self.environ, self.settings))

    @property
    def token_source(self) -> TokenSource | None:
        """The source of the tokens of the Kafka clients. None if there are no clients, or no OAuth."""
        return token_source(self.kafka) if "kafka" in vars(self) else None

    @cached_property
    def database_address(self) -> str:
        """DATABASE_URL, or the URL of SQLite's file in the data directory."""
        if url := self.environ.get("DATABASE_URL"):
            return url
        return f"sqlite:///{self.make_data_dir().absolute()}/{SQLITE_FILE_NAME}"

    @property
    def has_system(self) -> bool:
        return bool(self.environ.get("DATABASE_URL")) or (self.settings.data_dir / SQLITE_FILE_NAME).exists()

    def require_system(self) -> None:
        """Raise `Misconfigured` if no system exists here: a command must not create a second, empty one."""
        if not self.has_system:
            folder = self.settings.data_dir.absolute()
            raise Misconfigured(
                f"SCORM_WEBHOOKS_DATA_DIR: {folder} has no system: go where one runs, set DATABASE_URL, or start "
                "`scorm-webhooks up` first (`scorm-webhooks db upgrade` makes an empty one)"
            )

    @cached_property
    def database_url(self) -> "URL":
        from streams.adapters.sql.engine.database import database_url

        return database_url(self.database_address)

    @cached_property
    def topics(self) -> list[Topic]:
        settings = self.settings
        return declare(settings.retry_schedule, settings.event_partitions, settings.delivery_partitions)

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return self.settings.retry_schedule.tiers

    @property
    def local_key_path(self) -> Path:
        return local_key_path(self.environ)

    def make_data_dir(self) -> Path:
        """Create the data directory. Raises `Misconfigured`."""
        try:
            self.settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"SCORM_WEBHOOKS_DATA_DIR: {self.settings.data_dir}: {error.strerror}") from None
        return self.settings.data_dir

    # -- adapters --------------------------------------------------------------------------------------------------

    @cached_property
    def codec(self) -> AvroCodec:
        return AvroCodec()

    @cached_property
    def event_codec(self) -> EventCodec:
        """The codec for events, which producers may write in Confluent's framing if there is a registry."""
        url = self.environ.get(REGISTRY_URL)
        is_confluent = self.settings.event_framing == "confluent"
        if not url:
            if is_confluent:
                raise Misconfigured(f"SCORM_WEBHOOKS_EVENT_FRAMING is confluent, but {REGISTRY_URL} is not set")
            return self.codec
        # The topic name strategy, unless the registry's owner chose another name.
        event_subject = self.settings.event_subject or f"{self.settings.topic_prefix}{SESSION_EVENTS}-value"
        subject = event_subject if is_confluent else None
        return ConfluentCodec(self.codec, ConfluentRegistry(url, registry_properties(self.environ)), subject)

    @cached_property
    def clock(self) -> Clock:
        return SystemClock()

    @cached_property
    def database(self) -> "Database":
        from streams.adapters.sql.engine.database import Database

        settings = self.settings
        return Database(self.database_url, settings.database_connections, behind_pooler=settings.is_behind_pooler)

    @cached_property
    def encryption(self) -> "FernetEncryption":
        from streams.adapters.encryption import FernetEncryption

        keys = [key.get_secret_value() for key in self.settings.encryption_keys]
        if keys:
            return FernetEncryption(keys)
        if not self.database_address.startswith("sqlite"):
            raise Misconfigured(
                "SCORM_WEBHOOKS_ENCRYPTION_KEYS is not set: the secrets of webhooks need a key; "
                "`scorm-webhooks keys generate` makes one"
            )
        return FernetEncryption([self._embedded_key()])

    def _embedded_key(self) -> str:
        """The key of an embedded deployment, which the first process makes."""
        from streams.adapters.encryption import generate_key

        path = self.make_data_dir() / "encryption.key"
        try:
            if not path.exists():
                write_private(path, generate_key(), link_if_missing)
            return path.read_text().strip()
        except OSError as error:
            raise Misconfigured(f"SCORM_WEBHOOKS_DATA_DIR: {path}: {error.strerror}") from None

    def schema_problem(self) -> str | None:
        """Why the database does not fit this version. None if it does.

        Raises `Unavailable`, and `Misconfigured` for a pooler that the settings do not name.
        """
        from streams.adapters.sql.engine.pooler import SessionsDiffer, check_pooler_setting
        from streams.adapters.sql.engine.schema_check import SchemaDiffers, require_schema

        try:
            require_schema(self.database_url)
            check_pooler_setting(self.database_url, self.settings.is_behind_pooler)
        except (SchemaDiffers, SessionsDiffer) as error:
            return str(error)
        return None

    def event_client(self, telemetry: Telemetry) -> EventClient:
        """The client that `fan-out` reads with."""
        settings = self.settings
        if settings.fan_out_consumer == "librdkafka":
            return self.consumer(FAN_OUT_GROUP, [SESSION_EVENTS], telemetry)
        from streams.adapters.faust.client import FaustClient

        return FaustClient(
            self.kafka,
            FAN_OUT_GROUP,
            SESSION_EVENTS,
            settings.topic_prefix,
            settings.instance_id,
            telemetry,
            watchdog=self._watchdog_factory(telemetry),
            gather_seconds=settings.latency_budget_ms / 1000,
        )

    def client_ids(self, group: str) -> Callable[[], Sequence[str]]:
        """A function that returns the client id of each member of a group. It raises `Unavailable`."""
        return GroupMembers(self.kafka, group).client_ids

    def replay_lookup(self, telemetry: Telemetry) -> ReplayLookup:
        """The look-up of replays for `deliver`. While the database is away, it finds none."""
        from streams.adapters.replay_lookup import replay_lookup

        return replay_lookup(self.database_address, self.outages(telemetry), self.settings.is_behind_pooler)

    def outages(self, telemetry: Telemetry) -> Outages:
        """The outages of this process. Its clients share them, so that each outage is logged once."""
        return self._outages.setdefault(id(telemetry), Outages(telemetry))

    @cached_property
    def _outages(self) -> dict[int, Outages]:
        return {}

    def stored_invalid_records(self) -> KafkaInvalidRecords:
        return KafkaInvalidRecords(self.kafka, self.settings.topic_prefix)

    def event_history(self) -> EventHistory:
        return KafkaEventHistory(self.kafka, self.settings.topic_prefix)

    def topics_admin(self) -> TopicsAdmin:
        return TopicsAdmin(self.kafka, self.settings.topic_prefix)

    def producer(self, telemetry: Telemetry, linger_ms: float = 0) -> KafkaRecordProducer:
        return KafkaRecordProducer(
            producer_config(self.kafka, linger_ms=linger_ms),
            self.settings.topic_prefix,
            telemetry,
            self.outages(telemetry),
        )

    def subscriptions_reader(
        self, telemetry: Telemetry, is_valid_check_text: Callable[[str], bool] = lambda ciphertext: True
    ) -> SubscriptionsReader:
        prefix = self.settings.topic_prefix
        return SubscriptionsReader(
            subscriptions_config(self.kafka),
            prefix,
            self.codec,
            telemetry,
            self.clock,
            self.outages(telemetry),
            is_valid_check_text,
            self._watchdog_factory(telemetry, COMPACTED_TOPIC_WATCHDOG_SECONDS),
        )

    def erasures_reader(self, telemetry: Telemetry) -> ErasuresReader:
        return ErasuresReader(
            subscriptions_config(self.kafka),
            self.settings.topic_prefix,
            telemetry,
            self.outages(telemetry),
            self.encryption.decrypt,
            self._watchdog_factory(telemetry, COMPACTED_TOPIC_WATCHDOG_SECONDS),
        )

    def erasure_history(self) -> ErasureHistory:
        return KafkaErasureHistory(self.kafka, self.settings.topic_prefix)

    def consumer(
        self, group: str, topics: Sequence[str], telemetry: Telemetry, *, in_bulk: bool = False
    ) -> KafkaRecordConsumer:
        """A member of a consumer group. With `in_bulk`, a fetch waits up to 0.1 s for more records."""
        prefix = self.settings.topic_prefix
        config = consumer_config(self.kafka, prefix + group, self.settings.instance_id, is_bulk=in_bulk)
        return KafkaRecordConsumer(
            config,
            topics,
            prefix,
            telemetry,
            self.outages(telemetry),
            is_sole_member=self.sole_member,
            watchdog=self._watchdog_factory(telemetry),
            protocol=self.settings.kafka_group_protocol,
        )

    def _watchdog_factory(self, telemetry: Telemetry, max_seconds: float = math.inf) -> NewWatchdog:
        """The factory of watchdogs. If a consumer stalls, the process exits soon, even if it cannot be closed."""
        probe, seconds = RecordProbe(self.kafka, self.settings.topic_prefix), self.settings.watchdog_seconds

        def make_watchdog(name: str, positions: GetPositions) -> ConsumerWatchdog:
            return ConsumerWatchdog(name, positions, probe, telemetry, min(seconds, max_seconds), end_soon)

        return make_watchdog
