"""The events that a receiver gets, as types. `make generated` writes this file.

A webhook with `fields` gets only these of `data`: then every field may be absent.
"""

from typing import Any, Literal, NotRequired, TypedDict

EVENT_TYPES = (
    "session.launched",
    "session.completed",
    "session.scored",
    "session.ended",
    "session.reset",
    "package.updated",
    "usage.threshold",
    "webhook.failing",
    "webhook.paused",
    "webhook.recovered",
    "webhook.deadletters",
    "webhook.secret.ending",
    "webhook.certificate.ending",
)


class _Event(TypedDict):
    id: str
    createdAt: str
    # Only in test events.
    test: NotRequired[bool]


class UnknownEvent(_Event):
    """An event of a type that is newer than this file."""

    type: str
    data: dict[str, Any]


class SessionLaunchedData(TypedDict):
    """A learner opened a SCORM session."""

    sessionId: str
    packageId: str
    dispatchId: NotRequired[str]
    learnerId: str
    sequence: NotRequired[int]
    metadata: NotRequired[dict[str, str]]


class SessionLaunched(_Event):
    """An event of the type `session.launched`."""

    type: Literal["session.launched"]
    data: SessionLaunchedData


class SessionCompletedData(TypedDict):
    """Completion became completed, or success became passed: each of the two once a session, both at the same time
    as one event. A session that was completed before it was passed has two.
    """

    sessionId: str
    packageId: str
    dispatchId: NotRequired[str]
    learnerId: str
    completionStatus: Literal["completed", "incomplete", "not attempted", "unknown"]
    successStatus: Literal["passed", "failed", "unknown"]
    scoreRaw: NotRequired[float]
    scoreMin: NotRequired[float]
    scoreMax: NotRequired[float]
    scoreScaled: NotRequired[float]
    totalTime: str
    previousCompletionStatus: NotRequired[Literal["completed", "incomplete", "not attempted", "unknown"]]
    previousSuccessStatus: NotRequired[Literal["passed", "failed", "unknown"]]
    sequence: NotRequired[int]
    metadata: NotRequired[dict[str, str]]


class SessionCompleted(_Event):
    """An event of the type `session.completed`."""

    type: Literal["session.completed"]
    data: SessionCompletedData


class SessionScoredData(TypedDict):
    """A score was recorded; it has a raw or a scaled value."""

    sessionId: str
    packageId: str
    dispatchId: NotRequired[str]
    learnerId: str
    scoreRaw: NotRequired[float]
    scoreMin: NotRequired[float]
    scoreMax: NotRequired[float]
    scoreScaled: NotRequired[float]
    sequence: NotRequired[int]
    metadata: NotRequired[dict[str, str]]


class SessionScored(_Event):
    """An event of the type `session.scored`."""

    type: Literal["session.scored"]
    data: SessionScoredData


class SessionEndedData(TypedDict):
    """A session that a player commits to was closed, or its commit URL ended. reported says how much is known. Only
    webhooks that name this type get it.
    """

    sessionId: str
    packageId: str
    dispatchId: NotRequired[str]
    learnerId: str
    reported: Literal["nothing", "partly", "completed"]
    completionStatus: Literal["completed", "incomplete", "not attempted", "unknown"]
    successStatus: Literal["passed", "failed", "unknown"]
    scoreRaw: NotRequired[float]
    scoreMin: NotRequired[float]
    scoreMax: NotRequired[float]
    scoreScaled: NotRequired[float]
    totalTime: NotRequired[str]
    lastCommitAt: NotRequired[str]
    sequence: NotRequired[int]
    metadata: NotRequired[dict[str, str]]


class SessionEnded(_Event):
    """An event of the type `session.ended`."""

    type: Literal["session.ended"]
    data: SessionEndedData


