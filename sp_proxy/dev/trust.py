"""The authority of ``sp-proxy dev`` and the files by which applications trust it.

The authority is made on the first run, in the user's state directory, readable by the user alone. It is never put into the
system's store; the files that name it are those of one run, and go with it.
"""

import fcntl
import os
import ssl
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from sp_proxy.dev.environment import Trust
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.identity import Identity, acting_as
from sp_proxy.mitm.config import CA_CERTIFICATE_FILE, CA_KEY_FILE

_NAME = "sp-proxy-ca"
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def state_directory(environ: Mapping[str, str], home: Path) -> Path:
    """Where the user's state is (XDG Base Directory Specification)."""
    given = environ.get("XDG_STATE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else home / ".local" / "state") / "sp-proxy" / "dev"


def authority(directory: Path) -> bool:
    """Have an authority in ``directory``; True if it was made now. Raises DevError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once make one authority
            if (directory / CA_KEY_FILE).exists() and (directory / CA_CERTIFICATE_FILE).exists():
                return False
            from sp_proxy.mitm.ca import CaError, create  # noqa: PLC0415 - half a second, for the first run only

            try:
                create(directory, force=True)
            except CaError as error:
                raise DevError(str(error)) from error
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise DevError(f"{directory}: {said} (XDG_STATE_HOME names the directory that it is in)") from error
    return True


def write_files(authority_directory: Path, run_directory: Path, further: Iterable[Path]) -> Trust:
    """The files of a run, readable by all. ``further`` are bundles that the user trusts too. Raises DevError."""
    trust = Trust(
        run_directory / "authority.pem",
        run_directory / "bundle.pem",
        run_directory / "known.pem",
        run_directory / "trust.p12",
    )
    try:
        ours = x509.load_pem_x509_certificate((authority_directory / CA_CERTIFICATE_FILE).read_bytes())
        known = known_authorities(further)
        certificates = [PKCS12Certificate(each, None) for each in known]
        store = serialize_java_truststore(
            [*certificates, PKCS12Certificate(ours, _NAME.encode())],
            NoEncryption(),  # Java's own store has no password either, and is read without one
        )
        ours_pem = ours.public_bytes(Encoding.PEM)
        known_pem = b"".join(each.public_bytes(Encoding.PEM) for each in known)
        for path, content in (
            (trust.authority, ours_pem),
            (trust.known, known_pem),
            (trust.bundle, known_pem + ours_pem),
            (trust.java_store, store),
        ):
            path.write_bytes(content)
            path.chmod(0o644)
    except OSError as error:
        raise DevError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise DevError(
            f"{authority_directory}: its certificate cannot be read ({error}); remove it and start again"
        ) from error
    return trust


def known_authorities(further: Iterable[Path]) -> list[x509.Certificate]:
    """certifi's, the system's, and those in the user's own bundles, each once."""
    system = next((path for path in map(Path, _system_bundles()) if path.is_file()), None)
    paths = [Path(certifi.where()), *([system] if system else []), *further]
    found: dict[bytes, x509.Certificate] = {}
    for path in paths:
        for certificate in _certificates(path):
            found.setdefault(certificate.public_bytes(Encoding.DER), certificate)
    return list(found.values())


def copy_key(authority_directory: Path, owner: Identity, directory: Path, user: int) -> Path:
    """The authority, for a daemon of another user, which alone may read the copy. It is read as its owner: what is only root's
    to read must not be copied because a link leads there. Raises DevError.
    """
    try:
        with acting_as(owner):
            contents = {name: (authority_directory / name).read_bytes() for name in (CA_KEY_FILE, CA_CERTIFICATE_FILE)}
    except OSError as error:
        raise DevError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from error
    directory.mkdir(mode=0o700)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
        os.chown(directory / name, user, user)
        (directory / name).chmod(0o600)
    os.chown(directory, user, user)
    return directory


def _system_bundles() -> list[str]:
    default = ssl.get_default_verify_paths().openssl_cafile
    return [*_SYSTEM_BUNDLES, default]


def _certificates(path: Path) -> list[x509.Certificate]:
    """What is readable of a bundle: one strange certificate costs itself only."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    found = []
    for block in content.split(b"-----END CERTIFICATE-----")[:-1]:
        begin = block.find(b"-----BEGIN CERTIFICATE-----")
        if begin < 0:
            continue
        with warnings.catch_warnings(), suppress(ValueError):
            warnings.simplefilter("ignore")  # old authorities with a serial number of zero are the system's affair
            found.append(x509.load_pem_x509_certificate(block[begin:] + b"-----END CERTIFICATE-----\n"))
    return found
