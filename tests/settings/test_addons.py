"""The section ``addons``."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.addons import Addons


def test_nothing_is_run_unless_it_is_named():
    addons = Addons()
    assert (addons.files, addons.directory, addons.flows) == ([], "", [])


def test_flow_scripts_claim_hosts():
    addons = Addons.model_validate(
        {"flows": [{"file": "/a.py", "hosts": ["^api\\."], "options": {"addheader": "true"}}]}
    )
    assert addons.flows[0].options == {"addheader": "true"}
    for wrong in (
        {"file": "/a.py"},
        {"file": "/a.py", "hosts": []},
        {"file": "", "hosts": ["a"]},
        {"file": "/a", "hosts": ["("]},
    ):
        with pytest.raises(ValidationError):
            Addons.model_validate({"flows": [wrong]})


@pytest.mark.parametrize(
    "values", [{"call_budget": "0"}, {"batch_budget": "1h"}, {"max_memory": "1MiB"}, {"files": [""]}]
)
def test_limits_are_limits(values):
    with pytest.raises(ValidationError):
        Addons.model_validate(values)
