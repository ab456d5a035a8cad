"""Options of flow scripts: what is given is set, and what does not fit is said in a line, with what would."""

from collections.abc import Sequence

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from sp_proxy.mitm.config import FlowScriptConfig
from sp_proxy.mitm.script_options import set_options


def declared() -> tuple[Options, frozenset[str]]:
    options = Options()
    others = frozenset(options.keys())
    options.add_option("step", int, 1, "")
    options.add_option("limit", int | None, None, "")
    options.add_option("loud", bool, False, "")
    options.add_option("colour", str, "red", "", ["red", "blue"])
    options.add_option("names", Sequence[str], [], "")
    return options, others


def given(**values: str) -> Options:
    options, others = declared()
    set_options([FlowScriptConfig("one", "/x/one.py", "", (".",), values)], options, others)
    return options


def test_values_of_each_kind():
    options = given(step="7", limit="", loud="true", colour="blue", names="a,b")
    assert (options.step, options.limit, options.loud, options.colour, options.names) == (
        7,
        None,
        True,
        "blue",
        ["a,b"],
    )
    assert not given(websocket="false").websocket  # mitmproxy's own may be set


@pytest.mark.parametrize(
    "values, said",
    [
        ({"step": "x"}, "options.step: found 'x'; allowed: a whole number"),
        ({"step": ""}, "options.step: found ''; allowed: a whole number"),
        ({"limit": "x"}, "options.limit: found 'x'; allowed: a whole number"),
        ({"loud": "yes"}, "options.loud: found 'yes'; allowed: true or false"),
        ({"colour": "green"}, "options.colour: found 'green'; allowed: red, blue"),
        ({"steps": "1"}, "options.steps: unknown option; allowed: colour, limit, loud, names, step"),
    ],
)
def test_what_does_not_fit(values, said):
    with pytest.raises(ValueError) as found:
        given(**values)
    assert str(found.value) == f"addons.flows: /x/one.py: {said}"


def test_what_a_script_itself_refuses():
    options, others = declared()

    def refuse(_updated: object, _which: object) -> None:
        raise OptionsError("step must be\neven")

    options.subscribe(refuse, ["step"])
    with pytest.raises(ValueError, match=r"^addons\.flows: options: step must be even$"):
        set_options([FlowScriptConfig("one", "/x/one.py", "", (".",), {"step": "3"})], options, others)
