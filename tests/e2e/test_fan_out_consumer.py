"""A `fan-out` that reads with another client than its group waits until the group is free."""

from functools import partial

import pytest

from e2e.system import System, until

pytestmark = pytest.mark.e2e

CLIENT = "SCORM_WEBHOOKS_FAN_OUT_CONSUMER"
WAITS = "has members of another client"


@pytest.mark.parametrize(("first", "second"), [("faust", "librdkafka"), ("librdkafka", "faust")])
def test_a_fan_out_of_another_client_waits(first: str, second: str, system: System) -> None:
    system.start(["publish", "fan-out"], **{CLIENT: first})
    member = System(system.folder / "member", system.env)
    member.folder.mkdir()
    try:
        member.launch("fan-out", **{CLIENT: second})
        until(lambda: WAITS in member.problem("fan-out"), message="the other client waits")
        assert system.is_ready("fan-out")
        assert system.stop("fan-out") == 0
        until(partial(member.is_ready, "fan-out"), message="the other client reads")
        events = [line["event"] for line in member.log_events("fan-out")]
        assert (events.count("prerequisite_missing"), events.count("prerequisite_met")) == (1, 1)
        assert member.stop("fan-out") == 0
    finally:
        member.close()
