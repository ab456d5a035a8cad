"""What connections there may be, and what they trust."""

import ssl

import httpcore
import httpx
import pytest

from sp_proxy.exporter.pools import connection_pools, core_url, tls_context
from sp_proxy.settings.model import Upload
from tests.certificate_authority import self_signed


@pytest.fixture
def server_pem(tmp_path):
    return self_signed(tmp_path / "server.pem")


@pytest.mark.parametrize("url,versions", [("https://host", {"1.1", "2"}), ("http://host", {"1.1"})])
def test_only_tls_can_tell_of_another_version(url, versions):
    assert set(connection_pools(httpx.URL(url), Upload())) == versions


@pytest.mark.parametrize("url", ["https://host", "http://host"])
def test_files_are_tried_whatever_the_url(url, tmp_path):
    with pytest.raises(ValueError, match=r"^upload\.ca_file: "):
        connection_pools(httpx.URL(url), Upload(ca_file=str(tmp_path / "missing.pem")))


@pytest.mark.parametrize(
    "url,host,port,target",
    [
        ("https://Host.example/a%20b?c=d", b"host.example", None, b"/a%20b?c=d"),
        ("http://[::1]:4318/v1/traces", b"::1", 4318, b"/v1/traces"),
        ("http://bücher.example", b"xn--bcher-kva.example", None, b"/"),
    ],
)
def test_a_url_in_the_other_form(url, host, port, target):
    made = core_url(httpx.URL(url))
    assert isinstance(made, httpcore.URL)
    assert (made.host, made.port, made.target) == (host, port, target)


def test_what_the_context_asks_for(server_pem):
    for context in (tls_context(Upload()), tls_context(Upload(ca_file=str(server_pem)))):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
    assert len(tls_context(Upload()).get_ca_certs()) > 10


def test_authorities_of_the_environment_are_not_taken(monkeypatch, server_pem):
    usual = len(tls_context(Upload()).get_ca_certs())
    monkeypatch.setenv("SSL_CERT_FILE", str(server_pem))
    assert len(tls_context(Upload()).get_ca_certs()) == usual


@pytest.mark.parametrize("content", [b"", b"not a certificate", None])
def test_files_that_cannot_be_used_are_one_line(tmp_path, content):
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_bytes(content)
    for name in ("ca_file", "client_cert_file"):
        with pytest.raises(ValueError, match=f"^upload.{name}: {path}: ") as caught:
            tls_context(Upload.model_validate({name: str(path)}))
        assert "\n" not in str(caught.value)


def test_an_encrypted_key_is_refused_and_no_password_is_asked_for(tmp_path):
    path = self_signed(tmp_path / "sealed.pem", b"secret")
    with pytest.raises(ValueError, match=r"^upload\.client_cert_file: "):
        tls_context(Upload(client_cert_file=str(path)))
