"""A workload's own settings say the same as variables as they would in a file."""

import pytest

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import load
from sp_proxy.sidecar.variables import as_variables


@pytest.mark.parametrize(
    "assignment, name, text",
    [
        ("service_name=y", "SP_PROXY_SERVICE_NAME", "y"),
        ("debug_headers=true", "SP_PROXY_DEBUG_HEADERS", "true"),
        (
            "netfilter.inbound_exclude_ports=[22, 8000-8100]",
            "SP_PROXY_NETFILTER__INBOUND_EXCLUDE_PORTS",
            '[22, "8000-8100"]',
        ),
        ("tags.Team=shop", "SP_PROXY_TAGS", '{"Team": "shop"}'),
        ("relay.workers=2", "SP_PROXY_RELAY__WORKERS", "2"),
    ],
)
def test_the_daemon_reads_what_was_meant(assignment, name, text):
    variables = as_variables([assignment])
    assert variables == {name: text}
    key, _, value = assignment.partition("=")
    assert load(None, variables, {}, sends=False).settings == load(None, {}, {key: value}, sends=False).settings


@pytest.mark.parametrize(
    "key", ["admin.listen", "netfilter.mode", "netfilter.user", "public_key", "shutdown.grace_period", "spool.max_size"]
)
def test_what_the_manifest_says_itself_is_refused_with_the_reason_and_without_the_value(key):
    with pytest.raises(SettingsError) as error:
        as_variables([f"{key}=s3cret"])
    (line,) = error.value.problems
    assert line.startswith(f"--set: {key}: not for a single workload: ")
    assert "s3cret" not in line


def test_mistakes_are_those_of_every_set():
    with pytest.raises(SettingsError, match="unknown key"):
        as_variables(["listen.inbund=1"])
    with pytest.raises(SettingsError, match="KEY=VALUE"):
        as_variables(["listen.inbound"])
