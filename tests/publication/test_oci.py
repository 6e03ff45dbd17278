"""OCI layouts: a chart is written as `helm push` stores it, and an image's files are those of its last layers."""

import hashlib
import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from release.oci import blob, digest_of, files_below, platforms, read_json, write_chart

CHART = {"apiVersion": "v2", "name": "a", "version": "1.0.0", "description": "A chart."}
TIME = datetime(2026, 12, 1, tzinfo=UTC)


def test_a_chart_is_a_manifest_of_its_package(tmp_path: Path) -> None:
    package = tmp_path / "a-1.0.0.tgz"
    package.write_bytes(b"package")
    layout = tmp_path / "chart"
    digest = write_chart(layout, package, CHART, TIME)
    assert digest_of(layout) == digest
    manifest = read_json(layout, digest)
    [content] = manifest["layers"]
    assert blob(layout, content["digest"]).read_bytes() == b"package"
    assert content["size"] == len(b"package")
    assert read_json(layout, manifest["config"]["digest"]) == CHART
    assert manifest["annotations"]["org.opencontainers.image.created"] == "2026-12-01T00:00:00Z"
    again = write_chart(tmp_path / "again", package, CHART, TIME)
    assert again == digest


def layer(layout: Path, files: dict[str, bytes]) -> str:
    """The digest of a new layer."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    digest = f"sha256:{hashlib.sha256(content.getvalue()).hexdigest()}"
    place = blob(layout, digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.getvalue())
    return digest


def test_a_later_layer_replaces_and_deletes_files(tmp_path: Path) -> None:
    first = layer(tmp_path, {"./var/lib/dpkg/status": b"old", "./var/lib/dpkg/lock": b"", "./etc/passwd": b""})
    second = layer(tmp_path, {"var/lib/dpkg/status": b"new", "var/lib/dpkg/.wh.lock": b""})
    manifest = {"layers": [{"digest": first}, {"digest": second}]}
    place = blob(tmp_path, "sha256:manifest")
    place.write_text(json.dumps(manifest))
    assert files_below(tmp_path, "sha256:manifest", "var/lib/dpkg") == {"var/lib/dpkg/status": b"new"}


def test_each_processor_has_its_manifest(tmp_path: Path) -> None:
    index = {"manifests": [{"digest": "sha256:1", "platform": {"os": "linux", "architecture": "arm64"}}]}
    place = blob(tmp_path, "sha256:index")
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(index))
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": "sha256:index"}]}))
    assert platforms(tmp_path) == {"arm64": "sha256:1"}
