"""Models of erased learners."""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from api.shared_models import Id, Input, Model, SearchText, Time
from streams.features.learners.service import ErasureResult
from streams.topics import TopicRetention


class LearnerToErase(Input):
    """A learner to erase."""

    learner_id: Annotated[
        SearchText, Field(description="The `learnerId` of the learner's events, exactly.", examples=["learner-42"])
    ]
    account_id: Annotated[Id | None, Field(description="An operator's key must name the account.")] = None
    count_only: Annotated[bool, Field(description="Only count the learner's deliveries; erase nothing.")] = False


class LearnerCount(Model):
    """How many deliveries of the learner's events there are."""

    deliveries: int


class ErasurePublication(StrEnum):
    """The state of an erasure."""

    RUNNING = "running"
    FINISHED = "finished"


class Erased(Model):
    """How many rows were erased or changed, by kind."""

    events: int
    deliveries: Annotated[int, Field(description="Their deliveries, which are never sent again.")]
    discarded: Annotated[int, Field(description="Those of the deliveries that were waiting, held or dead.")]
    attempts: Annotated[int, Field(description="Attempts, whose responses are gone.")]
    sessions: Annotated[int, Field(description="SCORM sessions, with their commit URLs.")]
    responses: Annotated[int, Field(description="Stored responses to requests with an `Idempotency-Key`.")]
    mails: Annotated[int, Field(description="Mails in which the id is masked.")]
    webhooks: Annotated[int, Field(description="Webhooks in whose last message the id is masked.")]
    audit_entries: Annotated[int, Field(description="Entries of the audit log in which the id is masked.")]


class TopicWithRecords(Model):
    """A topic that may still have records of the learner."""

    name: str
    retention_days: Annotated[float, Field(description="For so long the topic keeps a record.")]
    until: Annotated[
        Time,
        Field(description="When the records from before the erasure reach that age. Brokers delete whole segments."),
    ]


class ErasureDetails(Model):
    """An erasure. While it is `running` or not `propagated`, only poll it: there is nothing else to do."""

    id: str
    account_id: str
    status: ErasurePublication
    erased_at: Annotated[
        Time, Field(description="What happened until then is erased, whenever it arrives. What happens later is new.")
    ]
    finished_at: Time | None = None
    propagated: Annotated[
        bool,
        Field(description="Whether it is on the topic `erasures`: no request to an endpoint begins two seconds later."),
    ]
    erased: Erased
    topics: Annotated[list[TopicWithRecords], Field(description="What the topics still have, until their retention.")]


def erasure_of(result: ErasureResult, topics: Sequence[TopicRetention]) -> ErasureDetails:
    """An erasure, and the topics that still have records."""
    erasure = result.erasure
    return ErasureDetails.of(
        erasure,
        propagated=result.propagated,
        status=ErasurePublication.FINISHED if erasure.is_finished else ErasurePublication.RUNNING,
        topics=[
            TopicWithRecords.of(
                topic, retention_days=topic.retention / timedelta(days=1), until=erasure.erased_at + topic.retention
            )
            for topic in topics
        ],
    )
