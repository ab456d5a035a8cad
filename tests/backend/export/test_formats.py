import json

import pytest

from sp_proxy.backend.export.formats import FORMATS, full
from tests.backend.export.records import exchange, stored
from tests.backend.requests import HOSTILE, sdk_span


def whole(name, *records):
    form = FORMATS[name]
    return form.head + form.between.join(form.one(record) for record in records) + form.tail


def test_files_of_none_and_of_several():
    one, two = exchange(path="/1"), exchange(path=HOSTILE, response_body=HOSTILE, request_body=HOSTILE)
    assert json.loads(whole("har"))["log"]["entries"] == []
    first, second = json.loads(whole("har", one, two))["log"]["entries"]
    assert (first["request"]["url"], second["request"]["url"]) == (
        *("http://shop.local:8080/1", f"http://shop.local:8080{HOSTILE}"),
    )
    assert json.loads(whole("otlp")) == {"resourceSpans": []}
    assert len(json.loads(whole("otlp", one, two, stored(sdk_span())))["resourceSpans"]) == 3
    assert [json.loads(line)["path"] for line in whole("jsonl", one, two).splitlines()] == ["/1", HOSTILE]
    assert whole("curl", one, two).count(b"curl --globoff") == 1  # the other's target is none
    assert whole("curl") == whole("jsonl") == b""


@pytest.mark.parametrize("name", FORMATS)
def test_each_says_what_it_is(name):
    assert "/" in FORMATS[name].media_type
    assert FORMATS[name].suffix


def test_in_full():
    record = exchange(path="/1")
    view = full(record)
    assert (view["path"], view["kind"], view["trace_id"]) == ("/1", "server", record.trace_id)
