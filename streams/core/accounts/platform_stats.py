"""The figures of all accounts, for an operator."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from streams.core.accounts.account import Account
from streams.core.webhooks.webhook_stats import FailureStreak

NO_FAILURES = FailureStreak()


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """An account with its number of webhooks, and how many of them are paused."""

    account: Account
    webhooks: int
    paused: int


@dataclass(frozen=True, slots=True)
class WebhookProblem:
    """A webhook that fails, is paused by failures, or is slow. `mean_ms` is over the attempts of the last hours."""

    account_id: str
    account_name: str
    webhook_id: str
    name: str
    paused_at: datetime | None = None
    failure_streak: FailureStreak = NO_FAILURES
    mean_ms: float | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class StageLag:
    """The records that a stage has not committed yet, by topic."""

    stage: str
    topics: Mapping[str, int]

    @property
    def records(self) -> int:
        return sum(self.topics.values())
