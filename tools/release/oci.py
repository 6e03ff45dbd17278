"""OCI layouts: folders of blobs that are named by their digests, as registries keep them."""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
_DELETION = ".wh."


def digest_of(layout: Path) -> str:
    """The digest of what a layout has: an image's index, or a chart's manifest."""
    [entry] = json.loads((layout / "index.json").read_text())["manifests"]
    return str(entry["digest"])


def read_json(layout: Path, digest: str) -> Any:
    return json.loads(blob(layout, digest).read_bytes())


def blob(layout: Path, digest: str) -> Path:
    return layout.joinpath("blobs", *digest.split(":"))


def platforms(layout: Path) -> dict[str, str]:
    """The digest of the manifest of each processor, such as `amd64`."""
    index = read_json(layout, digest_of(layout))
    return {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}


def files_below(layout: Path, manifest: str, folder: str) -> dict[str, bytes]:
    """The files of an image below a folder, such as `var/lib/dpkg`, by their names in the image."""
    found: dict[str, bytes] = {}
    for layer in read_json(layout, manifest)["layers"]:
        for name, content in _members(blob(layout, layer["digest"]), folder):
            head, _, last = name.rpartition("/")
            if last.startswith(_DELETION):
                found.pop(f"{head}/{last.removeprefix(_DELETION)}", None)
            else:
                found[name] = content
    return found


def _members(layer: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(layer) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and name.startswith(f"{folder}/"):
                content = archive.extractfile(member)
                assert content, "it is a file"
                yield name, content.read()


def write_chart(layout: Path, package: Path, chart: Mapping[str, Any], created: datetime) -> str:
    """Write a packed Helm chart as `helm push` stores it; return the digest of its manifest.

    Shapes: https://helm.sh/docs/topics/registries/ and the OCI image specification 1.1.
    """
    config = _put(layout, json.dumps(chart, separators=(",", ":")).encode(), HELM_CONFIG)
    content = _put(layout, package.read_bytes(), HELM_CHART)
    annotations = {
        "org.opencontainers.image.created": created.isoformat().replace("+00:00", "Z"),
        "org.opencontainers.image.description": chart["description"],
        "org.opencontainers.image.title": chart["name"],
        "org.opencontainers.image.version": chart["version"],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [content],
        "annotations": annotations,
    }
    entry = _put(layout, json.dumps(manifest, separators=(",", ":")).encode(), MANIFEST)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    return str(entry["digest"])


def _put(layout: Path, content: bytes, media_type: str) -> dict[str, Any]:
    """Store a blob; return its descriptor."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = blob(layout, digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}
