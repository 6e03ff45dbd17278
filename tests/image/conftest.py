"""The image, built once and run as a cluster runs it: as another user, without a writable root."""

from collections.abc import Iterator

import pytest

import parts
from conftest import left_out
from real.image import Image, build_image


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    for part, where in (("image builder", parts.image_builder), ("base of the image", parts.image_base)):
        if not where():
            left_out(part)
    built = build_image()
    try:
        yield built
    finally:
        built.remove()
