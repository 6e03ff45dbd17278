"""Files of others are what they published."""

import hashlib

import pytest
from house.test_house import ROOT

STATIC = ROOT / "api" / "shell" / "static"
# The file, its version, and the SHA-256 of the file in its release.
FILES = [("htmx.min.js", "2.0.11", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717")]


@pytest.mark.parametrize(("name", "version", "sha256"), FILES)
def test_a_vendored_file_is_unchanged_and_has_its_licence(name: str, version: str, sha256: str) -> None:
    content = (STATIC / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    assert f'version:"{version}"'.encode() in content
    assert (STATIC / f"{name.partition('.')[0]}.LICENSE.txt").read_text()
