"""Addons tried with a sample, and measured."""

from sp_proxy.addons.source import look
from sp_proxy.addons.trial import bench_capture, bench_request, try_capture, try_request

BOTH = look("/x/both.py", "def exchange(ex):\n    return [ex, ex.copy()]\ndef request(head):\n    pass\n")


async def test_a_capture_hook():
    assert await try_capture(BOTH) == ["exchange(ex): makes 2 of the sample"]
    cost = await bench_capture(BOTH, 0.05)
    assert cost.whole > cost.hook > 0
    assert cost.failed == 0


def test_a_request_hook():
    assert try_request(BOTH) == ["request(head): leaves the sample as it is"]
    assert bench_request(BOTH, 0.05).hook > 0


def test_a_request_hook_that_never_returns():
    endless = look("/x/endless.py", "def request(head):\n    while True:\n        pass\n")
    assert try_request(endless) == ["request(head): failed with the sample"]
