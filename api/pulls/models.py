"""Models of pulls."""

from typing import Annotated

from pydantic import Field

from api.shared_models import Id, Input, Model, at_most
from streams.core.limits import (
    DEFAULT_LEASE_SECONDS,
    DEFAULT_PULL_ITEMS,
    MAX_ACKNOWLEDGED_IDS,
    MAX_LEASE_SECONDS,
    MAX_NACK_WAIT_SECONDS,
    MAX_PULL_ITEMS,
    MAX_PULL_WAIT_SECONDS,
)

DeliveryIds = Annotated[
    list[Id],
    Field(min_length=1, max_length=MAX_ACKNOWLEDGED_IDS, description="The `id` of each item."),
    at_most(MAX_ACKNOWLEDGED_IDS, "ids"),
]


class Pull(Input):
    """The maximum number of items, the length of the lease, and how long to wait for an item."""

    max: Annotated[int, Field(ge=1, le=MAX_PULL_ITEMS, description="Items, at most. Large ones may be fewer.")] = (
        DEFAULT_PULL_ITEMS
    )
    wait_seconds: Annotated[
        int, Field(ge=0, le=MAX_PULL_WAIT_SECONDS, description="How long to wait for the first item; 0: not at all.")
    ] = 0
    lease_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_LEASE_SECONDS,
            description="The time to acknowledge the items. After it, the next reader may pull them.",
        ),
    ] = DEFAULT_LEASE_SECONDS


class PulledItem(Model):
    """A delivery as a request would bring it: the signatures in `headers` are over the bytes of `body` in UTF-8."""

    id: Annotated[str, Field(description="The id of the delivery, for its acknowledgement.")]
    headers: dict[str, str]
    body: Annotated[str, Field(description="The exact text that is signed: verify it before you parse it.")]


class PulledItems(Model):
    """The items that this reader has now, oldest first."""

    items: list[PulledItem]


class PulledIds(Input):
    """The items that a reader has handled."""

    ids: DeliveryIds


class ReturnedIds(PulledIds):
    """The items that a reader gives back, and the wait before the next reader may pull them."""

    wait_seconds: Annotated[int, Field(ge=0, le=MAX_NACK_WAIT_SECONDS)] = 0


class Settled(Model):
    """The result for each id."""

    ids: Annotated[list[str], Field(description="Those that this request settled, or an earlier one like it.")]
    unknown: Annotated[
        list[str],
        Field(description="The others: never pulled from this webhook, erased, or dead letters by now."),
    ]
