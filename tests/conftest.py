"""What holds for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# A test says the same today and tomorrow; `make fuzz` is for what nobody has thought of yet.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")

REAL = {
    *("addons", "backend", "benchmarks", "browser", "cli", "demo", "deploy", "dev", "doctor", "e2e", "exporter"),
    *("fuzz", "mitm", "netfilter", "relay", "supervisor"),
}
"""Here tests start daemons, browsers and peers, or threads with sockets, and wait for them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What depends on when a dozen processes get a busy machine's cores has a second try, which the summary tells of."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in REAL:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _logging_as_it_comes() -> Iterator[None]:
    """A test that configures the logs, as the daemon does, leaves nothing of it to the next one."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
