"""What a new addon begins as."""

import pytest

from sp_proxy.addons.source import look
from sp_proxy.addons.template import TEMPLATES, written


@pytest.mark.parametrize("kind, hook", [("capture", "exchange"), ("request", "request"), ("flow", "flow")])
def test_each_kind_is_an_addon(kind, hook):
    text = written(kind, "My_addon")
    assert look("/x/My_addon.py", text).hooks == (hook,)
    assert text.startswith('"""My_addon: ')
    assert set(TEMPLATES) == {"capture", "request", "flow"}
