"""The workers' numbers: each known one with its meaning and labels, whatever the workers count."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric

import sp_proxy
from sp_proxy.admin.worker_metrics import COUNTERS, GAUGES, worker_metrics
from sp_proxy.exporter.stats import WorkerStats

PACKAGE = Path(sp_proxy.__file__).parent
ROOMS = ("taps", "relay", "mitm", "channel", "core", "addons")


def families(*workers: WorkerStats) -> dict[str, Metric]:
    made = list(worker_metrics(workers))
    assert len({family.name for family in made}) == len(made)
    assert all(family.documentation.endswith(".") for family in made)
    return {family.name.removeprefix("sp_proxy_worker_"): family for family in made}


def samples(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_totals_have_the_workers_number_and_one_set_of_labels_each():
    made = families(
        WorkerStats(0, connected=True, counters={"connections": 8, "raw:bare_lf": 2}, gauges={"connections_open": 3}),
        WorkerStats(1, connected=False, counters={"connections": 1, "raw": 6, "odd-name": 1}, gauges={}),
    )
    assert samples(made["connections"]) == {("0",): 8, ("1",): 1}
    assert samples(made["raw"]) == {("0", "bare_lf"): 2, ("1", ""): 6}
    assert samples(made["odd_name"]) == {("1",): 1}
    assert samples(made["connections_open"]) == {("0",): 3}
    assert samples(made["connected"]) == {("0",): 1, ("1",): 0}


def test_labels_tell_what_was_counted():
    counters = {
        "raw_connections:5432:not_http": 2,
        "raw_connections:other:tls": 1,
        "tls_connections:443": 3,
        "tls_server_names:a.test": 4,
        "tls_alpn:h2": 5,
        "requests:no_rule": 6,
        "requests:captured:server[0]": 7,
    }
    made = families(WorkerStats(0, connected=True, counters=counters, gauges={}))
    assert samples(made["raw_connections"]) == {("0", "5432", "not_http"): 2, ("0", "other", "tls"): 1}
    assert samples(made["tls_connections"]) == {("0", "443"): 3}
    assert samples(made["tls_server_names"]) == {("0", "a.test"): 4}
    assert samples(made["tls_alpn"]) == {("0", "h2"): 5}
    assert samples(made["requests"]) == {("0", "no_rule", ""): 6, ("0", "captured", "server[0]"): 7}


def test_what_has_not_happened_yet_is_a_family_too():
    made = families()
    assert {*COUNTERS, *GAUGES} <= {*made}
    assert not any(family.samples for family in made.values())


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12) | st.sampled_from(["raw_connections:", "tls_alpn", "a:b:c"]), st.integers(0, 9)
    )
)
def test_whatever_a_worker_counts_is_a_metric(counters: dict[str, int]):
    assert families(WorkerStats(0, connected=True, counters=counters, gauges={}))


def counted() -> Iterator[str]:
    """Names of counters, as far as they stand in the code where something is counted."""
    for room in ROOMS:
        for path in (PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counters"):
                    for part in ast.walk(node.slice):
                        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value != ":":
                            yield part.value.partition(":")[0]
                            break


def test_every_counter_in_the_code_has_its_text_and_every_text_its_counter():
    names = set(counted())
    assert len(names) > 20
    assert names - {"raw_connections"} <= set(COUNTERS)
    source = "".join(path.read_text("utf-8") for room in ROOMS for path in (PACKAGE / room).rglob("*.py"))
    assert [name for name in COUNTERS if not re.search(rf"[\"']{name}[\"':]", source)] == []
