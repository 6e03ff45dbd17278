"""The image: what it holds, and that it runs without root and without a writable file system."""

import json
import re
import urllib.request
from pathlib import Path
from signal import SIGTERM

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from conftest import Broker
from e2e.conftest import prepared
from real.image import ROOT, SOURCE, Image, run
from real.postgres import Postgres
from real.process import Process, free_ports
from streams.runtime.startup import STAGES

MAX_BYTES = 170_000_000
USER = "65532:65532"
PROGRAM = "scorm-webhooks"
PYTHON = "/opt/scorm-webhooks/bin/python"
SBOM = "/opt/scorm-webhooks/sbom.cdx.json"


def test_it_runs_a_command_as_a_user_without_a_name(image: Image) -> None:
    assert image.config.user == USER
    assert image.config.entrypoint == [PROGRAM]
    helped = run(image, PROGRAM, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "fan-out" in helped.stdout
    assert run(image, "id", "-u").stdout == "65532\n"
    assert run(image, "touch", "/tmp/file", "/data/file").returncode == 1


def test_its_labels_name_version_revision_and_source(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config.labels.items()}
    assert labels["version"] == run(image, PROGRAM, "--version").stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"])
    assert labels["source"] == SOURCE
    assert labels["licenses"] == "Apache-2.0"


def test_it_imports_nothing_from_the_working_directory(image: Image) -> None:
    assert image.config.env["PYTHONSAFEPATH"] == "1"
    assert run(image, PYTHON, "-c", "import sys; print(sys.flags.safe_path)").stdout == "True\n"


def test_it_is_small_and_has_no_installer_and_no_sources(image: Image) -> None:
    size = image.bytes_above_base()
    print(f"{size / 1e6:.0f} MB above its base")
    assert size <= MAX_BYTES
    assert run(image, PYTHON, "-m", "pip").returncode == 1
    assert run(image, "ls", "/src").returncode == 2
    assert run(image, "ls", "/opt/scorm-webhooks/lib").returncode == 0


def test_it_has_of_aws_what_a_sign_in_to_msk_asks(image: Image) -> None:
    make = "from botocore.session import Session as S; S().create_client({!r}, region_name='eu-central-1')"
    for service in ("sts", "sso", "sso-oidc"):
        assert run(image, PYTHON, "-c", make.format(service)).returncode == 0, service
    assert run(image, PYTHON, "-c", make.format("s3")).returncode == 1


def test_its_bytecode_is_compiled(image: Image) -> None:
    names = "import streams.runtime.stages as ours, faust.app.base as theirs; print(ours.__cached__, theirs.__cached__)"
    for cached in run(image, PYTHON, "-c", names).stdout.split():
        assert run(image, "ls", cached).returncode == 0


def test_its_sbom_names_each_package_of_the_lock(image: Image) -> None:
    version = run(image, PYTHON, "-c", "import platform; print(platform.python_version())").stdout.strip()
    sbom = json.loads(image.read(SBOM))
    listed = {(canonicalize_name(found["name"]), found["version"]) for found in sbom["components"]}
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == PROGRAM
    assert locked(version) - listed == set()


def locked(python_version: str) -> set[tuple[str, str]]:
    """Name and version of each package of requirements/run.txt for a version of Python."""
    lock = (ROOT / "requirements" / "run.txt").read_text()
    found = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([\w.+-]+)(?: ; (.*?))?(?: \\)?$", lock, re.MULTILINE)
    assert len(found) == lock.count("==") - lock.count("== '")
    image = {"python_full_version": python_version, "python_version": python_version.rpartition(".")[0]}
    return {(name, version) for name, version, marker in found if not marker or Marker(marker).evaluate(image)}


def test_up_runs_without_root_and_stores_in_its_volume(image: Image, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    running = Running(image, "up", {}, tmp_path, data)
    running.wait()
    assert running.stop() == 0
    assert (data / "scorm-webhooks.db").exists()


def test_every_stage_runs_without_a_writable_file(
    image: Image, kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path
) -> None:
    for system in prepared(kafka, postgres, topic_prefix, tmp_path):
        ours = {name: value for name, value in system.env.items() if not name.startswith("P")}
        stages = [Running(image, stage, ours, tmp_path) for stage in STAGES]
        for stage in stages:
            stage.wait()
        assert [stage.stop() for stage in stages] == [0] * len(STAGES)


class Running:
    """A command of the image, which serves its probes on every address."""

    def __init__(self, image: Image, command: str, env: dict[str, str], logs: Path, data: Path | None = None) -> None:
        [self._port] = free_ports(1)
        health = {"SCORM_WEBHOOKS_HEALTH_HOST": "0.0.0.0", "SCORM_WEBHOOKS_HEALTH_PORT": str(self._port)}
        words = [*image.config.entrypoint, command]
        self._process = Process(
            image.command(words, {**env, **health, "SCORM_WEBHOOKS_API_PORT": "0"}, data), logs / f"{command}.log"
        )

    def wait(self) -> None:
        self._process.wait_until(self._is_ready)

    def stop(self) -> int:
        return self._process.end(SIGTERM)

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2).close()
        except OSError:
            return False
        return True
