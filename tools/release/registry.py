"""Push a release: by digest, then signatures and attestations, and last the tags that people use."""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from release.building import ARCHITECTURES, NAME
from release.oci import digest_of, platforms
from release.signing import Signer
from release.source import Refused
from release.statements import PROVENANCE, sbom_of

CHARTS = "charts"


class Registry:
    """A registry's namespace, such as `registry.example.com/team`."""

    def __init__(self, push: str, *, is_plain_http: bool = False) -> None:
        self.image = f"{push}/{NAME}"
        self.chart = f"{push}/{CHARTS}/{NAME}"
        self._verify = f"tls-verify={'false' if is_plain_http else 'true'}"

    def refuse_published(self, version: str) -> None:
        """Raises `Refused` for a version that is there. A push that ended before the last tag, the chart's, goes on."""
        if version in self._tags(self.chart):
            raise Refused(f"PUSH: {self.chart}:{version} exists; raise the version")

    def push(self, out: Path, version: str, signer: Signer) -> None:
        """Push the image and the chart with their signatures and attestations, and the tags last."""
        image, chart = digest_of(out / "image"), digest_of(out / "chart")
        if version in self._tags(self.image) and self._digest(version) != image:
            raise Refused(f"PUSH: {self.image}:{version} is another image; raise the version")
        self.copy(f"oci:{out / 'image'}", f"docker://{self.image}@{image}")
        signer.sign_artifact(f"{self.image}@{image}")
        with tempfile.NamedTemporaryFile("w", suffix=".json") as predicate:
            json.dump(json.loads((out / PROVENANCE).read_text())["predicate"], predicate)
            predicate.flush()
            signer.attest(f"{self.image}@{image}", "slsaprovenance1", Path(predicate.name))
        digests = platforms(out / "image")
        for architecture in ARCHITECTURES:
            for kind in ("python", "debian"):
                signer.attest(f"{self.image}@{digests[architecture]}", "cyclonedx", sbom_of(out, architecture, kind))
        self.copy(f"oci:{out / 'chart'}", f"docker://{self.chart}@{chart}")
        signer.sign_artifact(f"{self.chart}@{chart}")
        for repository, digest in ((self.image, image), (self.chart, chart)):
            self.copy(f"docker://{repository}@{digest}", f"docker://{repository}:{version}")

    def copy(self, source: str, target: str) -> None:
        """Copy all of an image or a chart, with its digests. Raises `Refused`."""
        sides = [f"--{side}-{self._verify}" for side, end in (("src", source), ("dest", target)) if "docker:" in end]
        done = _skopeo("copy", "--all", "--preserve-digests", "--quiet", *sides, source, target)
        if done.returncode:
            raise Refused(f"PUSH: {target.removeprefix('docker://')} was refused: {_last_line(done.stderr)}")

    def _tags(self, repository: str) -> list[str]:
        done = _skopeo("list-tags", f"--{self._verify}", f"docker://{repository}")
        if done.returncode == 0:
            return list(json.loads(done.stdout)["Tags"])
        # A registry that has nothing of this name says so; every other error is no answer.
        if "not found" in done.stderr or "name unknown" in done.stderr.lower() or "404" in done.stderr:
            return []
        raise Refused(f"PUSH: {repository} cannot be read: {_last_line(done.stderr)}")

    def _digest(self, version: str) -> str:
        tagged = f"docker://{self.image}:{version}"
        done = _skopeo("inspect", f"--{self._verify}", "--raw", tagged)
        if done.returncode:
            raise Refused(f"PUSH: {tagged} cannot be read: {_last_line(done.stderr)}")
        return f"sha256:{hashlib.sha256(done.stdout.encode()).hexdigest()}"


def _skopeo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command: Sequence[str] = ("skopeo", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["without a word"])[-1]
