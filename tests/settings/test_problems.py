"""The form of the lines."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.problems import lines


def told(values: dict[str, object]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        SettingsModel.model_validate(values)
    return lines(caught.value, lambda path: f"f:{len(path)}")


@pytest.mark.parametrize(
    "values,line",
    [
        ({"listen": {"inbound": 0}}, "f:2: listen.inbound: found 0; allowed: a port (1 to 65535) or HOST:PORT, or off"),
        ({"listen": {"inbund": 1}}, "f:2: listen.inbund: unknown key; nearest known key: listen.inbound (allowed here: inbound, outbound, forward, proxy)"),
        ({"listen": {"forward": [{"listen": 1}]}}, "f:4: listen.forward[0].upstream: missing; needed: HOST:PORT of the application"),
        ({"listen": 5}, "f:1: listen: found 5; allowed: a mapping"),
        ({"exemptionRules": {}}, "f:1: exemptionRules: found a mapping; allowed: a list"),
        ({"tags": []}, "f:1: tags: found a list; allowed: a mapping"),
        ({"tags": {"a": 3}}, "f:2: tags.a: found 3; allowed: text (put it in quotes)"),
        ({"tags": {" ": "b"}}, 'f:2: tags." ": found the name " "; allowed: a name without control characters'),
        ({"service_name": False}, "f:1: service_name: found false; allowed: text (YAML reads on, off, yes and no as true and false: put it in quotes)"),
        ({"public_key": 123}, "f:1: public_key: found ***; allowed: text (put it in quotes)"),
        ({"public_key": "hunt er2"}, "f:1: public_key: found ***; allowed: printable ASCII without spaces (it is sent as a header)"),
        ({"public_key": ["hunter2"]}, "f:1: public_key: found a list; allowed: text"),
        ({"sp_backend_url": "ftp://u:hunter2@h"}, 'f:1: sp_backend_url: found "ftp://***@h"; allowed: a URL, http://HOST or https://HOST, with port and path if need be, without query or fragment'),
        ({"strict": "rwa"}, 'f:1: strict: found "rwa"; allowed: raw or reject'),
        ({"debug_headers": "maybe"}, 'f:1: debug_headers: found "maybe"; allowed: true or false'),
        ({"relay": {"workers": 0}}, "f:2: relay.workers: found 0; allowed: at least 1"),
        ({"relay": {"workers": 65}}, "f:2: relay.workers: found 65; allowed: at most 64"),
        ({"relay": {"workers": True}}, "f:2: relay.workers: found true; allowed: a number"),
        ({"relay": {"workers": 1.5}}, "f:2: relay.workers: found 1.5; allowed: a whole number"),
        ({"retry": {"multiplier": "x"}}, 'f:2: retry.multiplier: found "x"; allowed: a number'),
        ({"retry": {"multiplier": 0.5}}, "f:2: retry.multiplier: found 0.5; allowed: at least 1"),
        ({"upload": {"timeout": 0}}, "f:2: upload.timeout: found 0; allowed: more than 0"),
        ({"backend": {"database": ""}}, 'f:2: backend.database: found ""; allowed: text that is not empty'),
        ({"collectionRules": {"http": {"server": [{"path": "("}]}}}, 'f:5: collectionRules.http.server[0].path: found "("; allowed: a regular expression (missing ), unterminated subpattern at position 0)'),
    ],
)  # fmt: skip
def test_a_line_for_each_mistake(values, line):
    assert told(values) == [line]


def test_several_mistakes_are_several_lines():
    assert len(told({"strict": 1, "typo": 2, "relay": {"workers": 0}})) == 3
