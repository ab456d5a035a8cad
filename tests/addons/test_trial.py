"""Addons tried with a sample, and measured."""

import subprocess
import sys

import pytest

from sp_proxy.addons import trial
from sp_proxy.addons.source import look
from sp_proxy.addons.trial import TOLD, UselessError, bench_capture, bench_request, try_capture, try_request

BOTH = look("/x/both.py", "def exchange(ex):\n    return [ex, ex.copy()]\ndef request(head):\n    pass\n")


async def test_a_capture_hook():
    assert await try_capture(BOTH) == ["exchange(ex): makes 2 of the sample"]
    cost = await bench_capture(BOTH, 0.05)
    assert cost.whole > cost.hook > 0
    assert cost.failed == 0


def test_a_request_hook():
    assert try_request(BOTH) == ["request(head): leaves the sample as it is"]
    assert bench_request(BOTH, 0.05).hook > 0


async def test_a_hook_that_fails_is_not_measured():
    with pytest.raises(
        UselessError, match=r"^exchange\(ex\): failed with the sample: ZeroDivisionError at /x/a\.py:2;"
    ):
        await bench_capture(look("/x/a.py", "def exchange(ex):\n    1 / 0\n"), 30.0)
    endless = look("/x/endless.py", "def request(head):\n    while head.path != '/v2/orders/0': pass\n")
    with pytest.raises(UselessError, match=r"^request\(head\): failed again and again, or did not return"):
        bench_request(endless, 0.1)


async def test_what_a_hook_prints_is_told():
    text = "def exchange(ex):\n    print(ex.method, ex.path, ex.host, ex.direction, ex.status)\n"
    assert (await try_capture(look("/x/a.py", text)))[1:] == [
        "  prints POST /v2/orders/17?page=3 orders.shop:8080 inbound 200"
    ]
    assert "POST /v2/orders/17?page=3 of orders.shop:8080, inbound, answered with 200" in TOLD


async def test_a_wrong_return_value_is_said():
    (said,) = await try_capture(look("/x/ret.py", "import math\n\ndef exchange(ex):\n    return 5\n"))
    assert said.startswith("exchange(ex): failed with the sample: wrong return value (allowed: None, or a list of ex")
    assert said.endswith(" at /x/ret.py:3")


def test_one_that_swallows_everything_ends_the_process_that_tries_it(tmp_path):
    file = tmp_path / "greedy.py"
    file.write_text(
        "def request(head):\n    while True:\n        try:\n            for _ in range(1 << 60): len('a')\n        except: pass\n"
    )
    for words in (["check"], ["bench", "--seconds", "0.1"]):
        command = [sys.executable, "-m", "sp_proxy.cli.main", "addon", words[0], str(file), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        assert done.stderr.endswith("greedy.py: request(head) does not return, and swallows what would end it\n")


def test_a_request_hook_that_never_returns():
    endless = look("/x/endless.py", "def request(head):\n    while True:\n        pass\n")
    assert try_request(endless) == ["request(head): failed with the sample"]


def test_what_stands_at_the_top_of_a_file_takes_no_time_of_the_call(monkeypatch):
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 0.1)
    slow = look("/x/slow.py", "import time\ntime.sleep(0.5)\ndef request(head):\n    head.tag('seen', 1)\n")
    assert try_request(slow) == ["request(head): changes the sample", "  tag seen: 1"]
