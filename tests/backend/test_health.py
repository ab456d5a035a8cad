import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.admin.metrics import SupervisorStats
from sp_proxy.admin.status import status_document
from sp_proxy.backend.health import DaemonStatus, NotADaemonError, RuleCount, read_status
from sp_proxy.exporter.stats import DestinationStats, ExporterStats, SpoolStats, WorkerStats
from sp_proxy.settings.masking import masked
from sp_proxy.settings.model import SettingsModel

SUPERVISOR = SupervisorStats(2, 1, 0, False, 0, 0, 0, False, True)
COUNTERS = {
    "connections": 5,
    "captured": 7,
    "requests:captured:server[0]": 6,
    "requests:captured": 1,
    "requests:exempt:exemption[0]": 2,
    "requests:no_rule": 3,
    "dropped:sampled_out": 4,
    "requests_skipped:head_too_long": 1,
}
STATS = ExporterStats(
    captured=14,
    shed={},
    waiting_batch=1,
    held_bytes=99,
    channel_dropped={"channel_full": 3},
    channel_errors=0,
    destinations=(
        DestinationStats(name="softprobe", accepted=10, dropped={"queue_full": 3}, spool=SpoolStats("ready", size=5)),
    ),
    workers=(
        WorkerStats(0, True, COUNTERS, {"cpu_seconds": 1.5, "resident_memory_bytes": 3e7, "connections_open": 2}),
        WorkerStats(1, False, {"requests:captured:server[0]": 1}, {}),
    ),
)
STATUS = msgspec.json.encode(status_document(SUPERVISOR, STATS))


def config(**settings) -> bytes:
    return msgspec.json.encode({"settings": masked(SettingsModel(**settings)), "origins": {}})


def test_what_the_daemon_tells_is_read():
    read = read_status(STATUS, b"")
    assert (read.balanced, read.workers_ready, read.workers_wanted, read.held_bytes) == (True, 1, 2, 99)
    (delivery,) = read.deliveries
    assert (delivery.captured, delivery.accepted, delivery.waiting, delivery.dropped, delivery.missing) == (
        *(14, 10, 1),
        {"queue_full": 3},
        0,
    )
    assert delivery.spool.size == 5
    assert read.lost_before_the_exporter == {"channel_full": 3}
    first, second = read.workers
    assert (first.cpu_seconds, first.resident_memory_bytes, first.connections_open) == (1.5, 30_000_000, 2)
    assert (first.requests, first.captured, first.connections) == (12, 7, 5)
    assert (second.worker, second.connected, second.cpu_seconds, second.requests) == (1, False, 0.0, 1)


def test_decisions_and_losses_of_all_workers_are_added_up():
    read = read_status(STATUS, b"")
    assert read.requests == {"captured": 8, "exempt": 2, "no_rule": 3}
    assert read.not_captured == {"sampled_out": 4, "head_too_long": 1}


def test_rules_are_counted_and_told():
    rules = {
        "http": {
            "server": [{"path": "^/api/", "methods": ["GET", "POST"]}, {"host": "internal", "exclude": True}],
            "client": [{}],
        }
    }
    read = read_status(STATUS, config(collectionRules=rules, exemptionRules=[{"hostPatterns": ["probe"]}]))
    assert read.rules[:3] == [
        RuleCount("server[0]", "path ^/api/, methods GET POST", 7),
        RuleCount("server[1]", "host internal, exclude", 0),
        RuleCount("client[0]", "everything", 0),
    ]
    (exemption,) = read.rules[3:]
    assert (exemption.rule, exemption.requests) == ("exemption[0]", 2)
    assert exemption.text.startswith("hostPatterns probe, pathPatterns /v1/traces ")


def test_without_its_settings_a_daemon_names_the_rules_that_matched():
    assert read_status(STATUS, b"").rules == [RuleCount("exemption[0]", "", 2), RuleCount("server[0]", "", 7)]
    assert read_status(STATUS, b"not JSON").rules == read_status(STATUS, b"").rules


def test_an_older_daemon_tells_less():
    read = read_status(b'{"version": "0.0.9", "balanced": true, "exporters": [], "of_later": 1}', b"")
    assert (read.version, read.workers, read.rules) == ("0.0.9", [], [])


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"{}", b'{"version": 1}', b"\xff"])
def test_what_is_no_daemon(answer):
    with pytest.raises(NotADaemonError, match="not the admin server"):
        read_status(answer, b"")


@given(
    st.dictionaries(
        st.text(max_size=12) | st.sampled_from(["requests:", "requests:a:b:c", "dropped"]), st.integers(0, 9)
    )
)
def test_whatever_a_worker_counts_is_read(counters):
    stats = msgspec.structs.replace(STATS, workers=(WorkerStats(0, True, counters, {}),))
    read = read_status(msgspec.json.encode(status_document(SUPERVISOR, stats)), b"")
    assert isinstance(msgspec.json.decode(msgspec.json.encode(read), type=DaemonStatus), DaemonStatus)
