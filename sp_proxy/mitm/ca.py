"""The certificate authority that signs for intercepted names: made once, in a directory of its own, by mitmproxy's code."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import hashes
from mitmproxy.certs import Cert, CertStore

from sp_proxy.mitm.config import CA_BASENAME, CA_CERTIFICATE_FILE, CA_KEY_FILE, TlsConfig

_KEY_BITS = 2048


class CaError(Exception):
    """An authority cannot be made or read. The message is one line for a person."""


@dataclass(frozen=True, slots=True)
class CaInfo:
    """What a person wants to know of an authority."""

    certificate_file: Path
    subject: str
    fingerprint_sha256: str
    not_before: datetime
    not_after: datetime


def create(directory: Path, *, force: bool = False) -> CaInfo:
    """Make an authority. Raises CaError when there is one already (unless ``force``), or the directory cannot be written."""
    try:
        if (directory / CA_KEY_FILE).exists() and not force:
            raise CaError(f"{directory / CA_KEY_FILE} exists; clients trust it already (--force makes a new one)")
        directory.mkdir(parents=True, exist_ok=True)
        CertStore.create_store(directory, CA_BASENAME, _KEY_BITS, organization="sp_proxy", cn="sp_proxy CA")
    except OSError as error:
        raise CaError(f"{directory}: {_reason(error)}") from error
    return describe(TlsConfig(ca_directory=str(directory)))


def describe(config: TlsConfig) -> CaInfo:
    """Read an authority. Raises CaError."""
    path = Path(config.ca_file) if config.ca_file else Path(config.ca_directory) / CA_CERTIFICATE_FILE
    try:
        cert = Cert.from_pem(_certificate(path.read_bytes()))
    except OSError as error:
        raise CaError(f"{path}: {_reason(error)}{_hint(config, error)}") from error
    except ValueError as error:
        raise CaError(f"{path}: holds no certificate in PEM ({error})") from error
    if not cert.is_ca:
        raise CaError(f"{path}: not the certificate of an authority (no basic constraint CA)")
    subject = ", ".join(f"{key}={value}" for key, value in cert.subject)
    digest = cert.to_cryptography().fingerprint(hashes.SHA256()).hex(":").upper()
    return CaInfo(path, subject, digest, cert.notbefore, cert.notafter)


def certificate(config: TlsConfig) -> str:
    """The authority's certificate alone, in PEM: nothing secret. Raises CaError."""
    return Cert.from_pem(_certificate(describe(config).certificate_file.read_bytes())).to_pem().decode("ascii")


def load(config: TlsConfig) -> CertStore:
    """The authority, ready to sign. Raises CaError."""
    info = describe(config)
    path = Path(config.ca_file) if config.ca_file else Path(config.ca_directory) / CA_KEY_FILE
    if info.not_after < datetime.now(info.not_after.tzinfo):
        raise CaError(f"{path}: expired on {info.not_after:%Y-%m-%d}")
    try:
        # Diffie-Hellman parameters are wanted in a file, and written where there is none: not beside the authority,
        # whose directory may be read-only.
        with TemporaryDirectory() as scratch:
            return CertStore.from_files(path, Path(scratch) / "dhparam.pem")
    except OSError as error:
        raise CaError(f"{path}: {_reason(error)}{_hint(config, error)}") from error
    except (ValueError, TypeError) as error:
        raise CaError(f"{path}: holds no private key without a passphrase ({error})") from error


def _certificate(pem: bytes) -> bytes:
    start = pem.find(b"-----BEGIN CERTIFICATE-----")
    if start < 0:
        raise ValueError("no BEGIN CERTIFICATE")
    return pem[start:]


def _hint(config: TlsConfig, error: OSError) -> str:
    return "; run `sp-proxy ca init`" if isinstance(error, FileNotFoundError) and not config.ca_file else ""


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
