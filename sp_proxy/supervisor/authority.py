"""The certificate authority with which TLS is opened: whether there is one, before anything needs it."""

import os
from pathlib import Path

from sp_proxy.mitm.config import CA_KEY_FILE, TlsConfig


def check_authority(tls: TlsConfig) -> None:
    """Raises ValueError, one line for a person, if TLS is to be intercepted and there is no authority to do it with."""
    if not tls.intercept:
        return
    path = Path(tls.ca_file) if tls.ca_file else Path(tls.ca_directory) / CA_KEY_FILE
    key = "tls.ca_file" if tls.ca_file else "tls.ca_directory"
    hint = "" if tls.ca_file else " (sp-proxy ca init makes one)"
    try:
        readable, there = os.access(path, os.R_OK) and path.is_file(), path.exists()
    except OSError:  # in a folder that may not be looked into
        readable, there = False, True
    if not readable:
        reason = "cannot be read" if there else "does not exist"
        raise ValueError(f"{key}: {path} {reason}; needed because of tls.intercept{hint}")
