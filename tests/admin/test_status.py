"""The numbers of ``GET /status`` and their equation."""

import json

import msgspec
import pytest

from sp_proxy.admin.metrics import SupervisorStats
from sp_proxy.admin.status import status_document
from sp_proxy.exporter.stats import DestinationStats, ExporterStats, SpoolStats, WorkerStats

SUPERVISOR = SupervisorStats(2, 1, 0, False, 0, 0, 0, False, True)
STATS = ExporterStats(
    captured=100,
    shed={"sampled_out": 10, "queue_full": 1},
    waiting_batch=4,
    held_bytes=99,
    channel_dropped={"channel_full": 7},
    channel_errors=0,
    destinations=(
        DestinationStats(
            name="a",
            recovered=9,
            accepted=60,
            rejected=5,
            dropped={"queue_full": 10},
            waiting_queue=6,
            spooled=10,
            in_flight=3,
            spool=SpoolStats("ready", entries=2, size=500),
        ),
        DestinationStats(name="b", accepted=85),
        DestinationStats(name="late", elsewhere=80, accepted=5),
    ),
    workers=(WorkerStats(0, True, {"captured": 100}, {"cpu_seconds": 1.5}),),
)


def test_the_equation_can_be_checked_by_a_reader():
    document = json.loads(json.dumps(status_document(SUPERVISOR, STATS)))
    for each in document["exporters"]:
        assert each["captured"] + each["recovered"] == (
            each["accepted"] + each["rejected"] + each["waiting"] + each["spooled"] + sum(each["dropped"].values())
        )
    assert document["balanced"] is True
    assert document["lost_before_the_exporter"] == {"channel_full": 7}
    (worker,) = document["worker_totals"]
    assert (worker["worker_id"], worker["connected"]) == (0, True)
    assert (worker["counters"], worker["gauges"]) == ({"captured": 100}, {"cpu_seconds": 1.5})
    first = document["exporters"][0]
    assert first["dropped"] == {"queue_full": 11, "sampled_out": 10}
    assert first["spool"]["entries"] == 2
    assert [each["captured"] for each in document["exporters"]] == [100, 100, 20]


@pytest.mark.parametrize("accepted,missing", [(84, 1), (86, -1)])
def test_a_record_that_is_nowhere_or_twice_is_seen(accepted, missing):
    other = msgspec.structs.replace(STATS.destinations[1], accepted=accepted)
    document = status_document(
        SUPERVISOR, msgspec.structs.replace(STATS, destinations=(STATS.destinations[0], other, STATS.destinations[2]))
    )
    assert document["balanced"] is False
    assert [each["missing"] for each in document["exporters"]] == [0, missing, 0]
