import json

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from sp_proxy.backend.export.otlp_json import any_value, resource_spans
from sp_proxy.backend.otlp import Encoding, decode_traces
from sp_proxy.backend.spans import read_request
from sp_proxy.backend.sqlite.store import open_store
from tests.backend.export.records import exchange, stored
from tests.backend.requests import HOSTILE, attribute, batch_of, exchange_span, partial_span, sdk_span


def sent_again(record):
    """What comes out of the store when the export is taken in again."""
    body = json.dumps({"resourceSpans": [resource_spans(record)]}).encode()
    read = read_request(decode_traces(Encoding.JSON, body), tenant="", now_unix_ns=record.received_unix_ns)
    assert read.rejected == 0

    async def through_a_store():
        async with open_store(":memory:") as store:
            await store.append(read.batch)
            return await store.span(bytes.fromhex(record.span_id), None)

    return trio.run(through_a_store)


def test_an_exchange_comes_back_as_it_was():
    record = exchange(
        {"x": HOSTILE}, request_body="é\x00", response_body=HOSTILE, parent=b"p" * 8, status=503, path=HOSTILE
    )
    assert sent_again(record) == record


def test_any_span_comes_back_as_it_was():
    span = sdk_span(parent=b"p" * 8)
    span.trace_state = "a=b"
    span.status.message = "why"
    event = span.events.add(time_unix_nano=7, name="e")
    event.attributes.append(attribute("n", 1))
    link = span.links.add(trace_id=b"l" * 16, span_id=b"k" * 8)
    link.attributes.append(attribute("x", b"\x00\xff"))
    record = stored(span)
    assert record.exchange is None
    assert sent_again(record) == record


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)


def message(value):
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=[message(item) for item in value]))
        case dict():
            pairs = [KeyValue(key=key, value=message(item)) for key, item in value.items()]
            return AnyValue(kvlist_value=KeyValueList(values=pairs))
        case _:
            return attribute("", value).value


@given(values)
def test_any_attribute_comes_back_as_it_was(value):
    span = exchange_span(response_body=None)
    span.attributes.append(KeyValue(key="v", value=message(value)))
    record = stored(span)
    assert sent_again(record) == record


@pytest.mark.parametrize("value, written", [(True, {"boolValue": True}), (1, {"intValue": "1"}), (None, {})])
def test_values(value, written):
    assert any_value(value) == written


@pytest.mark.parametrize("parent", [b"", b"p" * 8])
def test_the_partial_record_of_an_exchange_is_sent_as_it_came(parent):
    """Under its own id, as a child of the exchange to come, by whose ids it is listed."""
    span = partial_span(trace=b"t" * 16, span=b"s" * 8, parent=parent)

    async def through_a_store():
        async with open_store(":memory:") as store:
            await store.append(batch_of(span))
            return await store.span(b"s" * 8, None)

    record = trio.run(through_a_store)
    assert record is not None
    assert record.exchange is not None
    assert record.exchange.partial
    sent = resource_spans(record)["scopeSpans"][0]["spans"][0]
    assert (sent["spanId"], sent["parentSpanId"]) == (span.span_id.hex(), (b"s" * 8).hex())
    assert sent_again(record) == record
