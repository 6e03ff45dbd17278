"""How far the stages have committed."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.threads import run_in_worker_thread
from streams.core.deliveries.backlog import GroupOffsets
from streams.ports.kafka import Partition


class KafkaGroupLags:
    """`GroupLags` of Kafka.

    `groups` has the topics of each stage's consumer group, which is named after the stage.
    The admin client is made at the first request.
    """

    def __init__(self, new_admin: Callable[[], TopicsAdmin], groups: Mapping[str, Sequence[str]]) -> None:
        self._new_admin = new_admin
        self._groups = groups

    async def offsets(self) -> Mapping[str, Mapping[Partition, GroupOffsets]]:
        return await run_in_worker_thread(self._offsets)

    def _offsets(self) -> dict[str, dict[Partition, GroupOffsets]]:
        return {group: self._admin.offsets(group, topics) for group, topics in self._groups.items()}

    @cached_property
    def _admin(self) -> TopicsAdmin:
        return self._new_admin()
