"""Files that change in all the ways that files do, on a virtual clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
import trio.testing

from sp_proxy.settings.source import Source
from sp_proxy.supervisor.watch import Timing, watch

TIMING = Timing(1.0, 2.0)


class Watched:
    """What was seen: the content of the file each time that a change was told, and when."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: list[tuple[float, str]] = []
        self.timing: Timing | None = TIMING

    async def changed(self) -> None:
        assert self.source.path is not None
        self.source.digest = self.source.content()  # as loading does, whatever comes of it
        self.seen.append((trio.current_time(), self.source.path.read_text()))
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def watching(path: Path, before: Callable[[], object] = lambda: None) -> AsyncIterator[Watched]:
    source = Source(path, {}, {})
    source.digest = source.content()
    before()
    watched = Watched(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch, source, lambda: watched.timing, watched.changed)
        await trio.sleep(5)
        yield watched
        nursery.cancel_scope.cancel()


async def test_a_file_that_is_written_anew(tmp_path, autojump_clock):
    path = tmp_path / "f.yaml"
    path.write_text("one")
    async with watching(path) as watched:
        assert watched.seen == []
        path.write_text("two")
        await trio.sleep(10)
        assert [text for _, text in watched.seen] == ["two"]
        path.touch()
        await trio.sleep(10)
        assert len(watched.seen) == 1


async def test_it_waits_until_nothing_changes_any_more(tmp_path, autojump_clock):
    path = tmp_path / "f.yaml"
    path.write_text("0")
    async with watching(path) as watched:
        for number in range(8):
            path.write_text("x" * (number + 1))
            await trio.sleep(1)
        assert watched.seen == []
        last = trio.current_time()
        await trio.sleep(10)
        ((when, text),) = watched.seen
        assert text == "x" * 8
        assert when - last <= TIMING.settle + TIMING.interval


async def test_a_file_that_is_replaced_by_another(tmp_path, autojump_clock):
    """As editors do it: written beside, renamed over; or the old one moved away first."""
    path = tmp_path / "f.yaml"
    path.write_text("one")
    async with watching(path) as watched:
        (tmp_path / "new").write_text("two")
        (tmp_path / "new").replace(path)
        await trio.sleep(10)
        path.rename(tmp_path / "f.yaml~")
        await trio.sleep(10)
        assert len(watched.seen) == 1
        path.write_text("three")
        await trio.sleep(10)
        assert [text for _, text in watched.seen] == ["two", "three"]


async def test_a_config_map(tmp_path, autojump_clock):
    """Kubernetes' kubelet swaps ``..data``, a symbolic link to a directory (its atomic writer)."""

    def write(version: str, text: str) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "config.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    write("..1", "one")
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    async with watching(path) as watched:
        write("..2", "two")
        (tmp_path / "..1" / "config.yaml").unlink()
        (tmp_path / "..1").rmdir()
        await trio.sleep(10)
        write("..3", "two")
        await trio.sleep(10)
        assert [text for _, text in watched.seen] == ["two"]


async def test_a_change_between_loading_and_watching_is_seen(tmp_path, autojump_clock):
    path = tmp_path / "f.yaml"
    path.write_text("one")
    async with watching(path, before=lambda: path.write_text("two")) as watched:
        await trio.sleep(5)
        assert [text for _, text in watched.seen] == ["two"]


async def test_a_refused_change_is_not_told_again_and_the_way_back_is(tmp_path, autojump_clock):
    path = tmp_path / "f.yaml"
    path.write_text("one")
    async with watching(path) as watched:
        for text in ("wrong", "one"):
            path.write_text(text)
            await trio.sleep(30)
        assert [text for _, text in watched.seen] == ["wrong", "one"]


async def test_it_can_be_switched_off_and_on(tmp_path, autojump_clock):
    path = tmp_path / "f.yaml"
    path.write_text("one")
    async with watching(path) as watched:
        watched.timing = None
        path.write_text("two")
        await trio.sleep(30)
        assert watched.seen == []
        watched.timing = TIMING
        await trio.sleep(10)
        assert [text for _, text in watched.seen] == ["two"]
