import json

import pytest

from sp_proxy.mock.daemon import daemon_settings
from sp_proxy.replay.problems import ReplayError
from sp_proxy.settings.engine import inject_config
from sp_proxy.settings.flags import parse_assignments
from sp_proxy.settings.source import Source


def test_a_daemon_with_them_looks_answers_up_where_it_sends_to():
    given = daemon_settings("session:one path:/a*", ["^payment"])
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
    words.append("sp_backend_url=http://127.0.0.1:4999")
    config = inject_config(Source(None, {}, parse_assignments(words)).load().settings)
    assert config.url == "http://127.0.0.1:4999/v1/inject?q=session%3Aone+path%3A%2Fa%2A"
    assert (config.hosts, config.timeout) == (("^payment",), 5.0)


def test_a_query_that_is_none():
    with pytest.raises(ReplayError, match="column 1: 'servise' is not a field"):
        daemon_settings("servise:x")
