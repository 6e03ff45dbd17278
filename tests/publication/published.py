"""A release of this checkout in a copy of it, and the registry that it is pushed to."""

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from real.image import ARM64_BASE, BASE

BUILD = "buildah bud --isolation chroot --pull-never"
VERSION = "0.1.0"
NAMESPACE = "team"
IMAGE = f"{NAMESPACE}/scorm-webhooks"
CHART = f"{NAMESPACE}/charts/scorm-webhooks"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


@dataclass(frozen=True)
class ImageRegistry:
    """Debian's registry, without TLS and without a password."""

    port: int
    folder: Path

    def command(self, program: Path) -> list[str | Path]:
        """What serves it; writes its configuration."""
        self.folder.mkdir()
        config = self.folder / "config.yml"
        config.write_text(CONFIG.format(folder=self.folder, port=self.port))
        return [program, "serve", config]

    @property
    def repositories(self) -> Path:
        return self.folder / "docker" / "registry" / "v2" / "repositories"

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> bytes:
        accepted = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        request = urllib.request.Request(f"http://{self.name}/v2/{path}", headers={"Accept": accepted})
        with urllib.request.urlopen(request, timeout=10) as response:
            content: bytes = response.read()
            return content

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def tags(self, repository: str) -> list[str]:
        """The tags of people: those of signatures begin with the name of a hash."""
        try:
            found = self.json(f"{repository}/tags/list")["tags"] or []
        except urllib.error.HTTPError:
            return []
        return [tag for tag in found if not tag.startswith("sha256-")]

    def responds(self) -> bool:
        try:
            return self.get("") is not None
        except OSError:
            return False


@dataclass(frozen=True)
class Released:
    """What `make release` made of a copy of this checkout, and its throw-away key."""

    checkout: Path
    env: dict[str, str]
    printed: str

    @property
    def out(self) -> Path:
        return self.checkout / "dist" / VERSION

    @property
    def key(self) -> Path:
        return self.checkout / "dist" / "cosign.key"

    @property
    def public_key(self) -> Path:
        return self.key.with_suffix(".pub")

    def make(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return make(self.checkout, self.env, *words)


def release_words(released: Released, registry: ImageRegistry) -> list[str]:
    bases = (f"BASE={BASE}", f"BASE_ARM64={ARM64_BASE}")
    return [*bases, f"KEY={released.key}", f"PUSH={registry.name}/{NAMESPACE}"]


def bundles(registry: ImageRegistry, repository: str, digest: str) -> Iterator[dict[str, Any]]:
    """The Sigstore bundles that a registry has about a manifest."""
    index = registry.json(f"{repository}/manifests/{digest.replace(':', '-')}")
    for entry in index["manifests"]:
        manifest = registry.json(f"{repository}/manifests/{entry['digest']}")
        assert manifest["subject"]["digest"] == digest
        for layer in manifest["layers"]:
            assert layer["mediaType"] == BUNDLE
            yield json.loads(registry.get(f"{repository}/blobs/{layer['digest']}"))


def verified(envelope: dict[str, Any], key: EllipticCurvePublicKey) -> bytes:
    """The payload of a DSSE envelope: https://github.com/secure-systems-lab/dsse."""
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for signature in envelope["signatures"]:
        key.verify(base64.b64decode(signature["sig"]), signed, ECDSA(SHA256()))
    return payload


def make(checkout: Path, env: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    # A make that runs these tests passes its own variables on.
    own = {name: value for name, value in env.items() if name != "ARGS" and not name.startswith("MAKE")}
    return subprocess.run(["make", *words], cwd=checkout, env=own, capture_output=True, text=True, check=False)
