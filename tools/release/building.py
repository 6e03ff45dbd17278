"""Build what a release has: distributions, documentation, images, the chart. The same commit gives the same bytes."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from release.oci import digest_of, write_chart
from release.source import Refused, Source

NAME = "scorm-webhooks"
CHART = Path("deploy", "helm", NAME)
ARCHITECTURES = ("amd64", "arm64")
# The environment is there; a copy of the checkout must not install itself into it.
MAKE = ("make", "--silent", "--old-file=.venv/.test")
LAST_LINES = 5


def build_all(source: Source, bases: Mapping[str, str], repository: str, source_url: str, out: Path) -> None:
    """Build all into an empty folder: `bases` by processor, `repository` without a registry where nothing is pushed."""
    build_documentation(source, out)
    build_distributions(source, out)
    build_images(source, bases, source_url, out / "image")
    build_chart(source, f"{repository}/{NAME}" if repository else NAME, digest_of(out / "image"), out)


def build_documentation(source: Source, out: Path) -> None:
    """The site: a folder of the release, and packed into the wheel."""
    run(source, sys.executable, "tools/docs_site.py", "--fresh")
    shutil.copytree(source.root / ".docs" / "site", out / "docs")


def build_distributions(source: Source, out: Path) -> None:
    """Wheels and sdists of the server, the producer and the client, and the client as one file."""
    pinned = ("--build-constraints", "requirements/build.txt", "--require-hashes")
    for project in (".", "producer", "client"):
        run(source, *MAKE, "build-project", f"PROJECT={project}", f"OUT={out}", f"ARGS={' '.join(pinned)}")
    (out / ".gitignore").unlink(missing_ok=True)
    [client] = out.glob("scorm_webhooks_cli-*.whl")
    run(source, *MAKE, "client-file", f"CLIENT_WHEEL={client}", f"CLIENT_FILE={out / NAME}")


def build_images(source: Source, bases: Mapping[str, str], source_url: str, layout: Path) -> None:
    """The image of each processor, in one layout. All are built by this machine's processor."""
    names = f"localhost/{NAME}-release-{os.getpid()}"
    buildah = os.environ.get("BUILD_IMAGE", "buildah bud").split()
    try:
        run(source, "buildah", "manifest", "create", names)
        for architecture in ARCHITECTURES:
            values = {
                "BASE": bases["amd64"],
                "RUN_BASE": bases[architecture],
                "TARGETARCH": architecture,
                "VERSION": source.build,
                "REVISION": source.commit,
                "SOURCE": source_url or "unknown",
                "SOURCE_DATE_EPOCH": str(source.epoch),
            }
            said = (f"--build-arg={name}={value}" for name, value in values.items())
            fixed = ("--file", "deploy/Dockerfile", "--timestamp", str(source.epoch), "--manifest", names)
            run(source, *buildah, *fixed, *said, ".")
        run(source, "buildah", "manifest", "push", "--quiet", "--all", names, f"oci:{layout}")
    finally:
        subprocess.run(["buildah", "manifest", "rm", names], capture_output=True, check=False)


def build_chart(source: Source, repository: str, digest: str, out: Path) -> None:
    """The chart, which names the image by digest: packed by helm, and as a layout."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, NAME)
        shutil.copytree(source.root / CHART, copy)
        values = copy / "values.yaml"
        values.write_text(name_image(values.read_text(), repository, digest))
        run(source, "helm", "package", str(copy), "--destination", str(out))
    chart: dict[str, Any] = yaml.safe_load((source.root / CHART / "Chart.yaml").read_text())
    write_chart(out / "chart", out / f"{NAME}-{source.version}.tgz", chart, source.time)


def name_image(values: str, repository: str, digest: str) -> str:
    """The chart's values with another image. Raises `ValueError` where they have no place for it."""
    for name, value in (("repository", repository), ("digest", f'"{digest}"')):
        values, found = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", values, count=1, flags=re.MULTILINE)
        if not found:
            raise ValueError(f"values.yaml has no image.{name}")
    return values


def run(source: Source, *command: str) -> str:
    """Run a program in the checkout, with the commit's time and without what differs between machines.

    Raises `Refused` with its last lines.
    """
    fixed = {
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        # A copy of the checkout uses its own modules.
        "PYTHONPATH": f"{source.root}:{source.root / 'tools'}",
        "SCORM_WEBHOOKS_COMMIT": source.commit[:9],
        "SOURCE_DATE_EPOCH": str(source.epoch),
        "TZ": "UTC",
    }
    env = {**os.environ, **fixed}
    done = subprocess.run(command, cwd=source.root, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:]
        raise Refused(f"{' '.join(command[:3])} failed: {' / '.join(last)}")
    return done.stdout
