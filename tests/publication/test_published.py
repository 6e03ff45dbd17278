"""A whole release, pushed to a real registry: other programs verify it, and it runs."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pythons import Python, pythons
from test_producer import FIELDS
from test_producer_package import PUBLISH

import parts
from publication.published import CHART, IMAGE, VERSION, ImageRegistry, Released, bundles, release_words, verified
from release.oci import digest_of, platforms
from release.registry import Registry
from release.signing import Signer
from release.source import Refused

pytestmark = [pytest.mark.release, pytest.mark.slow]

SIGNATURE, PROVENANCE, SBOM = (
    "https://sigstore.dev/cosign/sign/v1",
    "https://slsa.dev/provenance/v1",
    "https://cyclonedx.org/bom",
)
STAGES = (
    "import streams.runtime.stages, streams.runtime.sql_stages, streams.runtime.api_stage, api.app, faust; print('all')"
)


# -- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_has_everything(released: Released) -> None:
    names = {path.name for path in released.out.iterdir()}
    distributions = ("scorm_webhooks", "scorm_webhooks_producer", "scorm_webhooks_cli")
    assert names == {
        *(f"{name}-{VERSION}-py3-none-any.whl" for name in distributions),
        *(f"{name}-{VERSION}.tar.gz" for name in distributions),
        *("scorm-webhooks", f"scorm-webhooks-{VERSION}.tgz", "chart", "docs", "image", "sbom"),
        *("provenance.json", "SHA256SUMS", "SHA256SUMS.sig"),
    }
    assert set(platforms(released.out / "image")) == {"amd64", "arm64"}
    assert "add it to releases.toml" in released.printed
    assert "PRIVATE KEY" not in released.printed


def test_openssl_verifies_the_sums_and_refuses_a_changed_byte(released: Released, tmp_path: Path) -> None:
    sums = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=released.out, check=False)
    assert sums.returncode == 0
    signature = tmp_path / "signature"
    signature.write_bytes(base64.b64decode((released.out / "SHA256SUMS.sig").read_text()))
    verify: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", released.public_key, "-signature", signature]
    assert subprocess.run([*verify, released.out / "SHA256SUMS"], check=False).returncode == 0
    changed = tmp_path / "SHA256SUMS"
    changed.write_text((released.out / "SHA256SUMS").read_text().replace("0", "1", 1))
    assert subprocess.run([*verify, changed], check=False).returncode == 1


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_sboms_list_python_and_debian_packages(released: Released, architecture: str) -> None:
    def listed(kind: str) -> set[str]:
        text = (released.out / "sbom" / f"scorm-webhooks-{architecture}.{kind}.cdx.json").read_text()
        return {component["name"] for component in json.loads(text)["components"]}

    assert listed("python") >= {"faust-streaming", "confluent-kafka", "aiohttp"}
    assert listed("debian") >= {"python3", "libc6", "libssl3t64"}


def test_the_provenance_names_commit_and_locks(released: Released) -> None:
    statement = json.loads((released.out / "provenance.json").read_text())
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert f"sha256:{subjects['image']}" == digest_of(released.out / "image")
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=released.checkout, capture_output=True, text=True)
    assert dependencies[0]["digest"] == {"gitCommit": commit.stdout.strip()}
    assert {"requirements/run.txt", "requirements/build.txt"} <= {dependency["name"] for dependency in dependencies}


# -- the registry ----------------------------------------------------------------------------------------------------


def statements(registry: ImageRegistry, repository: str, digest: str, key: EllipticCurvePublicKey) -> Iterator[Any]:
    """The signed statements about a manifest, each verified. Raises `InvalidSignature`."""
    for bundle in bundles(registry, repository, digest):
        yield json.loads(verified(bundle["dsseEnvelope"], key))


@pytest.fixture(scope="module")
def key(released: Released) -> EllipticCurvePublicKey:
    loaded = load_pem_public_key(released.public_key.read_bytes())
    assert isinstance(loaded, EllipticCurvePublicKey)
    return loaded


def test_signatures_and_attestations_are_verified(
    released: Released, image_registry: ImageRegistry, key: EllipticCurvePublicKey
) -> None:
    image, chart = digest_of(released.out / "image"), digest_of(released.out / "chart")
    expected = [(IMAGE, image, [SIGNATURE, PROVENANCE]), (CHART, chart, [SIGNATURE])]
    expected += [(IMAGE, digest, [SBOM, SBOM]) for digest in platforms(released.out / "image").values()]
    for repository, digest, kinds in expected:
        found = list(statements(image_registry, repository, digest, key))
        assert sorted(statement["predicateType"] for statement in found) == sorted(kinds)
        for statement in found:
            assert f"sha256:{statement['subject'][0]['digest']['sha256']}" == digest


def test_a_changed_statement_is_refused(key: EllipticCurvePublicKey) -> None:
    envelope = {
        "payload": base64.b64encode(b"{}").decode(),
        "payloadType": "a",
        "signatures": [{"sig": "MAYCAQECAQE="}],
    }
    with pytest.raises(InvalidSignature):
        verified(envelope, key)


def test_the_tags_lead_to_what_was_signed(released: Released, image_registry: ImageRegistry, tmp_path: Path) -> None:
    assert image_registry.tags(IMAGE) == image_registry.tags(CHART) == [VERSION]
    pull = ["helm", "pull", f"oci://{image_registry.name}/{CHART}", "--version", VERSION, "--plain-http"]
    subprocess.run(pull, cwd=tmp_path, env=released.env, check=True, capture_output=True)
    [package] = tmp_path.glob("*.tgz")
    assert package.read_bytes() == (released.out / package.name).read_bytes()
    values = subprocess.run(
        ["helm", "show", "values", package], env=released.env, check=True, capture_output=True, text=True
    )
    image = yaml.safe_load(values.stdout)["image"]
    assert image["repository"] == f"{image_registry.name}/{IMAGE}"
    assert image["digest"] == digest_of(released.out / "image")


def test_the_commands_of_the_documentation_verify(
    released: Released, image_registry: ImageRegistry, tmp_path: Path
) -> None:
    [block] = re.findall(r"```sh\n(.*?)```", (parts.ROOT / "SECURITY.md").read_text(), re.DOTALL)
    local = block.replace("registry.example.com", image_registry.name).replace(
        "maintainers.pub", str(released.public_key)
    )
    plain = local.replace("cosign verify ", "cosign verify --allow-http-registry ")
    script = plain.replace("cosign verify-attestation ", "cosign verify-attestation --allow-http-registry ")
    run = ["bash", "-euo", "pipefail", "-c", script]
    folder = tmp_path / "downloaded"
    shutil.copytree(released.out, folder)
    assert subprocess.run(run, cwd=folder, env=released.env, check=False).returncode == 0
    (folder / "scorm-webhooks").write_bytes(b"changed")
    assert subprocess.run(run, cwd=folder, env=released.env, check=False).returncode == 1


def test_a_version_is_published_once(released: Released, image_registry: ImageRegistry) -> None:
    done = released.make("release", *release_words(released, image_registry))
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("make release: ")]
    assert line.endswith(f"{CHART}:{VERSION} exists; raise the version")


def test_a_push_that_is_refused_half_way_has_no_tag(
    released: Released, image_registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "COSIGN_PASSWORD"):
        monkeypatch.setenv(name, released.env[name])
    signer = Signer(str(released.key), is_plain_http=True)
    registry = Registry(f"{image_registry.name}/half", is_plain_http=True)
    # Where the registry would keep the chart there is a file: it refuses to store it.
    blocked = image_registry.repositories / "half" / "charts"
    blocked.parent.mkdir()
    blocked.touch()
    with pytest.raises(Refused, match="half/charts"):
        registry.push(released.out, VERSION, signer)
    assert image_registry.tags("half/scorm-webhooks") == []
    blocked.unlink()
    registry.push(released.out, VERSION, signer)
    assert image_registry.tags("half/scorm-webhooks") == image_registry.tags("half/charts/scorm-webhooks") == [VERSION]


def test_a_wrong_password_stops_before_anything_is_built(released: Released, image_registry: ImageRegistry) -> None:
    wrong = Released(released.checkout, {**released.env, "COSIGN_PASSWORD": "wrong"}, "")
    before = (released.out / "SHA256SUMS").read_bytes()
    done = wrong.make("release", *release_words(released, image_registry))
    assert done.returncode == 2
    assert "cannot sign; is COSIGN_PASSWORD its password?" in done.stderr
    assert (released.out / "SHA256SUMS").read_bytes() == before


# -- what it runs on -------------------------------------------------------------------------------------------------


def test_the_image_for_arm64_runs(released: Released, image_registry: ImageRegistry) -> None:
    digest = platforms(released.out / "image")["arm64"]
    name = f"docker://{image_registry.name}/{IMAGE}@{digest}"
    container = said("buildah", "from", "--quiet", "--tls-verify=false", name)
    try:
        root = Path(said("buildah", "mount", container))
        emulator = parts.emulator()
        assert emulator, "tests/parts.py brings it"
        shutil.copy(emulator, root / "emulator")
        inside: list[str | Path] = ["chroot", root, "/emulator", "/opt/scorm-webhooks/bin/python"]
        version = said(
            *inside, "-c", "import platform, streams.build as b; print(platform.machine(), b.build_version())"
        )
        assert version.startswith(f"aarch64 {VERSION}+g")
        assert said(*inside, "-c", STAGES) == "all"
    finally:
        said("buildah", "rm", container)


def own_and_further_pythons() -> Iterator[tuple[str, Python]]:
    uv = str(parts.ROOT / ".uv" / "bin" / "uv")
    own = Python(sys.executable, uv)
    yield own.version(), own
    yield from pythons(uv)


def test_the_wheels_run_on_each_python(released: Released) -> None:
    brokers = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    [address] = (f"{broker.host}:{broker.port}" for broker in brokers.list_topics(timeout=10).brokers.values())
    versions = set[str]()
    for version, python in own_and_further_pythons():
        venv = released.checkout / "dist" / f"python-{version}"
        python.try_wheels(released.out, venv, PUBLISH, address, json.dumps(FIELDS))
        versions.add(version)
    assert versions >= {"3.11", "3.13", "3.14"}, "this machine's, the image's and the next Debian's"


def said(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()
