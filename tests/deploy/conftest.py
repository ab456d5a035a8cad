"""The image, built once for all tests here."""

from collections.abc import Iterator

import pytest

from tests.deploy.image import Image, built_image


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    with built_image() as image:
        yield image
