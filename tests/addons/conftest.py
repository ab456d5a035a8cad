"""What tests of addons share."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture
def log() -> Iterator[list[Any]]:
    """Lines of the log of this process."""
    with capture_logs() as lines:
        yield lines
