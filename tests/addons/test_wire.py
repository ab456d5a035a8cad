"""Frames between the exporter and a hook's process."""

import socket

import msgspec
import pytest

from sp_proxy.addons import wire
from sp_proxy.addons.exchange import unchanged
from sp_proxy.addons.wire import Done, Emitted, Fault, Loaded, Setup, Task
from tests.exporter.rig import make_exchange, make_exchanges


def test_messages_come_through():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        setup = Setup("a", "/a.py", "x", 1.0, 5)
        task = Task(make_exchanges(3), 0.5)
        ours.sendall(wire.frame(setup) + wire.frame(task))
        assert wire.decode_setup(wire.read(theirs)) == setup
        assert wire.decode_task(wire.read(theirs)) == task
        ours.sendall(b"\0\0")
        ours.close()
        assert wire.read(theirs) == b""


@pytest.mark.parametrize("answer", [Loaded(Fault("x", 1)), Done([1], [], [2], [3], [], [], ["said"], 0.1)])
def test_answers_come_through(answer):
    assert wire.decode_answer(wire.frame(answer)[4:]) == answer


def test_too_long_ones_are_refused(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 100)
    with pytest.raises(ValueError, match="limit 100"):
        wire.frame(Task(make_exchanges(3), 0.5))
    with pytest.raises(ValueError, match="limit 100"):
        wire.length(b"\0\0\1\0")


def test_answers_that_name_other_records_are_not_sound():
    empty = Done([], [], [], [], [], [], [], 0.0)
    assert wire.is_sound(empty, 1)
    change = unchanged(make_exchange(), 0)
    tagged = msgspec.structs.replace(change, tags=(("a\nb", "1"),))
    good = {"replaced": [0], "changed": [change], "emitted": [Emitted("a", (("b", "c"),), 1.0, 0)]}
    assert wire.is_sound(msgspec.structs.replace(empty, **good), 1)
    for values in (
        {"replaced": [1]},
        {"failed": [-1]},
        {"skipped": [0, 0]},
        {"changed": [change]},
        {"replaced": [0], "changed": [change] * 33},
        {"replaced": [0], "changed": [tagged]},
        {"replaced": [0], "changed": [msgspec.structs.replace(change, name="x" * 9999)]},
        {"emitted": [Emitted("a b", (), 1.0, 0)]},
        {"emitted": [Emitted("a", (('b"', "c"),), 1.0, 0)]},
        {"emitted": [Emitted("a", (("b", "c"), ("b", "d")), 1.0, 0)]},
        {"faults": [Fault("x" * 9999, 1)]},
    ):
        assert not wire.is_sound(msgspec.structs.replace(empty, **values), 1)
