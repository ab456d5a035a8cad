"""The system's store of trusted authorities: a file in the place for local ones, and the tool that reads it again."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sp_proxy.mitm.ca import CaError

FILE_NAME = "sp-proxy-ca.crt"


@dataclass(frozen=True, slots=True)
class Store:
    """One family of distributions."""

    directory: Path
    command: tuple[str, ...]


STORES = (
    Store(Path("/usr/local/share/ca-certificates"), ("update-ca-certificates",)),
    Store(Path("/etc/pki/ca-trust/source/anchors"), ("update-ca-trust", "extract")),
    Store(Path("/etc/ca-certificates/trust-source/anchors"), ("trust", "extract-compat")),
)
"""Debian, Ubuntu, Alpine; Red Hat, Fedora; Arch."""


def install(pem: str, stores: tuple[Store, ...] = STORES) -> Path:
    """Add the authority. Returns its file. Raises CaError."""
    store = _store(stores)
    path = store.directory / FILE_NAME
    try:
        path.write_text(pem, "ascii")
        path.chmod(0o644)
    except OSError as error:
        raise CaError(f"{path}: {os.strerror(error.errno or 0).lower()} (this needs root)") from error
    _update(store)
    return path


def uninstall(stores: tuple[Store, ...] = STORES) -> Path:
    """Take it out. An authority that is not there is not an error. Returns its file. Raises CaError."""
    store = _store(stores)
    path = store.directory / FILE_NAME
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CaError(f"{path}: {os.strerror(error.errno or 0).lower()} (this needs root)") from error
    _update(store)
    return path


def _store(stores: tuple[Store, ...]) -> Store:
    for store in stores:
        if store.directory.is_dir() and shutil.which(store.command[0]):
            return store
    tools = ", ".join(store.command[0] for store in stores)
    raise CaError(f"this system has no store that is known (none of {tools}); sp-proxy ca show --pem prints it")


def _update(store: Store) -> None:
    try:
        done = subprocess.run(store.command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CaError(f"{store.command[0]}: {os.strerror(error.errno or 0).lower()}") from error
    if done.returncode:
        raise CaError(f"{store.command[0]} failed: {' '.join(done.stderr.split())[:200]}")
