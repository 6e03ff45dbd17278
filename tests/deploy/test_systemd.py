"""deploy/systemd: units that systemd accepts, and that confine what they run."""

import re
import subprocess
from pathlib import Path

import pytest

import parts
from conftest import left_out
from streams.core.deliveries.time_limits import MAX_ATTEMPT_SECONDS, TimeLimits
from streams.settings import PREFIX, load_settings, names

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("kafka.service", "scorm-webhooks.service", "scorm-webhooks@.service")
EXAMPLE = (UNITS / "environment.example").read_text()
# Of `systemd-analyze security`, in tenths: 100 is a service without any protection.
MAX_EXPOSED = 25


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = parts.systemd_analyze()
    if not program:
        left_out("systemd-analyze")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_a_unit(name: str, tmp_path: Path) -> None:
    # The programs are not installed here.
    (tmp_path / name).write_text(
        re.sub(r"^(Exec\w+)=/opt/.*$", r"\1=/bin/true", (UNITS / name).read_text(), flags=re.M)
    )
    # A template is judged as one of its instances.
    verified = analyze("verify", "--man=no", tmp_path / name.replace("@.", "@deliver."))
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_confines_what_it_runs(name: str) -> None:
    judged = analyze("security", "--offline=true", f"--threshold={MAX_EXPOSED}", UNITS / name)
    assert judged.returncode == 0, judged.stdout
    unit = (UNITS / name).read_text().splitlines()
    assert {"ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet="} <= set(unit)
    assert any(re.fullmatch(r"User=(?!root)\w[\w-]*", line) for line in unit)


def test_the_unit_starts_after_what_it_needs() -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", (UNITS / "scorm-webhooks.service").read_text(), re.M))
    assert set(unit["After"].split()) == {"network-online.target", "kafka.service", "postgresql.service"}
    assert (unit["Restart"], unit["RestartPreventExitStatus"]) == ("always", "2")
    assert unit["EnvironmentFile"] == "/etc/scorm-webhooks/environment"


def test_a_unit_of_one_stage_differs_in_what_it_starts_alone() -> None:
    every, one = (
        set(re.findall(r"^(\w+=.*)$", (UNITS / name).read_text(), re.M))
        for name in ("scorm-webhooks.service", "scorm-webhooks@.service")
    )
    program = "ExecStart=/opt/scorm-webhooks/bin/scorm-webhooks"
    assert every - one == {"Description=scorm-webhooks: every stage", f"{program} up"}
    assert one - every == {
        "Description=scorm-webhooks: %i",
        "Conflicts=scorm-webhooks.service",
        "EnvironmentFile=/etc/scorm-webhooks/%i",
        f"{program} %i",
    }


def test_the_small_variant_changes_the_command_alone() -> None:
    unit = re.findall(r"^(\w+)=(.*)$", (UNITS / "scorm-webhooks.service").read_text(), re.M)
    small = re.findall(r"^(\w+)=(.*)$", (UNITS / "small.conf").read_text(), re.M)
    assert small == [("ExecStart", ""), ("ExecStart", f"{dict(unit)['ExecStart']} --small")]


def test_the_unit_gives_up_the_time_that_any_attempt_needs() -> None:
    unit = dict(re.findall(r"^(\w+)=(.*)$", (UNITS / "scorm-webhooks.service").read_text(), re.M))
    # `up` stops its embedded broker after its stages.
    assert int(unit["TimeoutStopSec"]) >= TimeLimits(MAX_ATTEMPT_SECONDS).kill_seconds + 10


def test_the_example_environment_has_known_settings() -> None:
    environment = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.M))
    assert {name for name in environment if name.startswith(PREFIX)} <= set(names())
    assert {"KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"} <= environment.keys()
    assert load_settings(environment).health_port == 9000
