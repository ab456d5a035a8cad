"""Lines in a file and on standard output: whole lines only, bounded, failures as outcomes."""

import json
import os
import resource

import pytest
import trio

from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form
from sp_proxy.exporter.lines import LinesFile, Stdout, write_all
from sp_proxy.exporter.outcome import Accepted, Permanent, Retryable
from tests.exporter.rig import make_exchanges

(PAYLOAD,) = Encoder(SpanEncoder(decode_body).encode_span, [Form({}, "none")]).encode(make_exchanges(2)).payloads


async def test_a_request_is_a_line(tmp_path):
    path = tmp_path / "spans.jsonl"
    async with LinesFile(path, 1 << 20) as sink:
        assert await sink.send(PAYLOAD) == Accepted()
        assert await sink.send(PAYLOAD) == Accepted()
        assert sink.origin == str(path)
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2
    assert all("resourceSpans" in json.loads(line) for line in lines)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_older_piece_is_kept(tmp_path):
    path = tmp_path / "spans.jsonl"
    async with LinesFile(path, 1) as sink:
        for _ in range(3):
            assert await sink.send(PAYLOAD) == Accepted()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["spans.jsonl", "spans.jsonl.1"]
    assert path.read_bytes() == (tmp_path / "spans.jsonl.1").read_bytes()


async def test_a_file_that_somebody_moved_is_made_again(tmp_path):
    path = tmp_path / "spans.jsonl"
    async with LinesFile(path, 1 << 20) as sink:
        await sink.send(PAYLOAD)
        path.rename(tmp_path / "moved")
        await sink.send(PAYLOAD)
    assert path.read_bytes() == (tmp_path / "moved").read_bytes()


async def test_a_place_that_cannot_be_written_may_be_later(tmp_path):
    async with LinesFile(tmp_path / "missing" / "spans.jsonl", 1 << 20) as sink:
        outcome = await sink.send(PAYLOAD)
        assert isinstance(outcome, Retryable)
        assert outcome.reason == "file_error"
        assert "No such file" in outcome.detail
        (tmp_path / "missing").mkdir()
        assert await sink.send(PAYLOAD) == Accepted()


async def test_a_disk_that_fills_up_leaves_no_half_line(tmp_path):
    path = tmp_path / "spans.jsonl"
    async with LinesFile(path, 1 << 20) as sink:
        await sink.send(PAYLOAD)
        whole = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, hard))
        try:
            outcome = await sink.send(PAYLOAD)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(outcome, Retryable)
        assert path.read_bytes() == whole


async def test_a_file_that_does_not_open_holds_up_no_end(tmp_path):
    """A named pipe without a reader."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with trio.fail_after(20):
        async with LinesFile(path, 1 << 20) as sink:
            with trio.move_on_after(0.1) as scope:
                await sink.send(PAYLOAD)
            assert scope.cancelled_caught
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as reader:  # so the thread ends
        assert "resourceSpans" in json.loads(reader.readline())


async def test_standard_output(capfd):
    async with Stdout() as sink:
        assert await sink.send(PAYLOAD) == Accepted()
        assert sink.origin == "standard output"
    (line,) = capfd.readouterr().out.splitlines()
    assert "resourceSpans" in json.loads(line)


async def test_standard_output_that_nobody_reads(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        async with Stdout() as sink:
            outcome = await sink.send(PAYLOAD)
    assert isinstance(outcome, Permanent)
    assert outcome.reason == "broken_pipe"


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_everything_is_written(tmp_path, size):
    with (tmp_path / "file").open("wb") as file:
        write_all(file.fileno(), bytes(size))
    assert (tmp_path / "file").stat().st_size == size
