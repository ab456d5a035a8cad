"""Request hooks in a worker: what they cost when they fail, or take their time."""

import signal
from collections import defaultdict

import pytest

from sp_proxy.addons.heads import FIRST_PAUSE, FORGIVING, MAX_FAILED, STRIKES, RequestAddon, RequestHooks
from sp_proxy.core.exchange import Direction
from sp_proxy.core.head_edits import HeadEdit


class Clock:
    """Turns by what the hook takes."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def hooks(*texts: str, clock=None, state=None, budget=0.001, pure=False):
    addons = [RequestAddon(f"hook{n}", f"/x/hook{n}.py", text, pure, n) for n, text in enumerate(texts, 1)]
    return RequestHooks(addons, budget, defaultdict(int), state, clock or Clock())


def edit(made: RequestHooks, path: bytes = b"/") -> HeadEdit | None:
    return made.edit(Direction.INBOUND, b"GET", path, b"a", b"\r\nHost: a\r\n")


def test_one_after_the_other():
    made = hooks(
        "def request(head):\n    head.headers['x-a'] = '1'\n",
        "def request(head):\n    head.headers['x-b'] = head.headers['x-a'] + '2'\n",
    )
    assert edit(made) == HeadEdit((b"x-a", b"x-b"), b"x-a: 1\r\nx-b: 12\r\n")
    assert made._counters["addon_requests:hook1"] == 1
    assert not made.pure
    assert hooks("def request(head): ...", pure=True).pure


@pytest.mark.parametrize("what", ["1 / 0", "raise SystemExit", "raise KeyboardInterrupt", "head.headers['host'] = 'x'"])
def test_one_that_raises_costs_its_own_effect(what, caplog):
    made = hooks(
        f"def request(head):\n    head.tag('lost', 1)\n    {what}\n",
        "def request(head):\n    head.tag('kept', 1)\n",
    )
    for _ in range(3):
        assert edit(made, b"/secret") == HeadEdit(tags=(("kept", "1"),))
    assert made._counters["addon_request_faults:hook1"] == 3
    assert len(caplog.records) == 1
    assert "/x/hook1.py:3" in caplog.text
    assert "secret" not in caplog.text


def test_too_many_fields_are_a_fault_of_the_hook():
    made = hooks("def request(head):\n    head.headers['x'] = 'x' * 20000\n")
    assert edit(made) is None
    assert made._counters["addon_request_faults:hook1"] == 1


def test_a_slow_one_is_left_out_for_a_while():
    clock = Clock()
    made = hooks("def request(head):\n    slow(head)\n", clock=clock)

    def slow(head):
        clock.now += 2_000_000
        head.tag("seen", 1)

    made._hooks[0].call.__globals__["slow"] = slow
    assert [edit(made) is not None for _ in range(STRIKES + 2)] == [True] * STRIKES + [False] * 2
    assert made._counters["addon_switched_off:hook1"] == 1
    clock.now += round(FIRST_PAUSE * 1e9)
    assert [edit(made) is not None for _ in range(2)] == [True, False]
    clock.now += round(FIRST_PAUSE * 1e9)
    assert edit(made) is None
    clock.now += round(FIRST_PAUSE * 1e9)
    assert edit(made) is not None


def test_one_that_fails_call_after_call_is_left_out_for_a_while(caplog):
    clock = Clock()
    made = hooks("def request(head):\n    if head.path == '/bad': 1 / 0\n    head.tag('seen', 1)\n", clock=clock)
    for _ in range(MAX_FAILED - 1):
        assert edit(made, b"/bad") is None
    assert edit(made) is not None  # one good call, and it begins anew
    for _ in range(MAX_FAILED):
        assert edit(made) is not None
        assert edit(made, b"/bad") is None
    for _ in range(MAX_FAILED - 1):
        edit(made, b"/bad")
    assert edit(made) is None
    assert made._counters["addon_switched_off:hook1"] == 1
    assert "failed 50 times in a row: left out for a while" in caplog.text
    clock.now += round(FIRST_PAUSE * 1e9)
    assert edit(made) is not None


def test_being_late_now_and_then_is_forgiven():
    clock = Clock()
    made = hooks("def request(head):\n    slow()\n    head.tag('seen', 1)\n", clock=clock)
    calls = 0

    def slow():
        nonlocal calls
        calls += 1
        clock.now += 2_000_000 if calls % (FORGIVING + 1) == 0 else 1

    made._hooks[0].call.__globals__["slow"] = slow
    assert all(edit(made) for _ in range(STRIKES * 2 * FORGIVING))


def test_who_runs_stands_in_the_shared_memory():
    state = memoryview(bytearray(8)).cast("Q")
    made = hooks("def request(head):\n    pass\n", "def request(head):\n    look()\n", state=state)
    seen = []
    made._hooks[1].call.__globals__["look"] = lambda: seen.append(state[0])
    edit(made)
    edit(made)
    assert seen == [2 << 8 | 2, 4 << 8 | 2]
    assert state[0] == 0


def test_one_that_cannot_be_run_is_left_out(caplog):
    made = hooks("import nowhere\ndef request(head): ...\n", "def request(head):\n    head.tag('kept', 1)\n")
    assert edit(made) is not None
    assert "addon hook1 cannot be run: ModuleNotFoundError at /x/hook1.py:1" in caplog.text


def test_where_nobody_looks_a_call_that_does_not_return_is_ended():
    text = "def request(head):\n    head.tag('lost', 1)\n    while True: pass\n"
    made = RequestHooks([RequestAddon("one", "/x/one.py", text)], 0.001, defaultdict(int), interrupt=0.1)
    assert [edit(made) for _ in range(2)] == [None] * 2
    assert made._counters["addon_request_faults:one"] == 1
    assert made._counters["addon_switched_off:one"] == 1


def test_a_call_is_ended_by_a_signal_and_nothing_else_is():
    text = "def request(head):\n    head.tag('one', 1)\n    if head.path == '/': wait()\n"
    made = RequestHooks([RequestAddon("one", "/x/one.py", text)], 0.001, defaultdict(int))
    before = signal.signal(signal.SIGALRM, made.interrupt)
    try:
        signal.raise_signal(signal.SIGALRM)
        made._hooks[0].call.__globals__["wait"] = lambda: signal.raise_signal(signal.SIGALRM)
        assert [edit(made), edit(made)] == [None, None]
        signal.raise_signal(signal.SIGALRM)
        assert made._counters["addon_request_faults:one"] == 1
        assert made._counters["addon_switched_off:one"] == 1
    finally:
        signal.signal(signal.SIGALRM, before)
