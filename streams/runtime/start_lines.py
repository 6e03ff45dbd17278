"""The lines that `up` prints at its start: on a terminal its progress, and the addresses when all is ready."""

import asyncio
import sys
import time
from typing import Protocol

from streams.core.text import escape_controls
from streams.runtime.bootstrap import SqlDeployment
from streams.settings import PREFIX, Settings

LOG_LEVEL_SETTING = f"{PREFIX}LOG_LEVEL"
CHECK_INTERVAL_SECONDS = 0.2
# A start takes some seconds, and half a minute after a kill.
START_NOTICE_AFTER_SECONDS = 15.0


class Stages(Protocol):
    """The supervised stages."""

    @property
    def is_running(self) -> bool: ...

    async def readiness_problems(self) -> list[str]: ...


def is_on_terminal() -> bool:
    """Whether a person sees what this process prints, including its log lines."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def quiet_log_settings() -> dict[str, str]:
    """On a terminal the log begins at `warning`, unless its level is set: links must not be lost among log lines."""
    return {LOG_LEVEL_SETTING: "warning"} if is_on_terminal() else {}


def print_start(settings: Settings) -> None:
    if is_on_terminal():
        quiet_note = (
            f"; {LOG_LEVEL_SETTING}=info shows more than warnings" if settings.log_level in ("warning", "error") else ""
        )
        _print(f"Starting every stage, with data in {settings.data_dir}. Ctrl-C ends it{quiet_note}.")


async def wait_until_up(
    stages: Stages,
    stop_event: asyncio.Event,
    health_url: str,
    *,
    notice_after_seconds: float = START_NOTICE_AFTER_SECONDS,
) -> bool:
    """Wait until every stage is ready. False if `up` ends before. A long wait is explained once on a terminal."""
    explain_at = time.monotonic() + notice_after_seconds if is_on_terminal() else None
    while not stop_event.is_set() and stages.is_running and (problems := await stages.readiness_problems()):
        if explain_at is not None and time.monotonic() >= explain_at:
            _print(f"Not ready yet: {problems[0]} ({health_url} has all that is missing)")
            explain_at = None
        await asyncio.sleep(CHECK_INTERVAL_SECONDS)
    return stages.is_running and not stop_event.is_set()


async def print_addresses(deployment: SqlDeployment, *, is_embedded: bool) -> None:
    """Print where Kafka, the API and the dashboard are; on a terminal also a link for one sign-in.

    A log file must not contain such a link.
    """
    url = deployment.settings.url
    embedded_note = "  (embedded: it forgets everything when this ends)" if is_embedded else ""
    _print(f"Kafka: {deployment.kafka['bootstrap.servers']}{embedded_note}")
    _print(f"API: {url}/docs")
    _print(f"Dashboard: {url}/  (to sign in: scorm-webhooks operators sign-in)")
    _print("A customer: scorm-webhooks accounts create NAME --email E-MAIL  (prints its API key)")
    if sys.stdout.isatty():
        link = await deployment.sign_in().create_operator_link(actor="up")
        _print(f"Sign in once, within 15 minutes: {link.url}")


def _print(line: str) -> None:
    print(escape_controls(line), flush=True)
