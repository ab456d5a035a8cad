"""A store of SQLite in memory."""

import pytest

from sp_proxy.backend.sqlite.database import open_writer


@pytest.fixture
def connection():
    opened = open_writer(":memory:")
    yield opened
    opened.close()
