"""What holds for every test."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# A test says the same today and tomorrow; `make fuzz` is for what nobody has thought of yet.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def _logging_as_it_comes() -> Iterator[None]:
    """A test that configures the logs, as the daemon does, leaves nothing of it to the next one."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
