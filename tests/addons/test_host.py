"""The process of a hook, in this process: what it answers."""

import msgspec
import pytest

from sp_proxy.addons.host import MAX_LINE, Said, Work
from sp_proxy.addons.wire import MAX_SAID, Setup, Task
from tests.exporter.rig import make_exchanges

SETUP = Setup("hook", "/x/hook.py", "", 30.0, 1 << 40)


def worked(hook, count=3, seconds=60.0):
    work = Work(SETUP, hook, Task(make_exchanges(count), seconds))
    work.run()
    return work.done([])


def test_what_hooks_leave_alone_is_not_sent_back():
    done = worked(lambda ex: ex.request.headers.get("host") and None)
    assert (done.replaced, done.changed, done.failed, done.skipped) == ([], [], [], [])


def test_drops_and_changes_and_splits():
    def hook(ex):
        number = int(ex.query["n"])
        if number == 1:
            ex.drop()
        elif number == 2:
            ex.tag("a", 1)
        else:
            return [ex.copy(), ex.copy()]
        return None

    done = worked(hook)
    assert done.replaced == [0, 1, 2]
    assert [each.of for each in done.changed] == [1, 2, 2]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_costs_the_record_and_its_metrics(error):
    def hook(ex):
        ex.count("seen")
        if ex.query["n"] == "2":
            raise error

    done = worked(hook)
    assert done.failed == [1]
    assert len(done.emitted) == 2
    assert [each.kind for each in done.faults] == [error.__name__]


def test_without_time_nothing_is_called():
    assert worked(lambda ex: ex.drop(), seconds=0.0).skipped == [0, 1, 2]


async def test_async_hooks_are_called_likewise():
    async def hook(ex):
        ex.count("seen")
        if ex.query["n"] == "2":
            raise ValueError

    work = Work(SETUP, hook, Task(make_exchanges(3), 60.0))
    await work.run_async()
    done = work.done(["line"])
    assert (done.failed, done.said, len(done.emitted)) == ([1], ["line"], 3)
    assert msgspec.to_builtins(done)


def test_prints_become_few_short_lines():
    said = Said()
    print("one", 1, file=said)
    print("two", end="", file=said)
    assert said.take() == ["one 1"]
    print("x" * 9000, file=said)
    assert [len(line) for line in said.take()] == [MAX_LINE]
    print("\n" * 5 + "y\n" * 1000, file=said)
    assert said.take() == ["y"] * MAX_SAID
