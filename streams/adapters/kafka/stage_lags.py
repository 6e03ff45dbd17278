"""How many records the stages have not committed."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from streams.adapters.kafka.topics_admin import TopicsAdmin
from streams.adapters.threads import in_worker_thread
from streams.core.platform_stats import StageLag


class KafkaStageLags:
    """`StageLags` of Kafka. `groups` has the topics of each stage's consumer group, which is named after the stage.

    The admin client is made when a person asks first.
    """

    def __init__(self, new_admin: Callable[[], TopicsAdmin], groups: Mapping[str, Sequence[str]]) -> None:
        self._new_admin = new_admin
        self._groups = groups

    async def lags(self) -> Sequence[StageLag]:
        return await in_worker_thread(self._lags)

    def _lags(self) -> list[StageLag]:
        return [StageLag(group, self._admin.lag(group, topics)) for group, topics in self._groups.items()]

    @cached_property
    def _admin(self) -> TopicsAdmin:
        return self._new_admin()
