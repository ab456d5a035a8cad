"""Blocks and lines."""

import base64

import hpack
import pytest

from sp_proxy.core.inject import RANDOM_BITS, HeaderConfig, Injector
from sp_proxy.taps.hpack import Block, Decoder
from sp_proxy.taps.http2_blocks import (
    PEER_FRAME_SIZE,
    additions,
    header_frames,
    lines,
    list_size,
    longer_frames,
    upgrade_settings,
    without,
)

FIELDS = [(b":method", b"GET"), (b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]


@pytest.mark.parametrize("value", [b"a\nb", b"a\r", b"\r\n", b"a\0b"])
def test_a_value_that_would_end_its_line_is_no_line(value: bytes) -> None:
    assert lines(FIELDS) == b":method: GET\r\nx-a: 1\r\nx-b: 2\r\nx-a: 3\r\n"
    assert lines([*FIELDS, (b"x-c", value)]) is None
    assert lines([(value, b"")]) is None


def test_binary_metadata_of_grpc_stands_in_base64() -> None:
    everything = bytes(range(256))
    fields = [(b"a-bin", b"\0" + everything), (b"b-bin", b"\0"), (b"c-bin", b"AAEC"), (b"d", b"e")]
    text = lines(fields)
    assert text is not None
    first, *others = text.split(b"\r\n")
    assert base64.b64decode(first.removeprefix(b"a-bin: ") + b"==") == everything
    assert others == [b"b-bin: ", b"c-bin: AAEC", b"d: e", b""]
    assert lines([*fields, (b"not-binary", b"\0x")]) is None
    assert lines([(b"a-bin", b"x\r\n")]) is None
    assert lines([(b"\0-bin", b"\0x")]) is None


def test_without_keeps_the_marks_at_their_fields() -> None:
    block = Block(FIELDS, frozenset({0, 2}), b"\x20", 200)
    kept = without(block, (b"x-a",))
    assert kept.fields == [(b":method", b"GET"), (b"x-b", b"2")]
    assert kept.sensitive == {0, 1}
    assert (kept.updates, kept.size) == (b"\x20", 7 + 3 + 32 + 3 + 1 + 32)


def test_additions_are_the_plan_s_lines() -> None:
    plan = Injector(HeaderConfig("shop")).plan(b"\r\n", b"\r\n", (1 << RANDOM_BITS) - 1)
    decoded = Decoder().decode(additions(plan))
    assert sorted(plan.lines.splitlines()) == sorted(b"%b: %b" % field for field in decoded.fields)
    assert list_size(plan) == decoded.size


@pytest.mark.parametrize("size", [0, PEER_FRAME_SIZE - 5, PEER_FRAME_SIZE - 4, 5 * PEER_FRAME_SIZE])
def test_frames_are_no_larger_than_every_receiver_takes(size: int) -> None:
    block = hpack.Encoder().encode([("x-a", "b")]) + b"\0" * size
    sent = header_frames(7, 0x25, b"prior", block)
    at, payload, kinds = 0, b"", []
    while at < len(sent):
        length = int.from_bytes(sent[at : at + 3])
        assert length <= PEER_FRAME_SIZE
        kinds.append((sent[at + 3], sent[at + 4]))
        assert sent[at + 5 : at + 9] == b"\0\0\0\7"
        payload += sent[at + 9 : at + 9 + length]
        at += 9 + length
    assert payload == b"prior" + block
    assert [kind for kind, _ in kinds] == [1] + [9] * (len(kinds) - 1)
    ends = [flags & 4 for _, flags in kinds]
    assert ends == [0] * (len(kinds) - 1) + [4]
    assert kinds[0][1] | 4 == 0x25


def test_longer_by_nothing_frames_still_end() -> None:
    frames = b"\0\0\1\x01\0\0\0\0\7\x82" + b"\0\0\0\x09\4\0\0\0\7"
    assert longer_frames(frames, b"", b"") == frames


def test_blanks_around_an_upgrade_s_settings_are_read_once() -> None:
    blanks = b" \t" * 50_000
    assert upgrade_settings(b"\r\nHTTP2-Settings:" + blanks + b"AAMAAABk" + blanks + b"\r\n") == b"\0\3\0\0\0\x64"
    assert upgrade_settings(b"\r\nHTTP2-Settings:" + blanks + b"AAMAAABk,\r\n") == b""
