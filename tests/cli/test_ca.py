"""``sp-proxy ca`` as people use it: what it prints, exit codes, one line an error."""

from pathlib import Path

import pytest

from sp_proxy.cli.main import main
from sp_proxy.mitm import trust
from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, CA_KEY_FILE


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["ca", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_init_show_and_init_again(capsys, tmp_path: Path):
    code, out, _ = run(capsys, "init", "--set", "tls.ca_directory=mine")
    assert code == 0
    assert out.startswith(f"made mine/{CA_CERTIFICATE_FILE} (SHA-256 ")
    assert (tmp_path / "mine" / CA_KEY_FILE).exists()
    code, out, _ = run(capsys, "show", "--directory", "mine")
    assert code == 0
    assert "sp_proxy CA" in out
    assert "valid:" in out
    code, out, err = run(capsys, "init", "--directory", "mine")
    assert (code, out) == (1, "")
    assert err.endswith("clients trust it already (--force makes a new one)\n")
    assert len(err.splitlines()) == 1
    code, _, _ = run(capsys, "init", "--directory", "mine", "--force")
    assert code == 0


def test_pem_is_the_certificate_alone(capsys, tmp_path: Path):
    run(capsys, "init")
    code, out, _ = run(capsys, "show", "--pem")
    assert code == 0
    assert out == (tmp_path / "sp_proxy_ca" / CA_CERTIFICATE_FILE).read_text()


def test_without_an_authority(capsys):
    code, out, err = run(capsys, "show")
    assert (code, out) == (1, "")
    assert err == f"sp-proxy: sp_proxy_ca/{CA_CERTIFICATE_FILE}: no such file or directory; run `sp-proxy ca init`\n"
    assert run(capsys, "install")[0] == 1


def test_an_own_authority_is_not_made(capsys):
    code, _, err = run(capsys, "init", "--set", "tls.ca_file=own.pem")
    assert code == 1
    assert "none is made" in err


def test_install_and_remove(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trust.install, "__defaults__", ((trust.Store(tmp_path, ("true",)),),))
    monkeypatch.setattr(trust.uninstall, "__defaults__", ((trust.Store(tmp_path, ("true",)),),))
    run(capsys, "init")
    code, out, _ = run(capsys, "install")
    assert code == 0
    assert out.startswith(f"installed {tmp_path / trust.FILE_NAME}\n")
    assert (tmp_path / trust.FILE_NAME).exists()
    assert run(capsys, "install", "--remove")[:2] == (0, f"removed {tmp_path / trust.FILE_NAME}\n")
    assert not (tmp_path / trust.FILE_NAME).exists()


def test_wrong_settings(capsys):
    code, _, err = run(capsys, "show", "--set", "tls.ca_dir=x")
    assert code == 2
    assert len(err.splitlines()) == 1
