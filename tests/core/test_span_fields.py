"""Header fields as attributes, decoded with protobuf."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core.redaction import NeverSent, Redaction
from sp_proxy.core.span_fields import MAX_VALUES, FieldEncoder


def encoder(redaction: Redaction | None = None) -> FieldEncoder:
    return FieldEncoder("h.", redaction or NeverSent(), also={b"user-agent": "agent"}, not_repeated=(b"host",))


def attributes(fields: FieldEncoder, block: bytes) -> dict[str, str]:
    pieces: list[bytes] = []
    fields.encode(block, pieces)
    first = [(one.key, one.value.string_value) for one in Span.FromString(b"".join(pieces)).attributes]
    assert len(dict(first)) == len(first)
    # The second time it comes from memory, and is the same.
    again: list[bytes] = []
    fields.encode(block, again)
    assert again == pieces
    return dict(first)


def test_names_are_lowered_and_values_stripped():
    assert attributes(encoder(), b"X-Mixed-Case:  V \t\r\nempty:\r\nurl: http://a:1\r\n") == {
        "h.x-mixed-case": "V",
        "h.empty": "",
        "h.url": "http://a:1",
    }


def test_repeated_fields_are_joined():
    block = b"X-Dup: 1\r\nother: o\r\nx-dup: 2\r\nX-DUP: 1\r\nsame: s\r\nsame: s\r\n"
    assert attributes(encoder(), block) == {"h.x-dup": "1, 2, 1", "h.other": "o", "h.same": "s, s"}


def test_host_is_not_repeated_and_user_agent_stands_twice():
    assert attributes(encoder(), b"Host: shop\r\nUser-Agent: curl/8\r\n") == {
        "h.user-agent": "curl/8",
        "agent": "curl/8",
    }


def test_what_is_never_sent():
    block = b"".join(
        name + b": secret\r\n"
        for name in (
            b"Authorization",
            b"COOKIE",
            b"Set-Cookie",
            b"set-cookie",
            b"x-public-key",
            b"X-Auth-Token",
            b"bearer",
            b"proxy-authorization",
        )
    )
    fields = encoder()
    pieces: list[bytes] = []
    fields.encode(block, pieces)
    assert not b"".join(pieces)
    assert attributes(fields, block + b"accept: */*\r\n") == {"h.accept": "*/*"}


def test_redaction_sees_every_value_and_may_replace_it():
    class Changing(NeverSent):
        def is_plain(self, name: str) -> bool:
            return False

        def header(self, name: str, value: str, *, clean: bool = False) -> str | None:
            return None if value == "drop" else value.replace("secret", "***") + ("\udc80" if name == "bad" else "")

    block = b"User-Agent: my secret\r\na: secret\r\na: drop\r\na: secret\r\nb: drop\r\nbad: x\r\n"
    assert attributes(encoder(Changing()), block) == {
        "h.user-agent": "my ***",
        "agent": "my ***",
        "h.a": "***, ***",
        "h.bad": "x?",
    }


def test_only_a_clean_value_of_a_plain_field_without_a_url_passes_unseen():
    class Watching(NeverSent):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def is_plain(self, name: str) -> bool:
            return name != "ruled"

        def header(self, name: str, value: str, *, clean: bool = False) -> str | None:
            self.seen.append(value)
            return super().header(name, value, clean=clean)

    redaction = Watching()
    fields = encoder(redaction)
    fields.encode(b"a: 1\r\nruled: 2\r\nlink: https://host/3\r\na: 4\r\nuser-agent: 5\r\n", [], clean=True)
    assert sorted(redaction.seen) == [
        "1",
        "2",
        "4",
        "5",
        "https://host/3",
    ]  # two fields of one name are looked at again
    redaction.seen.clear()
    fields.encode(b"b: 6\r\nc: https://host/7\r\n", [], clean=True)
    assert redaction.seen == ["https://host/7"]
    fields.encode(b"d: 8\r\n", [], clean=False)
    assert redaction.seen[-1] == "8"


def test_lines_that_say_nothing_are_left_out():
    assert attributes(encoder(), b"no colon\r\n: no name\r\n \t: x\r\n:method: GET\r\n\r\na: 1\r\n") == {"h.a": "1"}
    assert attributes(encoder(), b"") == {}


def test_bytes_that_are_not_utf8():
    assert attributes(encoder(), "a: grüße\r\n".encode() + "b: grüße\r\n".encode("latin-1") + b"\xff: x\r\n") == {
        "h.a": "grüße",
        "h.b": "grüße",
        "h.ÿ": "x",
    }


def test_memory_is_bounded_and_used():
    fields = encoder()
    for number in range(3 * MAX_VALUES):
        assert attributes(fields, b"traceparent: %d\r\naccept: */*\r\n" % number)["h.traceparent"] == str(number)
    assert len(fields._lines) <= MAX_VALUES + 2
    for number in range(10_000):
        assert attributes(fields, b"x-%d: 1\r\n" % number) == {f"h.x-{number}": "1"}
    assert len(fields._lines) <= fields._lines.max_entries
    assert len(fields._names) <= fields._names.max_entries
    before = len(fields._lines)
    assert attributes(fields, b"long: " + b"x" * 60_000 + b"\r\n") == {"h.long": "x" * 60_000}
    assert len(fields._lines) == before


def test_a_name_is_remembered_again_after_the_memory_was_emptied():
    fields = encoder()
    for number in range(2 * MAX_VALUES):
        fields.encode(b"accept: %d\r\n" % number, [])
    assert b"accept: again" not in fields._lines
    for number in range(fields._lines.max_entries):
        fields.encode(b"x-%d: 1\r\n" % number, [])
    fields.encode(b"accept: again\r\n", [])
    assert b"accept: again" in fields._lines


def test_a_head_of_one_repeated_field_takes_linear_time():
    block = b"a:\r\n" * 200_000
    pieces: list[bytes] = []
    fields = encoder().encode(block, pieces)
    assert len(fields[b"a"][2]) == 2 * 200_000 - 2


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=10)), max_size=8), st.binary(max_size=60))
def test_any_block_is_read_as_a_plain_reading_says(lines, tail):
    block = b"".join(name + b":" + value + b"\r\n" for name, value in lines) + tail
    expected: dict[bytes, list[bytes]] = {}
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.strip(b" \t").lower()
        if colon and name and name != b"host":
            expected.setdefault(name, []).append(value.strip(b" \t"))

    def text(data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.decode("latin-1")

    joined: dict[str, list[str]] = {}
    for name, values in expected.items():
        joined.setdefault(text(name), []).extend(text(value) for value in values)
    found = attributes(encoder(), block)
    if len(joined) == len(expected):  # else two spellings of one name meet, in an order that is not worth saying
        assert found == {f"h.{name}": ", ".join(values) for name, values in joined.items()}
