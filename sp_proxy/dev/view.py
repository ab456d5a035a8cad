"""What a service in a namespace sees of this machine's certificate stores: the same files, with our authority in them.

They are laid over the real ones in the service's own mount namespace, which no other process shares, and which is gone with
it: so clients trust our authority without a variable, and the system's store is never touched.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from sp_proxy.dev.environment import Trust, own_bundles

HASHED_DIRECTORY = Path("/etc/ssl/certs")
"""Debian, Alpine, SUSE: OpenSSL's directory, with a link for each authority by the hash of its name."""
BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/ssl/cert.pem"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/pki/tls/cert.pem"),
    Path("/usr/lib/ssl/cert.pem"),
)
_CERTIFI = (
    "lib/python3*/site-packages/certifi/cacert.pem",
    "lib/python3*/site-packages/pip/_vendor/certifi/cacert.pem",
    "lib/python3*/dist-packages/certifi/cacert.pem",
)
_JAVA = ("lib/security/cacerts", "jre/lib/security/cacerts")


class Cover(Struct, frozen=True):
    """One file or directory that stands in the place of another."""

    source: Path
    target: Path


def covers(
    trust: Trust, directory: Path, command: Sequence[str], service_directory: Path, environ: Mapping[str, str]
) -> list[Cover]:
    """All that is laid over: the system's, those that the environment names, that of Java, and certifi's bundle in the Python
    environments at hand. ``directory`` is the run's own, where copies are made.
    """
    path = environ.get("PATH", os.defpath)
    found = []
    if HASHED_DIRECTORY.is_dir():
        found.append(Cover(_hashed_copy(trust, directory / "certs"), HASHED_DIRECTORY))
    hashed = HASHED_DIRECTORY.resolve()
    found += [
        Cover(trust.bundle, bundle.resolve())
        for bundle in BUNDLES
        if bundle.is_file() and not bundle.resolve().is_relative_to(hashed)
    ]
    named = [each.resolve() for each in own_bundles(environ)]
    found += [Cover(trust.bundle, each) for each in named if each.is_file() and not each.is_relative_to(hashed)]
    prefixes = [*_prefixes(command, service_directory, path)]
    prefixes += [Path(environ["VIRTUAL_ENV"])] if environ.get("VIRTUAL_ENV") else []
    found += [Cover(trust.bundle, each) for prefix in prefixes for pattern in _CERTIFI for each in prefix.glob(pattern)]
    java = shutil.which("java", path=path)
    homes = [Path(java).resolve().parent.parent] if java else []
    homes += [Path(environ["JAVA_HOME"])] if environ.get("JAVA_HOME") else []
    stores = {(home / name).resolve() for home in homes for name in _JAVA}
    found += [
        Cover(trust.java_store, store)
        for store in sorted(stores)
        if store.is_file() and not store.is_relative_to(hashed)
    ]
    return list({cover.target: cover for cover in found}.values())


def covered(covers: Iterable[Cover], command: Sequence[str]) -> list[str]:
    """A command of root's that lays them over in the mount namespace it is in, and becomes another command."""
    lines = ["set -e", *(shlex.join(["mount", "--bind", str(each.source), str(each.target)]) for each in covers)]
    lines.append('exec "$@"')
    return ["sh", "-c", "; ".join(lines), "sh", *command]


def _prefixes(command: Sequence[str], directory: Path, path: str) -> Iterable[Path]:
    """Python environments that the service may use: beside its program, active, or in its directory by the usual names."""
    programs = [
        command[0] if "/" in command[0] else shutil.which(command[0], path=path),
        shutil.which("python3", path=path),
    ]
    for program in programs:
        if program:
            yield (directory / program).parent.parent
            yield (directory / program).resolve().parent.parent
    yield directory / ".venv"
    yield directory / "venv"


def _hashed_copy(trust: Trust, copy: Path) -> Path:
    """OpenSSL's directory with our authority in it, by its hash where the openssl program can tell it."""
    if copy.exists():
        return copy
    shutil.copytree(HASHED_DIRECTORY, copy, symlinks=True)
    copy.chmod(0o755)
    for name, source in (("ca-certificates.crt", trust.bundle), ("java/cacerts", trust.java_store)):
        if (copy / name).is_file():
            _replace(copy / name, source)
    for algorithm in ("-subject_hash", "-subject_hash_old"):
        hashed = _openssl_hash(trust.authority, algorithm)
        number = next(number for number in range(100) if not os.path.lexists(copy / f"{hashed}.{number}"))
        if hashed:
            shutil.copyfile(trust.authority, copy / f"{hashed}.{number}")
    return copy


def _replace(path: Path, source: Path) -> None:
    path.unlink()
    shutil.copyfile(source, path)
    path.chmod(0o644)


def _openssl_hash(certificate: Path, algorithm: str) -> str:
    if shutil.which("openssl") is None:
        return ""
    command = ["openssl", "x509", "-noout", algorithm, "-in", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
