"""Hooks in processes of their own: what they do well, and what they do to themselves only."""

import pytest
import trio
import trio.testing

from sp_proxy.addons import process as process_module
from sp_proxy.addons.process import MAX_FAILED, MAX_RECORDS, AddonProcess
from tests.addons.hooks import PATIENCE, plan, running, wait_for_end
from tests.exporter.rig import make_exchange, make_exchanges

TAGS = """
    def exchange(ex):
        ex.tag("path", ex.path)
"""


async def tags(process: AddonProcess, count: int) -> list[str | None]:
    """What a hook that tags makes of so many records: a tag's value, or None where it did nothing."""
    outcome = await process.work(make_exchanges(count))
    return [None if made is None else made[0].tags[0][1] for made in outcome.made]


async def test_each_record_is_seen_once_in_order_over_several_tasks():
    count = 2 * MAX_RECORDS + 3
    async with running(TAGS) as process:
        assert await tags(process, count) == [f"/orders?n={number}" for number in range(1, count + 1)]
        pid = process.pid
        assert await tags(process, 1) == ["/orders?n=1"]
        assert process.pid == pid
        stats = process.stats()
    assert (stats.called, stats.failed, stats.skipped, stats.state) == (count + 1, 0, 0, "ready")


async def test_large_records_are_sent_in_tasks_of_their_own(monkeypatch):
    monkeypatch.setattr(process_module, "MAX_CONTENT", 1000)
    records = make_exchanges(5, request_body=b"x" * 900, request_body_size=900)
    async with running(TAGS) as process:
        outcome = await process.work(records)
    assert [len(made or ()) for made in outcome.made] == [1] * 5


async def test_an_async_hook_waits_for_many_at_once():
    text = """
        import trio
        together = 0
        async def exchange(ex):
            global together
            together += 1
            while together < 8:
                await trio.sleep(0.001)
            ex.tag("path", ex.path)
    """
    async with running(text) as process:
        assert None not in await tags(process, 8)


async def test_one_that_raises_is_named_once_and_the_others_are_served(log):
    text = """
        def exchange(ex):
            if ex.path.endswith("3"):
                raise ValueError("the secret " + ex.path)
            ex.tag("path", ex.path)
    """
    async with running(text) as process:
        for _ in range(2):
            outcome = await process.work(make_exchanges(4))
            assert [made is not None for made in outcome.made] == [True, True, False, True]
            assert outcome.missed == {2}
        assert process.stats().failed == 2
    faults = [line for line in log if line["event"] == "addon_fault"]
    assert [(line["kind"], line["place"], line["addon"]) for line in faults] == [
        ("ValueError", "/addons/hook.py:4", "hook")
    ]
    assert "raise ValueError" in faults[0]["code"]
    assert "/orders" not in str(log)


@pytest.mark.parametrize(
    "text",
    [
        """
        import time
        def exchange(ex):
            if ex.path.endswith("2"):
                while True:
                    try:
                        time.sleep(60)
                    except Exception:
                        pass
            ex.tag("path", ex.path)
        """,
        """
        import trio
        async def exchange(ex):
            if ex.path.endswith("2"):
                await trio.sleep_forever()
            ex.tag("path", ex.path)
        """,
    ],
)
async def test_a_slow_call_is_ended_and_costs_its_own_record(text):
    async with running(text, call=0.3) as process:
        assert await tags(process, 3) == ["/orders?n=1", None, "/orders?n=3"]
        assert process.stats().restarts == 0


async def test_the_time_for_a_batch_is_kept():
    text = """
        import time
        def exchange(ex):
            time.sleep(0.05)
    """
    async with running(text, batch=0.2) as process:
        outcome = await process.work(make_exchanges(100))
        assert len(outcome.missed) >= 50
        assert process.stats().skipped == len(outcome.missed)


