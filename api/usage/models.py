"""Models of usage."""

from typing import Annotated

from pydantic import Field

from api.shared_models import Model


class MonthOfUsage(Model):
    """The launches of an account in a calendar month of UTC."""

    month: Annotated[str, Field(examples=["2026-04"])]
    launches: int
    late_launches: Annotated[
        int,
        Field(
            description="Launches that arrived in this month, of a month that was closed: 35 days after its end. "
            "They are part of no month's `launches`."
        ),
    ] = 0


class UsageReport(Model):
    """The newest months first, including the current one."""

    plan_limit: Annotated[int | None, Field(description="Launches a month in the plan; absent for no limit.")] = None
    months: list[MonthOfUsage]
    state_bytes: Annotated[int, Field(description="What `keepState` keeps of all players now, in bytes as stored.")]
    max_state_bytes: Annotated[
        int, Field(description="How much it may be. Beyond it `keepState` is refused for a learner without a state.")
    ]


class UsageOfPackage(Model):
    """The launches of a month of one package and one dispatch."""

    package_id: str | None = None
    dispatch_id: str | None = None
    launches: int
