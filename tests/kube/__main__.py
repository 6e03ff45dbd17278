"""`python -m kube`: brings what is missing, builds the images, and runs these tests in namespaces of their own."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import parts
from kube.images import build_images
from kube.namespaces import run_inside

BROUGHT = (
    *("Kafka", "buildah", "base of the image", "helm and kubectl", "container runtime"),
    *("skopeo", "registry of images"),
)
FOLDER = "SCORM_WEBHOOKS_KUBE_FOLDER"
LEFT_OUT = "left out: tests on a real Kubernetes"


def main(arguments: list[str]) -> int:
    if missing := parts.missing_kube_programs():
        built = "`make kube-binaries` builds them in about 30 minutes, once"
        return leave_out(f"{', '.join(missing)} missing in {parts.KUBE_BINARIES}; {built}")
    if os.geteuid() != 0:
        return leave_out("they need root")
    if not bring():
        return 1
    build_images()
    folder = Path(tempfile.mkdtemp(prefix="kube-"))
    os.environ[FOLDER] = str(folder)
    # helm packs the chart as `make release` does.
    os.environ["PATH"] = f"{parts.KUBE / 'bin'}:{os.environ['PATH']}"
    # The tests are the story of one release: after a failure the rest says nothing.
    options = ["-m", "kube", "--exitfirst", "-o", "faulthandler_timeout=900"]
    tests = [sys.executable, "-m", "pytest", *options, str(Path(__file__).parent), *arguments]
    code = run_inside(tests, folder)
    if code:
        print(f"the logs are in {folder}", flush=True)
    else:
        shutil.rmtree(folder)
    return code


def leave_out(reason: str) -> int:
    """These tests alone may be missing in CI: building Kubernetes there takes too long."""
    print(f"{LEFT_OUT} ({reason})", flush=True)
    return 0 if parts.in_ci() else 1


def bring() -> bool:
    """Whether everything else is there now. What cannot be had has a line of its own."""
    brought = [parts.bring(part) for part in (*parts.ALL, *parts.OF_KUBE, *parts.OF_RELEASE) if part[0] in BROUGHT]
    return all(brought)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
