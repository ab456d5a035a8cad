"""Properties of the whole tap: whatever comes, however it is cut and interleaved.

Deterministic (derandomized), and bounded by numbers of examples.
"""

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_state import BAD_GATEWAY, BAD_REQUEST
from tests.taps.conversations import MUTATIONS, STEPS, Exchanged, conversations, mutated, play, reach
from tests.taps.rig import INJECTED, RESPONSE_ADDED, Wire, without_injected

MANY = settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def uncut(conversation: list[Exchanged]) -> Wire:
    wire = Wire()
    for each in conversation:
        wire.client(each.sent).server(each.answer)
    return wire.client_eof().server_eof().close()


@MANY
@given(conversations())
def test_a_valid_conversation_is_read_as_it_was_made(conversation):
    wire = uncut(conversation)
    assert wire.reasons == set()
    assert wire.up == b"".join(each.forwarded for each in conversation)
    assert wire.down.replace(RESPONSE_ADDED, b"") == b"".join(each.answer for each in conversation)
    assert wire.down.count(RESPONSE_ADDED) == sum(
        b"\ntraceparent:" in each.response.head.lower() for each in conversation
    )
    assert len(wire.records) == len(conversation)
    for record, each in zip(wire.records, conversation, strict=True):
        assert (record.method, record.target, record.status, record.error) == (
            each.method,
            each.target,
            each.status,
            "",
        )
        assert record.request_fields == each.forwarded_head.partition(b"\r\n")[2][:-2]
        assert bytes(record.request_body) == each.request.body
        assert record.request_body_size == len(each.request.body)
        assert record.request_trailers == each.request.trailers
        assert record.response_fields == each.response.head.partition(b"\r\n")[2][:-2]
        assert bytes(record.response_body) == each.response.body
        assert record.response_body_size == len(each.response.body)
        assert record.response_trailers == each.response.trailers


@MANY
@given(conversations(), STEPS)
def test_cuts_and_interleaving_change_nothing(conversation, steps):
    whole = uncut(conversation)
    wire = play(Wire(), conversation, steps, timeouts=False)
    assert (wire.up, wire.down) == (whole.up, whole.down)
    assert wire.records == whole.records
    assert wire.counters == whole.counters
    assert wire.http1.held == 0


@MANY
@given(conversations(replaced=False), STEPS)
def test_timeouts_change_nothing_but_the_time(conversation, steps):
    whole = uncut(conversation)
    wire = play(Wire(), conversation, steps, timeouts=True)
    assert (wire.up, wire.down) == (whole.up, whole.down)
    assert wire.records == whole.records
    assert wire.counters == whole.counters


@MANY
@given(conversations(), STEPS)
def test_a_header_that_a_timeout_let_go_is_counted_and_nothing_else_changes(conversation, steps):
    wire = play(Wire(), conversation, steps, timeouts=True)
    names = (b"x-sp-num:", b"x-sp-service-name:")
    sent = [
        line for line in b"".join(each.sent for each in conversation).split(b"\r\n") if line.lower().startswith(names)
    ]
    extra = len(wire.up) - len(b"".join(each.forwarded for each in conversation))
    assert (extra > 0) == (wire.counters["headers_not_replaced"] > 0)
    assert wire.counters["headers_not_replaced"] <= len(sent)
    assert len(wire.records) == len(conversation)
    assert [bytes(record.request_body) for record in wire.records] == [each.request.body for each in conversation]


def drive(wire: Wire, sent: bytes, answers: bytes, steps: list[tuple[str, int]]) -> int:
    """Send both streams in these steps, causality disregarded; the largest buffers seen, less the last piece."""
    client_at = server_at = most = 0
    for what, size in [*steps, ("c", len(sent)), ("s", len(answers)), ("t", 0)]:
        before = client_at + server_at
        if what == "c":
            end = reach(sent, client_at, size)
            wire.client(sent[client_at:end])
            client_at = end
        elif what == "s":
            end = reach(answers, server_at, size)
            wire.server(answers[server_at:end])
            server_at = end
        else:
            wire.timeout()
        most = max(most, wire.http1.held - (client_at + server_at - before))
    wire.client_eof().server_eof().close()
    return most


