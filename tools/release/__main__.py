"""`python -m release`: build, sign and push the release of this commit, or build it twice and compare."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.building import ARCHITECTURES, build_all
from release.entry import entry
from release.registry import Registry
from release.signing import Signer
from release.source import (
    Refused,
    Source,
    read_source,
    refuse_bases,
    refuse_push,
    refuse_unready,
    require_programs,
)
from release.statements import SUMS, hashes_of, write_provenance, write_sboms, write_sums

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = ("127.0.0.1", "localhost")


def main() -> int:
    given = parse_arguments()
    try:
        source = read_source(ROOT)
        refuse_bases(list(given.bases.values()))
        require_programs("buildah", "helm", *(() if given.twice else ("cosign",)), *(("skopeo",) if given.push else ()))
        return compare_two_builds(source, given) if given.twice else release(source, given)
    except Refused as refused:
        print(f"make release: {refused}", file=sys.stderr)
        return 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--base", default="", help="the image's base for amd64, by digest")
    parser.add_argument("--base-arm64", default="", help="the image's base for arm64, by digest")
    parser.add_argument(
        "--key", default="", help="cosign's private key, its password is in COSIGN_PASSWORD; or keyless"
    )
    parser.add_argument("--sigstore", default="", help="a folder that describes another Sigstore than the public one")
    parser.add_argument("--push", default="", help="push to this registry and namespace: registry.example.com/team")
    parser.add_argument("--source-url", default="", help="where the source is, for the image's label")
    parser.add_argument("--debsbom", default="debsbom", help="the program that lists Debian packages")
    parser.add_argument("--twice", action="store_true", help="build twice and compare; sign and push nothing")
    given = parser.parse_args()
    given.bases = dict(zip(ARCHITECTURES, (given.base, given.base_arm64), strict=True))
    return given


def release(source: Source, given: argparse.Namespace) -> int:
    """Build into dist/<version>, sign, and push where that is asked for."""
    refuse_unready(source)
    is_plain_http = given.push.partition(":")[0].partition("/")[0] in LOOPBACK
    signer = Signer(given.key or "cosign.key", sigstore=given.sigstore, is_plain_http=is_plain_http)
    registry = None
    with step("checking the key and the registry"):
        signer.check()
        if given.push:
            refuse_push(given.push)
            registry = Registry(given.push, is_plain_http=is_plain_http)
            registry.refuse_published(source.version)
    out = source.root / "dist" / source.version
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    build(source, given, out)
    with step("signing"):
        signer.sign_file(out / SUMS)
    if registry:
        with step(f"pushing to {given.push}"):
            registry.push(out, source.version, signer)
    print(f"\n{out.relative_to(source.root)} is the release of {source.commit}. Now add it to releases.toml:\n")
    print(entry(source))
    return 0


def build(source: Source, given: argparse.Namespace, out: Path) -> None:
    """All files of a release but the signature."""
    with step("building wheels, images and the chart"):
        build_all(source, given.bases, given.push, given.source_url, out)
    with step("listing packages and hashes"):
        write_sboms(source, str(Path(given.debsbom).absolute()) if "/" in given.debsbom else given.debsbom, out)
        parameters = {"base": given.base, "baseArm64": given.base_arm64, "push": given.push, "source": given.source_url}
        write_provenance(source, parameters, out)
        write_sums(out)


def compare_two_builds(source: Source, given: argparse.Namespace) -> int:
    """Build here and in a clone with another path, and say which files differ."""
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        clone, first, second = (Path(folder, name) for name in ("another checkout", "first", "second"))
        subprocess.run(["git", "clone", "--quiet", "--no-tags", source.root, clone], check=True)
        for tools in (".venv", ".uv"):
            if (source.root / tools).exists():
                (clone / tools).symlink_to((source.root / tools).resolve())
        for checkout, out in ((source, first), (read_source_of(clone, source), second)):
            out.mkdir()
            build(checkout, given, out)
        hashes, others = hashes_of(first), hashes_of(second)
    different = sorted(name for name in {*hashes, *others} if hashes.get(name) != others.get(name))
    for name in different:
        print(f"differs: {name}")
    print(f"{len(hashes) - len(different)} of {len(hashes)} files are the same in two builds")
    return 1 if different else 0


def read_source_of(clone: Path, source: Source) -> Source:
    return Source(clone, source.version, source.commit, source.time)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say what is done now, and how long it took."""
    began = time.monotonic()
    print(f"{name} … ", end="", flush=True)
    yield
    print(f"{time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
