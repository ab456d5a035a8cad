"""Log lines when nobody reads them, or nobody can."""

import fcntl
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pytest

from sp_proxy.log_stream import LogStream


@dataclass
class Pipe:
    """Of a page, with a log at its end."""

    reader: int
    out: TextIO

    def read(self) -> bytes:
        return os.read(self.reader, 1 << 20)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(writer, "w", encoding="utf-8") as out:
        yield Pipe(reader, out)
    os.close(reader)


def test_what_is_written_is_there_at_once_and_whole(pipe: Pipe):
    stream = LogStream(pipe.out, console=False)
    assert stream.write("ä\udcff\n") == 3
    assert pipe.read() == "ä\\udcff\n".encode()


@pytest.mark.parametrize("console", [True, False])
def test_what_nobody_reads_is_lost_and_counted_and_nobody_waits(pipe: Pipe, console: bool):
    stream = LogStream(pipe.out, console=console, context={"process": "relay"})
    for _ in range(20):
        stream.write("x" * 999 + "\n")
    kept = pipe.read().count(b"\n")
    assert 0 < kept < 20
    stream.write("again\n")
    said, again = pipe.read().decode().splitlines()[-2:]
    assert again == "again"
    if console:
        assert said.endswith(f"log_lines_lost lines={20 - kept}")
    else:
        told = json.loads(said)
        assert (told["event"], told["lines"], told["process"]) == ("log_lines_lost", 20 - kept, "relay")
    stream.write("and again\n")
    assert pipe.read() == b"and again\n"


def test_a_line_that_did_not_fit_ends_before_the_next(pipe: Pipe):
    stream = LogStream(pipe.out, console=True)
    stream.write("y" * 6000 + "\n")
    assert pipe.read() == b"y" * 4096
    stream.write("next\n")
    end, lost, following, _ = pipe.read().decode().split("\n")
    assert (end, following) == ("", "next")
    assert lost.endswith("log_lines_lost lines=1")


def test_a_reader_that_has_gone_harms_nobody():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as out:
        os.close(reader)
        assert LogStream(out, console=False).write("x\n") == 2


def test_a_full_disk_harms_nobody():
    with Path("/dev/full").open("w", encoding="utf-8") as out:
        assert LogStream(out, console=False).write("x\n") == 2


def test_without_a_descriptor_it_is_the_stream_itself():
    out = io.StringIO()
    LogStream(out, console=False).write("x\n")
    assert out.getvalue() == "x\n"
