"""What `make release` publishes of the release before, in a registry that the node pulls from."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM

import parts
from chaos.builds import released_commit, source_of_commit
from kube.images import BEFORE
from publication.published import ImageRegistry
from real.image import output
from real.process import Process
from release.building import build_chart
from release.oci import digest_of
from release.registry import Registry
from release.source import Source

# containerd speaks plain HTTP to this machine alone.
PORT = 5000


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[Registry]:
    """A registry on the node."""
    registry = ImageRegistry(PORT, folder / "registry")
    running = Process(registry.command(program), log=folder / "registry.log")
    try:
        running.wait_until(registry.responds)
        yield Registry(f"{registry.name}/team", is_plain_http=True)
    finally:
        running.end(SIGTERM)


def push_release(registry: Registry, out: Path) -> str:
    """Push the image and the chart, without signatures: nothing on the node checks them. Returns the version."""
    out.mkdir()
    commit = released_commit()
    source = source_of_commit(commit, out / "source") if commit else parts.ROOT
    version = str(tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"])
    output("buildah", "push", "--quiet", BEFORE, f"oci:{out / 'image'}")
    digest = digest_of(out / "image")
    build_chart(Source(source, version, "0" * 40, datetime.now(UTC)), registry.image, digest, out)
    registry.copy(f"oci:{out / 'image'}", f"docker://{registry.image}@{digest}")
    registry.copy(f"oci:{out / 'chart'}", f"docker://{registry.chart}:{version}")
    return version
