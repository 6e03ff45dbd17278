"""A registry on this machine, a throw-away key, and a release of this checkout."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import pytest

import parts
from conftest import left_out
from publication.published import BUILD, VERSION, ImageRegistry, Released, release_words
from real.image import ARM64_BASE, BASE, ensure_base
from real.process import Process, free_ports


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    program = parts.image_registry() or left_out("registry of images")
    folder = tmp_path_factory.mktemp("registry")
    [port] = free_ports(1)
    registry = ImageRegistry(port, folder / "data")
    running = Process(registry.command(program), log=folder / "log")
    try:
        running.wait_until(registry.responds)
        yield registry
    finally:
        running.end(SIGTERM)


@pytest.fixture(scope="session")
def released(image_registry: ImageRegistry) -> Iterator[Released]:
    """A release of this checkout's commit, with a date in its changelog, pushed to the registry."""
    cosign, kube = parts.cosign() or left_out("cosign"), parts.kube() or left_out("helm and kubectl")
    for base in (BASE, ARM64_BASE):
        ensure_base("buildah", "bud", "--isolation", "chroot", base=base)
    # Below the checkout: the Python of the image's base sees it there.
    (parts.ROOT / "dist").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="release-", dir=parts.ROOT / "dist"))
    checkout = folder / "checkout"
    env = {
        **os.environ,
        "BUILD_IMAGE": BUILD,
        "COSIGN_PASSWORD": "throw-away",
        "PATH": f"{cosign.parent}:{kube / 'bin'}:{os.environ['PATH']}",
    }
    try:
        subprocess.run(["git", "clone", "--quiet", parts.ROOT, checkout], check=True)
        for brought in (".parts", ".uv"):
            (checkout / brought).symlink_to(parts.ROOT / brought)
        changelog = checkout / "CHANGELOG.md"
        changelog.write_text(changelog.read_text().replace(f"{VERSION} (not released)", f"{VERSION} (2026-12-24)"))
        person = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        subprocess.run(
            ["git", *person, "commit", "--quiet", "--allow-empty", "--all", "--message", "Release"],
            cwd=checkout,
            check=True,
        )
        (checkout / "dist").mkdir()
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True)
        (checkout / "dist" / "green").write_text(commit.stdout)
        generate: list[str | Path] = [cosign, "generate-key-pair", "--output-key-prefix", checkout / "dist" / "cosign"]
        subprocess.run(generate, cwd=checkout / "dist", env=env, check=True, capture_output=True)
        released = Released(checkout, env, "")
        done = released.make("release", *release_words(released, image_registry))
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield Released(checkout, env, done.stdout)
    finally:
        shutil.rmtree(folder)
