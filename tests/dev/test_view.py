import os
import subprocess
from pathlib import Path

import pytest

from sp_proxy.dev import trust, view
from sp_proxy.dev.view import Cover, covered, covers
from tests.certificate_authority import CertificateAuthority
from tests.requirements import require_root_tools


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    trust.authority(directory / "state")
    return trust.write_files(directory / "state", directory, [])


def test_the_stores_at_hand(files, tmp_path):
    venv = tmp_path / ".venv"
    certifi = venv / "lib/python3.12/site-packages/certifi/cacert.pem"
    certifi.parent.mkdir(parents=True)
    certifi.write_text("")
    own = CertificateAuthority(tmp_path).ca_file
    run = tmp_path / "run"
    run.mkdir()
    environ = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(own), "CURL_CA_BUNDLE": str(tmp_path / "missing")}
    found = {cover.target: cover.source for cover in covers(files, run, ["python3"], tmp_path, environ)}
    assert found[certifi] == files.bundle
    assert found[own] == files.bundle
    assert all(target.exists() for target in found)
    if view.HASHED_DIRECTORY.is_dir():
        copy = found[view.HASHED_DIRECTORY]
        ours = files.authority.read_bytes()
        assert (copy / "ca-certificates.crt").read_bytes() == files.bundle.read_bytes()
        assert [path for path in copy.iterdir() if path.suffix == ".0" and path.is_file() and path.read_bytes() == ours]
    # Again is the same: several services see one copy.
    assert covers(files, run, ["python3"], tmp_path, environ)


def test_javas_store(files, tmp_path):
    home = tmp_path / "jdk"
    (home / "lib/security").mkdir(parents=True)
    (home / "lib/security/cacerts").write_bytes(b"")
    found = covers(files, tmp_path, ["x"], tmp_path, {"PATH": "", "JAVA_HOME": str(home)})
    assert Cover(files.java_store, home / "lib/security/cacerts") in found


def test_what_is_laid_over_is_seen_by_the_command_alone(tmp_path):
    require_root_tools("unshare", "mount")
    source, target = tmp_path / "our's", tmp_path / "theirs"
    source.write_text("ours")
    target.write_text("theirs")
    command = covered([Cover(source, target)], ["cat", str(target)])
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--", *command], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ours"
    assert Path(target).read_text() == "theirs"
