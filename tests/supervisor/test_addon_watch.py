"""Request hooks that hold up a worker, or end it: found, and not started again."""

import subprocess
import sys

import pytest
import trio

from sp_proxy.addons.heads import RequestAddon
from sp_proxy.supervisor.addon_watch import AddonLimits, Switchboard, Watched

ADDONS = [RequestAddon(name, f"/x/{name}.py", "", place=place) for place, name in enumerate(("one", "two", "three"), 1)]


def names(board: Switchboard) -> list[str]:
    return [each.name for each in board.on]


async def test_who_was_running_is_left_out():
    board = Switchboard(ADDONS)
    board.blame(2, "did not return")
    assert names(board) == ["one", "three"]
    assert board.off == {"two": "did not return"}


async def test_deaths_without_anybody_to_blame_have_one_after_the_other_left_out(autojump_clock):
    del autojump_clock
    board = Switchboard(ADDONS)
    board.blame(0, "exit code 1")
    await trio.sleep(61)
    board.blame(0, "exit code 1")
    assert len(board.on) == 3
    seen = []
    for _ in range(5):
        await trio.sleep(1)
        board.blame(0, "exit code 1")
        seen.append(names(board))
    assert seen == [["two", "three"], ["one", "three"], ["one", "two"], [], []]


async def test_the_one_without_which_workers_live_stays_out(autojump_clock):
    del autojump_clock
    board = Switchboard(ADDONS)
    for _ in range(3):
        board.blame(0, "exit code 1")
    assert names(board) == ["one", "three"]
    await trio.sleep(61)
    board.blame(0, "exit code 1")
    assert names(board) == ["one", "three"]
    board.blame(3, "did not return")
    board.blame(0, "exit code 1")
    assert names(board) == []


WORKER = """
import mmap, signal, sys, time
class Ended(BaseException): pass
def end(*_): raise Ended
signal.signal(signal.SIGALRM, {heard})
state = memoryview(mmap.mmap(int(sys.argv[1]), 8)).cast("Q")
number, kept = 0, []
while True:
    number += 1
    state[0] = number << 8 | 3
    try:
        {inside}
    except Ended:
        print("ended", flush=True)
    state[0] = 0
"""


@pytest.mark.parametrize(
    "inside, reason",
    [
        ("time.sleep(600)", "did not return within 1 s"),
        ("while True: kept.append(bytearray(1 << 20)); time.sleep(0.001)", "took more than 64 MiB"),
    ],
)
async def test_a_worker_in_the_hands_of_a_hook_is_ended(inside, reason):
    with Watched() as watched, trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", WORKER.format(inside=inside, heard="signal.SIG_IGN"), str(watched.fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=[watched.fd],
        )
        limits = AddonLimits(60.0 if "more than" in reason else 1.0, 64 << 20)
        await watched.watch(process, limits)
        await process.wait()
        assert reason in watched.stuck
        assert watched.place == 3


async def test_a_call_that_can_be_ended_costs_no_worker():
    with Watched() as watched, trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", WORKER.format(inside="time.sleep(600)", heard="end"), str(watched.fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[watched.fd],
        )
        said = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.watch, process, AddonLimits(0.5, 1 << 40))
            assert process.stdout is not None
            while said.count(b"ended") < 2:
                said += await process.stdout.receive_some()
            nursery.cancel_scope.cancel()
        assert watched.stuck == ""
        process.kill()
        await process.wait()


async def test_one_that_is_called_all_the_time_is_left_alone():
    with Watched() as watched:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", WORKER.format(inside="time.sleep(0.01)", heard="signal.SIG_IGN"), str(watched.fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=[watched.fd],
        )
        try:
            with trio.move_on_after(3):
                await watched.watch(process, AddonLimits(0.5, 1 << 40))
            assert process.returncode is None
            assert watched.stuck == ""
        finally:
            process.kill()
            await process.wait()
