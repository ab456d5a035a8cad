import msgspec

from sp_proxy.backend.log_model import LogFilter, LogPage, LogRecord


def test_a_page_is_json():
    record = LogRecord(1, "ab", "", 9, "INFO", "orders", "\x00<b>", {}, {"attributes": {"a": [1, None]}})
    page = msgspec.json.decode(msgspec.json.encode(LogPage([record], "n")), type=LogPage)
    assert page.logs == [record]


def test_an_empty_filter_asks_for_everything():
    assert LogFilter() == LogFilter(trace_id=b"", span_id=b"", service="", severity_min=0)
