"""Warnings that do not flood."""

import trio
from structlog.testing import capture_logs

from sp_proxy.exporter.sparing_log import INTERVAL_SECONDS, SparingLog


async def test_each_kind_at_most_once_an_interval_with_its_count(autojump_clock):
    with capture_logs() as logs:
        log = SparingLog()
        for _ in range(100):
            log.warning("queue_full", records_dropped=4)
        log.warning("upload_refused", reason="http_400")
        await trio.sleep(INTERVAL_SECONDS)
        log.warning("queue_full", records_dropped=4)
    assert logs == [
        {"event": "queue_full", "log_level": "warning", "times": 1, "records_dropped": 4},
        {"event": "upload_refused", "log_level": "warning", "times": 1, "reason": "http_400"},
        {"event": "queue_full", "log_level": "warning", "times": 100, "records_dropped": 4},
    ]


async def test_a_fault_comes_with_its_error(autojump_clock):
    with capture_logs() as logs:
        error = ZeroDivisionError()
        log = SparingLog()
        log.fault("upload_failed", error)
        log.fault("upload_failed", error)
    assert logs == [{"event": "upload_failed", "log_level": "error", "times": 1, "exc_info": error}]
