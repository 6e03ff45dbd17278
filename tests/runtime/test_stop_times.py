"""Every part that limits a stop gets its time from the timeout of an attempt."""

from pathlib import Path

import pytest

from fakes import FakeKafka
from streams.adapters.kafka.producing.record_producer import FLUSH_TIMEOUT_SECONDS
from streams.core.deliveries.time_limits import TimeLimits
from streams.runtime.bootstrap import SqlDeployment
from streams.settings import Settings, load_settings
from streams.stages.consuming.partition_consumer import Pacing


def settings(**changes: str) -> Settings:
    return load_settings({f"SCORM_WEBHOOKS_{name}": value for name, value in changes.items()})


@pytest.mark.parametrize(("seconds", "drain"), [("60", 62), ("2", 12)])
def test_the_settings_have_the_limits(seconds: str, drain: float) -> None:
    assert settings(ATTEMPT_TIMEOUT_SECONDS=seconds).time_limits.drain_seconds == drain
    assert settings().time_limits == TimeLimits(10)


def test_the_end_after_a_drain_has_time_for_its_parts() -> None:
    limits = TimeLimits(10)
    assert limits.stop_seconds - limits.drain_seconds >= Pacing().revoke_timeout_seconds + FLUSH_TIMEOUT_SECONDS


def test_who_sends_a_test_waits_for_its_outcome(tmp_path: Path) -> None:
    environ = {"SCORM_WEBHOOKS_DATA_DIR": str(tmp_path), "SCORM_WEBHOOKS_ATTEMPT_TIMEOUT_SECONDS": "60"}
    deployment = SqlDeployment.from_environment(environ)
    assert deployment.synthetic_events(FakeKafka(deployment.clock))._wait_seconds == 75
