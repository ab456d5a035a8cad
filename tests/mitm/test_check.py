"""What the process says that loads flow scripts. As it is started: ``tests/addons/test_flows.py``."""

from sp_proxy.mitm import check
from sp_proxy.mitm.config import FlowScriptConfig, encode_scripts


def problem(text: str, **options: str) -> str:
    return check._problem(encode_scripts((FlowScriptConfig("one", "/x/one.py", text, (".",), options),)))


def test_what_can_be_loaded():
    assert problem("from mitmproxy import http\ndef request(flow: http.HTTPFlow): ...\n") == ""


def test_what_cannot(monkeypatch):
    assert problem("def request(flow): ...\n", delay="1").startswith("addons.flows: /x/one.py: options.delay: unknown")
    assert problem("raise ValueError('no')\ndef request(flow): ...\n") == "/x/one.py:1: ValueError: no"
    monkeypatch.setattr(check, "LOAD_SECONDS", 0.2)
    assert problem("while True: pass\n").startswith("/x/one.py:1: cannot be loaded within 0.2 s")
