"""What tests of stores have in common: short ways to ask, and log records."""

from sp_proxy.backend.log_model import LogBatch, StoredLog
from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.query.syntax import EVERYTHING
from tests.backend.requests import START

TRACE = b"t" * 16
FAR = 2**62


def summaries(appended):
    return [arrived.summary for arrived in appended.exchanges]


def ask(text):
    return parse(text, now_unix_ns=START)


async def paths(store, wanted=EVERYTHING, *, limit=1000):
    page = await store.exchanges(wanted, before="", limit=limit)
    return [exchange.path for exchange in page.exchanges]


async def edges(store, since=START, until=START + 60 * 10**9):
    found = await store.service_map(since_unix_ns=since, until_unix_ns=until, limit=100)
    return [(edge.source, edge.host, edge.target, edge.requests, edge.errors) for edge in found.edges]


def log(body="hello", *, at=0, trace=b"", span=b"", service="orders", severity=9):
    return StoredLog(
        time_unix_ns=START + at * 1_000_000,
        trace_id=trace,
        span_id=span,
        severity=severity,
        severity_text="INFO",
        service=service,
        body=body,
        resource=0,
        details={"attributes": {"at": at}},
    )


def logs(*records, received=1, tenant=""):
    return LogBatch(tenant, received, [{"service.name": "orders"}], list(records))
