import os
import ssl
import stat
import warnings
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from sp_proxy.dev import trust
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.identity import invoking
from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, CA_KEY_FILE
from tests.certificate_authority import CertificateAuthority
from tests.requirements import require_root_tools


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    directory: Path = tmp_path_factory.mktemp("state") / "sp-proxy" / "dev"
    assert trust.authority(directory)
    return directory


def test_where_state_is_kept():
    home = Path("/home/ann")
    assert trust.state_directory({}, home) == Path("/home/ann/.local/state/sp-proxy/dev")
    assert trust.state_directory({"XDG_STATE_HOME": "/var/ann"}, home) == Path("/var/ann/sp-proxy/dev")
    assert trust.state_directory({"XDG_STATE_HOME": "relative"}, home) == Path("/home/ann/.local/state/sp-proxy/dev")


def test_the_authority_is_made_once_and_for_its_user_alone(kept):
    before = (kept / CA_KEY_FILE).read_bytes()
    assert not trust.authority(kept)
    assert (kept / CA_KEY_FILE).read_bytes() == before
    assert stat.S_IMODE((kept / CA_KEY_FILE).stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


def test_the_files_of_a_run(kept, tmp_path):
    own = CertificateAuthority(tmp_path).ca_file
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + own.read_text())
    files = trust.write_files(kept, tmp_path, [broken, own, tmp_path / "missing.pem"])
    names = {
        path.name: {str(each["subject"]) for each in _loaded(path)}
        for path in (files.authority, files.bundle, files.known)
    }
    assert len(names["authority.pem"]) == 1
    assert names["bundle.pem"] == names["known.pem"] | names["authority.pem"]
    assert any("test authority" in name for name in names["known.pem"])
    assert len(_loaded(files.bundle)) == len(_loaded(files.known)) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old authority of the system's with a serial number of zero
        store = pkcs12.load_pkcs12(files.java_store.read_bytes(), None)
    assert len(store.additional_certs) == len(_loaded(files.bundle))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in (files.bundle, files.java_store))


def _loaded(path: Path) -> list[dict[str, object]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return [dict(each) for each in context.get_ca_certs()]


def test_a_copy_for_another_user(kept, tmp_path):
    copy = trust.copy_key(kept, invoking({}), tmp_path / "copy", os.geteuid())
    assert (copy / CA_KEY_FILE).read_bytes() == (kept / CA_KEY_FILE).read_bytes()
    assert stat.S_IMODE((copy / CA_KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_the_key_is_read_as_its_owner(tmp_path):
    require_root_tools()
    secret = tmp_path / "secret"
    secret.write_text("root's alone")
    secret.chmod(0o600)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in (CA_KEY_FILE, CA_CERTIFICATE_FILE):
        (theirs / name).symlink_to(secret)
    with pytest.raises(DevError, match="permission denied"):
        trust.copy_key(theirs, invoking({}, "65534"), tmp_path / "copy", 65534)
    assert not (tmp_path / "copy").exists()


def test_what_goes_wrong_is_one_line(kept, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DevError, match=r"not a directory \(XDG_STATE_HOME names"):
        trust.authority(tmp_path / "file" / "dev")
    with pytest.raises(DevError, match="no such file"):
        trust.write_files(tmp_path, tmp_path, [])
    with pytest.raises(DevError, match="no such file"):
        trust.write_files(kept, tmp_path / "missing", [])
