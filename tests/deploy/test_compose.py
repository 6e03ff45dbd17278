"""deploy/compose.yaml: valid, complete, pinned, and closed to other machines."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from cryptography.fernet import Fernet

import parts
from conftest import left_out
from streams.core.deliveries.time_limits import MAX_ATTEMPT_SECONDS, TimeLimits
from streams.runtime.background import (
    BACKGROUND_NAME,
    BACKGROUND_STAGES,
    RUN_BACKGROUND_ARGUMENTS,
    SEPARATE_STAGE_REASONS,
)
from streams.runtime.startup import STAGES
from streams.settings import PREFIX, load_settings, names

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SMALL = DEPLOY / "compose.small.yaml"
TEXT = COMPOSE.read_text()
EXAMPLE = (DEPLOY / ".env.example").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(@sha256:[0-9a-f]{64})?")
SECRETS = {
    "POSTGRES_PASSWORD": "a-password",
    "GRAFANA_ADMIN_PASSWORD": "another-password",
    f"{PREFIX}ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    f"{PREFIX}OPERATOR_KEYS": "ada=a-key-of-an-operator-of-tests",
}
EXAMPLE_VALUES = {**dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE)), **SECRETS}


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
    return found


def jobs() -> set[str]:
    """The services that run once."""
    return {name for name, service in services().items() if service["restart"] == "no"}


def filled(environment: dict[str, str]) -> dict[str, str]:
    """An environment as the example file makes it, with secrets."""

    def value(found: re.Match[str]) -> str:
        return EXAMPLE_VALUES.get(found[1]) or found[3]

    return {name: VARIABLE.sub(value, text) for name, text in environment.items()}


@pytest.mark.parametrize("file", [COMPOSE, SMALL], ids=["whole", "small"])
def test_it_is_valid(file: Path) -> None:
    schema = parts.compose_schema()
    if not schema:
        left_out("schema of compose files")
    errors = jsonschema_rs.validator_for(json.loads(schema.read_text())).iter_errors(yaml.safe_load(file.read_text()))
    assert [f"{error.instance_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("files", [(COMPOSE,), (COMPOSE, SMALL)], ids=["whole", "small"])
def test_docker_reads_it(tmp_path: Path, files: tuple[Path, ...]) -> None:
    named = [part for file in files for part in ("--file", str(file))]
    command = ["docker", "compose", *named, "--env-file", str(tmp_path / "env"), "config", "--quiet"]
    if not shutil.which("docker") or subprocess.run([*command[:2], "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` on this machine")
    (tmp_path / "env").write_text("\n".join(f"{name}={value}" for name, value in EXAMPLE_VALUES.items()))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_stage_is_there_and_scraped() -> None:
    assert {name: services()[name]["command"] for name in STAGES} == {name: [name] for name in STAGES}
    [scraped] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert sorted(scraped["static_configs"][0]["targets"]) == sorted(f"{stage}:9000" for stage in STAGES)


def test_the_small_variant_replaces_four_containers_by_one() -> None:
    small = yaml.safe_load(SMALL.read_text())["services"]
    left_out = {name for name, service in small.items() if service.get("profiles") == ["apart"]}
    assert left_out == set(BACKGROUND_STAGES)
    background = small[BACKGROUND_NAME]
    assert background["command"] == list(RUN_BACKGROUND_ARGUMENTS)
    # `notify` has all settings that the others have, and the mail server.
    assert background["extends"] == {"file": COMPOSE.name, "service": "notify"}
    settings = [services()[name]["environment"].items() for name in BACKGROUND_STAGES]
    assert all(of_one <= services()["notify"]["environment"].items() for of_one in settings)
    needed = {**services()["demo"]["depends_on"], **small["demo"]["depends_on"]}
    assert {name for name, how in needed.items() if how.get("required", True)}.isdisjoint(left_out)


def test_prometheus_reads_the_processes_of_the_small_variant() -> None:
    [whole], [small] = (
        yaml.safe_load((DEPLOY / name).read_text())["scrape_configs"]
        for name in ("prometheus.yml", "prometheus.small.yml")
    )
    targets = small["static_configs"][0].pop("targets")
    assert set(targets) == {f"{name}:9000" for name in (*SEPARATE_STAGE_REASONS, BACKGROUND_NAME)}
    whole["static_configs"][0].pop("targets")
    assert small == whole
    assert small["honor_labels"] is True
    mounts = yaml.safe_load(SMALL.read_text())["services"]["prometheus"]["volumes"]
    assert mounts == ["./prometheus.small.yml:/etc/prometheus/prometheus.yml:ro"]


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    if not (promtool := parts.promtool()):
        left_out("promtool")
    for source, target in mounted("prometheus").items():
        if target.startswith("/etc/prometheus/"):
            shutil.copy(DEPLOY / source, tmp_path / Path(target).name)
    checked = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def test_prometheus_gives_each_target_its_stage() -> None:
    [scraped] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    [relabel] = scraped["relabel_configs"]
    targets = scraped["static_configs"][0]["targets"]
    named = {re.fullmatch(relabel["regex"], target)[1] for target in targets}  # type: ignore[index]
    assert (relabel["source_labels"], relabel["target_label"], named) == (["__address__"], "stage", set(STAGES))


def test_grafana_finds_its_data_source_and_dashboard() -> None:
    targets = mounted("grafana")
    provisioned = "/etc/grafana/provisioning"
    assert targets["./grafana/prometheus.yml"].startswith(f"{provisioned}/datasources/")
    assert targets["./grafana/dashboards.yml"].startswith(f"{provisioned}/dashboards/")
    [provider] = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yml").read_text())["providers"]
    dashboard = targets["./helm/scorm-webhooks/files/dashboard.json"]
    assert Path(dashboard).parent == Path(provider["options"]["path"])


def mounted(service: str) -> dict[str, str]:
    """The files that a service mounts: where they are there, by where they are here."""
    volumes = (volume.split(":") for volume in services()[service]["volumes"])
    return {source: target for source, target, *_ in volumes if source.startswith("./")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_accepts_its_settings(stage: str) -> None:
    environment = filled(services()[stage]["environment"])
    assert {name for name in environment if name.startswith(PREFIX)} <= set(names())
    assert load_settings(environment).health_host == "0.0.0.0"
    assert all(type(value) is str for value in services()[stage]["environment"].values())


def test_a_stage_has_the_time_that_any_attempt_needs() -> None:
    assert (
        int(services()["deliver"]["stop_grace_period"].removesuffix("s")) > TimeLimits(MAX_ATTEMPT_SECONDS).stop_seconds
    )


def test_a_stage_waits_for_topics_and_tables() -> None:
    done = {"condition": "service_completed_successfully"}
    assert {"topics", "database"} <= jobs()
    assert all(services()[stage]["depends_on"] == {"topics": done, "database": done} for stage in STAGES)


def test_every_variable_is_in_the_example_or_has_a_default() -> None:
    required = {name for name, kind, _ in VARIABLE.findall(TEXT) if kind != ":-"}
    assert required == SECRETS.keys()
    assert required <= set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE))


def test_no_port_is_open_to_other_machines() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert len(ports) > 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_service_has_a_health_check() -> None:
    assert {name for name, service in services().items() if "healthcheck" not in service} == jobs()


def test_every_image_is_pinned_or_built_here() -> None:
    pulled = {service["image"] for service in services().values() if "build" not in service}
    assert [image for image in pulled if not PINNED.fullmatch(image)] == []
    assert len(pulled) == 5


def test_every_mounted_file_and_volume_exists() -> None:
    volumes = yaml.safe_load(TEXT)["volumes"]
    for service in services().values():
        for source, _, _ in (volume.partition(":") for volume in service.get("volumes", [])):
            assert source in volumes or (source.startswith("./") and (DEPLOY / source).exists()), source


def test_our_containers_have_no_rights() -> None:
    for name, service in services().items():
        if "build" in service:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