HOSTILE = {
    "blocks for ever, whatever the signals": """
        import signal
        def exchange(ex):
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            while True:
                pass
    """,
    "allocates without end": """
        kept = []
        def exchange(ex):
            while True:
                kept.append(bytearray(1 << 20))
    """,
    "closes the channel": """
        import os
        def exchange(ex):
            os.closerange(0, 4096)
    """,
    "ends the process": """
        import os
        def exchange(ex):
            os._exit(0)
    """,
    "kills its group": """
        import os, signal
        def exchange(ex):
            os.killpg(0, signal.SIGKILL)
    """,
    "exits": """
        import sys
        def exchange(ex):
            sys.exit("bye")
    """,
    "writes into the channel": """
        import os
        def exchange(ex):
            for descriptor in range(3, 4096):
                try:
                    os.write(descriptor, b"x" * 100)
                except OSError:
                    pass
    """,
    "claims to be endless": """
        def exchange(ex):
            return [ex] * 1000
    """,
    "starts others that live on": """
        import os, time
        def exchange(ex):
            if os.fork() == 0:
                time.sleep(600)
            os._exit(1)
    """,
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_hooks_leave_records_and_others_alone(kind):
    """Every record comes through as it was, and another hook does its work meanwhile."""
    async with running(HOSTILE[kind], "hostile", call=0.2, batch=0.5) as hostile, running(TAGS, "other") as other:
        with trio.fail_after(PATIENCE):
            for _ in range(3):
                outcome = await hostile.work(make_exchanges(3))
                assert outcome.made == [None] * 3
                assert outcome.missed == {0, 1, 2}
                assert None not in await tags(other, 3)
        stats = hostile.stats()
        assert stats.failed + stats.skipped == 9
        assert stats.last_problem


async def test_a_lost_process_is_ended_with_its_children(tmp_path):
    text = f"""
        import os, time
        def exchange(ex):
            pid = os.fork()
            if pid == 0:
                time.sleep(600)
            open({str(tmp_path / "pid")!r}, "w").write(str(pid))
            os._exit(1)
    """
    async with running(text, batch=0.5, call=0.5) as process:
        await process.work([make_exchange()])
        pid = int((tmp_path / "pid").read_text())
        with trio.fail_after(PATIENCE):
            while _runs(pid):  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_calls_that_always_fail_get_a_pause_and_no_process_dies():
    async with running("def exchange(ex):\n    1 / 0\n") as process:
        for _ in range(MAX_FAILED // 10 + 2):
            await process.work(make_exchanges(10))
        pid = process.pid
        for _ in range(MAX_FAILED // 10 + 2):
            await process.work(make_exchanges(10))
        stats = process.stats()
        assert (stats.state, stats.restarts, process.pid) == ("paused", 0, pid)
        assert stats.skipped > 0


async def test_a_file_that_cannot_be_run_is_told_and_tried_again_later(log):
    async with running("import sys\nsys.exit(3)\ndef exchange(ex): pass\n") as process:
        for _ in range(3):
            assert (await process.work([make_exchange()])).missed == {0}
        assert process.stats().state == "paused"
    assert [line["place"] for line in log if line["event"] == "addon_fault"] == ["/addons/hook.py:2"]


async def test_what_it_prints_is_a_line_of_the_log(log):
    async with running("def exchange(ex):\n    print('seen', ex.status)\n") as process:
        await process.work([make_exchange()])
    assert [line["text"] for line in log if line["event"] == "addon_says"] == ["seen 201"]


async def test_the_daemons_secrets_are_not_in_its_environment(monkeypatch):
    monkeypatch.setenv("SP_PROXY_PUBLIC_KEY", "pk-secret")
    monkeypatch.setenv("REGION", "eu")
    text = """
        import os
        def exchange(ex):
            ex.tag("found", os.environ.get("SP_PROXY_PUBLIC_KEY", "") + os.environ.get("REGION", ""))
    """
    async with running(text) as process:
        assert await tags(process, 1) == ["eu"]


async def test_cancelled_in_the_middle_it_begins_anew():
    text = """
        import time
        def exchange(ex):
            if ex.path.endswith("9"):
                time.sleep(4)
            ex.tag("path", ex.path)
    """
    async with running(text) as process:
        assert await tags(process, 1) == ["/orders?n=1"]
        with trio.move_on_after(0.2):
            await process.work([make_exchange(9)])
        assert process.pid is None
        assert await tags(process, 1) == ["/orders?n=1"]


async def test_foreign_answers_are_refused(tmp_path):
    """In the place of the host stands one that answers what it likes."""
    for number, said in enumerate((b"\0\0\0\1\xc1", b"\xff\xff\xff\xff", b"\0\0\0\2\x91\x01")):
        fake = tmp_path / f"fake{number}.sh"
        fake.write_text(f"#!/bin/sh\nprintf '{''.join(f'\\{byte:03o}' for byte in said)}' >&$1\nsleep 60\n")
        fake.chmod(0o755)
        process = AddonProcess(plan(TAGS), (str(fake),))
        with trio.fail_after(PATIENCE):
            assert (await process.work([make_exchange()])).missed == {0}
        assert process.pid is None
        assert process.stats().restarts == 1


async def test_a_command_that_is_not_there_is_told():
    process = AddonProcess(plan(TAGS), ("/nowhere/python",))
    assert (await process.work([make_exchange()])).missed == {0}
    assert "could not be started" in process.stats().last_problem


async def test_a_record_that_fits_no_frame_goes_on_as_it_is(monkeypatch):
    monkeypatch.setattr("sp_proxy.addons.wire.MAX_FRAME_BYTES", 5000)
    async with running(TAGS) as process:
        outcome = await process.work([make_exchange(1), make_exchange(2, request_body=b"x" * 9000)])
        assert outcome.missed == {0, 1}
        assert process.stats().restarts == 0


async def test_retired_it_ends_when_it_has_done_its_work():
    text = """
        import time
        def exchange(ex):
            time.sleep(0.3)
            ex.tag("path", ex.path)
    """
    made: list[str | None] = []
    async with running(text) as process:
        assert await tags(process, 1) == ["/orders?n=1"]

        async def work() -> None:
            made.extend(await tags(process, 2))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await trio.testing.wait_all_tasks_blocked()
            process.retire()
            assert process.pid is not None
        assert made == ["/orders?n=1", "/orders?n=2"]
        assert process.pid is None


async def test_it_ends_with_the_exporter_and_all_that_it_has_started_with_it(tmp_path):
    place = tmp_path / "pid"
    text = f"""
        import subprocess
        from pathlib import Path
        child = subprocess.Popen(["sleep", "300"])
        Path({str(place)!r}).write_text(str(child.pid))
        def exchange(ex): ...
    """
    async with running(text) as process:
        await process.work([make_exchange()])
        host, stream = process._process, process._stream
        assert host is not None
        assert stream is not None
        stream.socket.close()
        await host.wait()
        await trio.to_thread.run_sync(wait_for_end, place)
