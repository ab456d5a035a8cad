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


async def test_two_deaths_without_anybody_to_blame_take_all(autojump_clock):
    del autojump_clock
    board = Switchboard(ADDONS)
    board.blame(0, "exit code 1")
    await trio.sleep(61)
    board.blame(0, "exit code 1")
    assert len(board.on) == 3
    board.blame(0, "exit code 1")
    assert not board.on
    board.blame(0, "exit code 1")


WORKER = """
import mmap, sys, time
state = memoryview(mmap.mmap(int(sys.argv[1]), 8)).cast("Q")
number, kept = 0, []
while True:
    number += 1
    state[0] = number << 8 | 3
    {inside}
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
            [sys.executable, "-c", WORKER.format(inside=inside), str(watched.fd)],
            stdin=subprocess.DEVNULL,
            pass_fds=[watched.fd],
        )
        limits = AddonLimits(60.0 if "more than" in reason else 1.0, 64 << 20)
        await watched.watch(process, limits)
        await process.wait()
        assert reason in watched.stuck
        assert watched.place == 3


async def test_one_that_is_called_all_the_time_is_left_alone():
    with Watched() as watched:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", WORKER.format(inside="time.sleep(0.01)"), str(watched.fd)],
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
