"""Backends that cannot prove who they are get nothing."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.certificate_authority import CertificateAuthority
from tests.exporter.fault_matrix import RECORDS, SHORT_RETRY, UPLOAD, ids, rig_to, take_in
from tests.exporter.rig import open_rig
from tests.misbehaving_backend import open_backend

# One upload at a time: httpcore lets requests share a connection that is being made, and when making it fails for the
# first and works for the second of them, it forgets to close it (it is left to the garbage collector).
TLS = UPLOAD | {"concurrency": 1, "read_timeout": "5s", "timeout": "5s"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("stranger"), "somebody else")


CERTIFICATES: dict[str, tuple[Callable[[CertificateAuthority, CertificateAuthority], Any], str]] = {
    "of another authority": (lambda _, stranger: stranger.server("127.0.0.1"), "unable to get local issuer"),
    "expired": (lambda ours, _: ours.server("127.0.0.1", valid_days=(-30, -1)), "expired"),
    "not yet valid": (lambda ours, _: ours.server("127.0.0.1", valid_days=(1, 30)), "not yet valid"),
    "of another host": (lambda ours, _: ours.server("backend.example"), "mismatch"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_a_wrong_certificate_gets_nothing_and_is_retried_until_it_is_right(name, authority, stranger):
    make, says = CERTIFICATES[name]
    upload = TLS | {"ca_file": str(authority.ca_file)}
    async with open_backend(tls=make(authority, stranger)) as backend, rig_to(backend, upload=upload) as rig:
        await take_in(rig)
        stats = await rig.until(lambda stats: stats.uploads.get("retryable:connect_error", 0) >= 3)
        assert not backend.received
        assert says in stats.last_error
        assert backend.connections == 0 or name == "of another host"
        backend.tls = authority.server("127.0.0.1")
        stats = await rig.settled(RECORDS)
    assert (stats.accepted, stats.dropped) == (RECORDS, {})
    assert set(stats.uploads) == {"accepted", "retryable:connect_error"}
    assert ids(backend) == Counter(range(1, RECORDS + 1))


async def test_a_wrong_certificate_that_stays_is_outlived_by_the_spool(authority, stranger, tmp_path):
    upload = TLS | {"ca_file": str(authority.ca_file)}
    spool = {"mode": "overflow", "directory": str(tmp_path)}
    async with open_backend(tls=stranger.server("127.0.0.1")) as backend:
        async with rig_to(backend, upload=upload, spool=spool) as rig:
            await take_in(rig)
            stats = await rig.finish(0.2)
        assert (stats.spooled, stats.dropped, backend.received) == (RECORDS, {}, [])
        backend.tls = authority.server("127.0.0.1")
        async with rig_to(backend, upload=upload, spool=spool) as rig:
            await rig.until(lambda stats: stats.accepted == RECORDS)
    assert ids(backend) == Counter(range(1, RECORDS + 1))


async def test_plain_http_where_tls_is_expected_gets_nothing(authority):
    upload = TLS | {"ca_file": str(authority.ca_file), "timeout": "600ms"}
    async with open_backend() as backend:
        url = backend.url.replace("http:", "https:")
        async with open_rig(url, upload=upload, retry=SHORT_RETRY) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert backend.received == []
