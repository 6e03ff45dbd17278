"""What a release says of itself: the packages of its images, how it was built, and the hash of each file."""

import hashlib
import json
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from release.building import NAME, run
from release.oci import digest_of, files_below, platforms
from release.source import Source

SUMS = "SHA256SUMS"
PROVENANCE = "provenance.json"
STATEMENT = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
# What a build is: its parameters and its steps, which docs/install.md describes.
BUILD_TYPE = "urn:scorm-webhooks:make-release:1"
_PYTHON_PACKAGES = "opt/scorm-webhooks/sbom.cdx.json"


def sbom_of(out: Path, architecture: str, kind: str) -> Path:
    """The file that lists an image's packages: `python` or `debian`."""
    return out / "sbom" / f"{NAME}-{architecture}.{kind}.cdx.json"


def write_sboms(source: Source, debsbom: str, out: Path) -> None:
    """CycloneDX documents of each image: its Python packages, which the image has itself, and its Debian packages."""
    (out / "sbom").mkdir()
    for architecture, digest in platforms(out / "image").items():
        listed = files_below(out / "image", digest, "opt/scorm-webhooks")[_PYTHON_PACKAGES]
        sbom_of(out, architecture, "python").write_bytes(listed)
        with tempfile.TemporaryDirectory() as root:
            for name, content in files_below(out / "image", digest, "var/lib/dpkg").items():
                file = Path(root, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            serial = uuid.uuid5(uuid.NAMESPACE_URL, digest)
            said = ("--distro-name", NAME, "--distro-version", source.version, "--distro-arch", architecture)
            fixed = ("--timestamp", source.time.isoformat(), "--cdx-serialnumber", str(serial))
            target = sbom_of(out, architecture, "debian")
            run(source, debsbom, "generate", "--sbom-type", "cdx", "--root", root, *said, *fixed, "--out", str(target))


def write_provenance(source: Source, parameters: Mapping[str, str], out: Path) -> None:
    """An in-toto statement about every file, the images and the chart (SLSA provenance 1, Build L1)."""
    hashes = {name: {"sha256": value} for name, value in hashes_of(out).items()}
    layouts = {layout: {"sha256": digest_of(out / layout).partition(":")[2]} for layout in ("image", "chart")}
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": digest} for name, digest in sorted({**hashes, **layouts}.items())],
        "predicateType": SLSA,
        "predicate": predicate(source, parameters),
    }
    (out / PROVENANCE).write_text(json.dumps(statement, indent=1) + "\n")


def predicate(source: Source, parameters: Mapping[str, str]) -> dict[str, Any]:
    """How it was built: https://slsa.dev/spec/v1.0/provenance. It has no time of the build, which would differ."""
    locks = sorted((source.root / "requirements").glob("*.txt"))
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"version": source.version, **parameters},
            "internalParameters": {"SOURCE_DATE_EPOCH": source.epoch},
            "resolvedDependencies": [
                {"name": "commit", "digest": {"gitCommit": source.commit}},
                *({"name": f"requirements/{lock.name}", "digest": {"sha256": _hash(lock)}} for lock in locks),
            ],
        },
        "runDetails": {"builder": {"id": "make release", "version": {"python": sys.version.split()[0]}}},
    }


def write_sums(out: Path) -> Path:
    """`SHA256SUMS` of every file, which `sha256sum --check` reads."""
    sums = out / SUMS
    sums.write_text("".join(f"{value}  {name}\n" for name, value in hashes_of(out).items()))
    return sums


def hashes_of(out: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder, by its name there; not of the sums and their signature."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and not path.name.startswith(SUMS))
    return {file.relative_to(out).as_posix(): _hash(file) for file in files}


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