@MANY
@given(conversations(replaced=False), MUTATIONS, MUTATIONS, STEPS, st.sampled_from([200, 131072]))
@example([], [(0, 0, b"\r")], [], [("c", 1), ("t", 0)], 200)
def test_broken_conversations_pass_unchanged(conversation, client_mutations, server_mutations, steps, limit):
    sent = mutated(b"".join(each.sent for each in conversation), client_mutations)
    answers = mutated(b"".join(each.answer for each in conversation), server_mutations)
    wire = Wire(max_head_size=limit)
    most = drive(wire, sent, answers, steps)
    assert most <= 3 * max(limit, 16384)  # a head on each side, and a chunk line or trailers
    if wire.ended is Signal.HTTP2:
        assert wire.up == sent[: len(wire.up)]
        return
    assert without_injected(wire.up) == sent
    assert wire.down.replace(RESPONSE_ADDED, b"") == answers
    assert wire.counters["captured"] == len(wire.records)
    assert len(wire.records) <= wire.counters["requests:captured"] == wire.up.count(INJECTED)
    assert not any(name.startswith("rejected:") for name in wire.counters)
    for record in wire.records:
        assert record.method + b" " + record.target + b" HTTP/" + record.protocol_version.encode() in sent
        assert (
            record.status == 0 or b"HTTP/1.1 %d" % record.status in answers or b"HTTP/1.0 %d" % record.status in answers
        )


@MANY
@given(conversations(replaced=False), MUTATIONS, MUTATIONS, STEPS, st.sampled_from([200, 131072]))
def test_read_strictly_a_sound_beginning_passes_and_then_nothing(
    conversation, client_mutations, server_mutations, steps, limit
):
    sent = mutated(b"".join(each.sent for each in conversation), client_mutations)
    answers = mutated(b"".join(each.answer for each in conversation), server_mutations)
    wire = Wire(strict=True, max_head_size=limit)
    most = drive(wire, sent, answers, steps)
    assert most <= 3 * max(limit, 16384)
    assert sent.startswith(without_injected(wire.up))
    down = wire.down.replace(RESPONSE_ADDED, b"")
    refused = wire.http1.answer
    assert refused in {b"", BAD_REQUEST, BAD_GATEWAY}
    assert down.endswith(refused)
    assert answers.startswith(down[: len(down) - len(refused)])
    if any(name.startswith("rejected:") for name in wire.counters):
        assert wire.http1.signal in {Signal.ANSWER, Signal.ABORT, Signal.REJECTING}
    elif wire.ended is None:
        assert without_injected(wire.up) == sent
        assert down == answers


@MANY
@given(st.binary(max_size=120), st.binary(max_size=120), STEPS, st.booleans())
def test_any_bytes_at_all(sent, answers, steps, strict):
    wire = Wire(strict=strict, max_head_size=100)
    drive(wire, sent, answers, steps)
    assert sent.startswith(without_injected(wire.up))
    if not strict and wire.ended is not Signal.HTTP2:
        assert (without_injected(wire.up), wire.down) == (sent, answers)


@MANY
@given(conversations(), STEPS, st.integers(0, 60))
def test_an_abort_at_any_moment_leaves_one_record_for_each_request(conversation, steps, moment):
    sent = b"".join(each.sent for each in conversation)
    answers = b"".join(each.answer for each in conversation)
    wire = Wire()
    for what, size in steps[:moment]:
        if what == "c":
            end = reach(sent, 0, size)
            wire.client(sent[:end])
            sent = sent[end:]
        elif what == "s" and wire.http1._open:
            end = reach(answers, 0, size)
            wire.server(answers[:end])
            answers = answers[end:]
    wire.close("upstream_aborted").close("upstream_aborted")
    expected = wire.counters["requests:captured"] - wire.counters["abandoned"]
    assert len(wire.records) == expected
    assert set(wire.errors) <= {"", "upstream_aborted"}