class SessionResetData(TypedDict):
    """A course took back that it was completed or passed. Only webhooks that name this type get it."""

    sessionId: str
    packageId: str
    dispatchId: NotRequired[str]
    learnerId: str
    completionStatus: Literal["completed", "incomplete", "not attempted", "unknown"]
    successStatus: Literal["passed", "failed", "unknown"]
    previousCompletionStatus: NotRequired[Literal["completed", "incomplete", "not attempted", "unknown"]]
    previousSuccessStatus: NotRequired[Literal["passed", "failed", "unknown"]]
    sequence: NotRequired[int]
    metadata: NotRequired[dict[str, str]]


class SessionReset(_Event):
    """An event of the type `session.reset`."""

    type: Literal["session.reset"]
    data: SessionResetData


class PackageUpdatedData(TypedDict):
    """A new version of a package was uploaded."""

    packageId: str
    version: str
    title: NotRequired[str]
    metadata: NotRequired[dict[str, str]]


class PackageUpdated(_Event):
    """An event of the type `package.updated`."""

    type: Literal["package.updated"]
    data: PackageUpdatedData


class UsageThresholdData(TypedDict):
    """The account's launches in a calendar month of UTC reached 80 or 100 percent of its plan limit."""

    period: str
    launches: int
    limit: int
    thresholdPercent: Literal[80, 100]


class UsageThreshold(_Event):
    """An event of the type `usage.threshold`."""

    type: Literal["usage.threshold"]
    data: UsageThresholdData


class WebhookFailingData(TypedDict):
    """Another webhook's requests have failed for five minutes."""

    webhookId: str
    url: NotRequired[str]
    failures: int
    since: str
    lastStatus: NotRequired[int]


class WebhookFailing(_Event):
    """An event of the type `webhook.failing`."""

    type: Literal["webhook.failing"]
    data: WebhookFailingData


class WebhookPausedData(TypedDict):
    """Another webhook was paused because its endpoint failed or responded with 410 (pausedHours 0), or has been
    paused for a day (24).
    """

    webhookId: str
    url: NotRequired[str]
    reason: Literal["failures", "gone"]
    pausedHours: Literal[0, 24]
    failures: NotRequired[int]
    pausedAt: str
    failingSince: NotRequired[str]
    lastStatus: NotRequired[int]


class WebhookPaused(_Event):
    """An event of the type `webhook.paused`."""

    type: Literal["webhook.paused"]
    data: WebhookPausedData


class WebhookRecoveredData(TypedDict):
    """Another webhook delivers again, after it was failing or paused."""

    webhookId: str
    url: NotRequired[str]
    since: str


class WebhookRecovered(_Event):
    """An event of the type `webhook.recovered`."""

    type: Literal["webhook.recovered"]
    data: WebhookRecoveredData


class WebhookDeadlettersData(TypedDict):
    """Another webhook has had dead letters for a day."""

    webhookId: str
    url: NotRequired[str]
    count: int
    since: str


class WebhookDeadletters(_Event):
    """An event of the type `webhook.deadletters`."""

    type: Literal["webhook.deadletters"]
    data: WebhookDeadlettersData


class WebhookSecretEndingData(TypedDict):
    """The old signing secret of another webhook ends within six hours."""

    webhookId: str
    url: NotRequired[str]
    until: str


class WebhookSecretEnding(_Event):
    """An event of the type `webhook.secret.ending`."""

    type: Literal["webhook.secret.ending"]
    data: WebhookSecretEndingData


class WebhookCertificateEndingData(TypedDict):
    """The certificate of another webhook's endpoint ends within 14 days."""

    webhookId: str
    url: NotRequired[str]
    until: str


class WebhookCertificateEnding(_Event):
    """An event of the type `webhook.certificate.ending`."""

    type: Literal["webhook.certificate.ending"]
    data: WebhookCertificateEndingData


KnownEvent = (
    SessionLaunched
    | SessionCompleted
    | SessionScored
    | SessionEnded
    | SessionReset
    | PackageUpdated
    | UsageThreshold
    | WebhookFailing
    | WebhookPaused
    | WebhookRecovered
    | WebhookDeadletters
    | WebhookSecretEnding
    | WebhookCertificateEnding
)
