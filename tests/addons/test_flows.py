"""Flow scripts are loaded elsewhere, with their options, before they come into force."""

import pytest

from sp_proxy.addons.flows import check_flows, flow_scripts
from sp_proxy.addons.source import AddonError, look
from sp_proxy.mitm.config import FlowScriptConfig
from sp_proxy.settings.addons import Addons

DELAY = """def load(loader):
    loader.add_option("delay_ms", int, 0, "How long")
def request(flow): ...
"""


def script(text: str, **options: str) -> FlowScriptConfig:
    return FlowScriptConfig("one", "/x/one.py", text, (".",), options)


def test_what_the_worker_is_told():
    flows = [{"file": "/x/one.py", "hosts": ["^a"], "options": {"delay_ms": "5"}}]
    (made,) = flow_scripts(
        Addons.model_validate({"flows": flows}), [look("/x/two.py", "def exchange(ex): ..."), look("/x/one.py", DELAY)]
    )
    assert made == FlowScriptConfig("one", "/x/one.py", DELAY, ("^a",), {"delay_ms": "5"})


def test_good_ones_pass():
    check_flows([])
    check_flows([script(DELAY, delay_ms="5")])


@pytest.mark.parametrize(
    "made, said",
    [
        (
            script(DELAY, delay_ms="soon"),
            r"^addons\.flows: /x/one\.py: options\.delay_ms: found 'soon'; allowed: a whole",
        ),
        (script(DELAY, delay="5"), r"^addons\.flows: /x/one\.py: options\.delay: unknown option; allowed: delay_ms$"),
        (script("def load(loader):\n    1 / 0\n"), r"^/x/one\.py:2: ZeroDivisionError"),
        (script("import os; os._exit(0)"), r"running them ended the process: /x/one\.py$"),
    ],
)
def test_bad_ones_are_one_line(made, said):
    with pytest.raises(AddonError, match=said):
        check_flows([made])
