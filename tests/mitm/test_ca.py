"""The authority: made, described, loaded, and every way in which that fails in one line."""

import stat
from pathlib import Path

import pytest

from sp_proxy.mitm.ca import CaError, certificate, create, describe, load
from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, CA_KEY_FILE, TlsConfig
from tests.mitm.certificates import write_certificate


def test_made_described_and_loaded(tmp_path: Path):
    info = create(tmp_path / "new" / "ca")
    config = TlsConfig(ca_directory=str(tmp_path / "new" / "ca"))
    assert info == describe(config)
    assert info.certificate_file == tmp_path / "new" / "ca" / CA_CERTIFICATE_FILE
    assert "sp_proxy CA" in info.subject
    assert len(info.fingerprint_sha256) == 32 * 3 - 1
    assert (info.not_after - info.not_before).days > 3000
    assert stat.S_IMODE((tmp_path / "new" / "ca" / CA_KEY_FILE).stat().st_mode) == 0o600
    assert certificate(config).startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in certificate(config)
    store = load(config)
    entry = store.get_cert("a.test", [])
    assert entry.cert.issuer == store.default_ca.subject


def test_an_existing_one_is_kept(tmp_path: Path):
    first = create(tmp_path)
    with pytest.raises(CaError, match=r"exists; clients trust it already"):
        create(tmp_path)
    assert describe(TlsConfig(ca_directory=str(tmp_path))) == first
    assert create(tmp_path, force=True).fingerprint_sha256 != first.fingerprint_sha256


def test_a_place_that_may_not_be_looked_at_is_said(tmp_path: Path):
    with pytest.raises(CaError, match=r": file name too long$"):
        create(tmp_path / ("x" * 300))


def test_loading_writes_nothing(tmp_path: Path):
    create(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        if path.name not in {CA_KEY_FILE, CA_CERTIFICATE_FILE}:
            path.unlink()
    load(TlsConfig(ca_directory=str(tmp_path)))
    assert len(before) > len(list(tmp_path.iterdir())) == 2


def test_an_own_authority(tmp_path: Path):
    own = write_certificate(tmp_path / "own.pem", "My CA", days=10)
    config = TlsConfig(ca_directory=str(tmp_path / "unused"), ca_file=str(own))
    assert describe(config).certificate_file == own
    assert load(config).default_ca.cn == "My CA"


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file"),
        (b"nothing", "holds no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate in PEM"),
    ],
)
def test_what_is_no_authority(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "own.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaError, match=message) as raised:
        load(TlsConfig(ca_file=str(path)))
    assert "\n" not in str(raised.value)


def test_an_ordinary_or_expired_certificate_and_one_without_its_key(tmp_path: Path):
    ordinary = write_certificate(tmp_path / "a.pem", "a.test", authority=False)
    with pytest.raises(CaError, match="not the certificate of an authority"):
        load(TlsConfig(ca_file=str(ordinary)))
    expired = write_certificate(tmp_path / "b.pem", "My CA", days=-1)
    with pytest.raises(CaError, match="expired on"):
        load(TlsConfig(ca_file=str(expired)))
    complete = write_certificate(tmp_path / "c.pem", "My CA").read_bytes()
    keyless = tmp_path / "d.pem"
    keyless.write_bytes(complete[complete.index(b"-----BEGIN CERT") :])
    with pytest.raises(CaError, match="holds no private key"):
        load(TlsConfig(ca_file=str(keyless)))


def test_without_an_authority_there_is_a_hint(tmp_path: Path):
    with pytest.raises(CaError, match="sp-proxy ca init"):
        load(TlsConfig(ca_directory=str(tmp_path)))


def test_a_directory_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CaError, match=r"file exists|not a directory"):
        create(tmp_path / "file")
