"""A mitm worker takes seconds to start: those that tests of one file can share are made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sp_proxy.mitm import lean

lean.install()

from sp_proxy.mitm.ca import create  # noqa: E402
from sp_proxy.mitm.config import TlsConfig  # noqa: E402
from tests.mitm.certificates import write_certificate  # noqa: E402
from tests.mitm.origins import Origin  # noqa: E402
from tests.mitm.running_mitm import RunningMitm  # noqa: E402


@pytest.fixture(scope="module")
def flows() -> Iterator[RunningMitm]:
    """All HTTP as mitmproxy's flows."""
    with RunningMitm(options={"flows": True}) as worker:
        yield worker
        assert worker.process.poll() is None
        assert worker.counters.get("hook_faults", 0) == 0


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as listening:
        yield listening


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority."""
    directory = tmp_path_factory.mktemp("authority")
    create(directory)
    return directory


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An origin's key and certificate, for shop.test."""
    return write_certificate(tmp_path_factory.mktemp("origin") / "origin.pem", "shop.test")


@pytest.fixture(scope="module")
def intercepting(authority: Path, certificate: Path) -> Iterator[RunningMitm]:
    """TLS is opened, but that of bank.test."""
    tls = TlsConfig(
        intercept=(r"\.test$", "^127"), never=("bank",), ca_directory=str(authority), trusted_file=str(certificate)
    )
    with RunningMitm(tls=tls) as worker:
        yield worker
        assert worker.process.poll() is None
        assert worker.counters.get("hook_faults", 0) == 0


@pytest.fixture
def tls_origin(certificate: Path) -> Iterator[Origin]:
    with Origin(certificate, ("h2", "http/1.1")) as listening:
        yield listening
