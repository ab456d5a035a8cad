"""TLS is opened with an authority that is there."""

from pathlib import Path

import pytest

from sp_proxy.mitm.config import CA_KEY_FILE, TlsConfig
from sp_proxy.supervisor.authority import check_authority


def test_an_authority_is_needed_where_tls_is_intercepted(tmp_path: Path):
    check_authority(TlsConfig())
    directory = TlsConfig(intercept=(".",), ca_directory=str(tmp_path))
    with pytest.raises(ValueError, match=r"^tls.ca_directory: .* does not exist; .*sp-proxy ca init"):
        check_authority(directory)
    (tmp_path / CA_KEY_FILE).write_text("")
    check_authority(directory)
    with pytest.raises(ValueError, match=r"^tls.ca_file: .* does not exist; needed because of tls.intercept$"):
        check_authority(TlsConfig(intercept=(".",), ca_file=str(tmp_path / "none.pem")))
    with pytest.raises(ValueError, match="cannot be read"):
        check_authority(TlsConfig(intercept=(".",), ca_file=str(tmp_path)))
    with pytest.raises(ValueError, match=r"x (cannot be read|does not exist); needed because of tls.intercept$"):
        check_authority(TlsConfig(intercept=(".",), ca_file="x" * 300))  # where it may not be looked
