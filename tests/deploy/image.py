"""The project's image, built from its Dockerfile by buildah, on a base that is made here: no container registry is asked.

The base stands for ``python:3.12-slim-bookworm``: Debian's packages by mmdebstrap, and the interpreter of these tests in
/usr/local. It has this machine's certificates, so the build's own steps (apt-get, pip, uv) reach what this machine reaches.

Everything lies in ``.cache/image`` (``make clean`` removes it). A second build takes what has not changed from there.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require_root_tools, unavailable

ROOT = Path(__file__).parent.parent.parent
STORE = ROOT / ".cache" / "image"
BASE = "localhost/python:3.12-slim-bookworm"
IMAGE = "localhost/sp-proxy:test"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LIBRARIES = "ca-certificates,libbz2-1.0,libexpat1,libffi8,liblzma5,libncursesw6,libnsl2,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g"
"""What CPython links with, as in the image that the base stands for."""
_BUILD_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Image:
    """What the build made."""

    root: Path
    """Its file system, mounted. Not to be written to."""
    user: str
    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    directory: str
    labels: dict[str, str]
    health: list[str]
    """Words of the health check; empty for none."""


def buildah(*arguments: str, timeout: float = 60.0) -> str:
    """Runs it with a store of our own. Returns what it printed."""
    command = ["buildah", "--root", str(STORE / "store"), "--runroot", str(STORE / "run"), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


@contextmanager
def built_image() -> Iterator[Image]:
    """The image, for the time of the block."""
    require_root_tools("buildah", "mmdebstrap", "runc")
    release = re.search(r"^VERSION_CODENAME=(\S+)$", Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    if release is None or release[1] != "bookworm":
        unavailable("needs Debian 12: the interpreter of the tests is to run on the packages of the image's base")
    STORE.mkdir(parents=True, exist_ok=True)
    _make_base()
    # As it stands, but for the name under which the base is found.
    buildah(
        *("build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--tag", IMAGE),
        # Layers are for a second build, and take longer.
        *(() if os.environ.get("CI") == "true" else ("--layers",)),
        *("--build-arg", f"REVISION={'0' * 40}", "."),
        timeout=_BUILD_SECONDS,
    )
    container = buildah("from", "--pull-never", IMAGE).strip()
    try:
        root = Path(buildah("mount", container).strip())
        config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
        yield Image(
            root,
            config["User"],
            dict(variable.split("=", 1) for variable in config["Env"]),
            config["Entrypoint"],
            config["Cmd"],
            config["WorkingDir"],
            config["Labels"],
            config.get("Healthcheck", {}).get("Test", [])[1:],
        )
    finally:
        buildah("rm", container)


def _make_base() -> None:
    interpreter = Path(sys.base_prefix).resolve()
    wanted = hashlib.sha256(
        b"\0".join([Path(__file__).read_bytes(), sys.version.encode(), CERTIFICATES.read_bytes()])
    ).hexdigest()
    if _label(BASE) == wanted:
        return
    tree = STORE / "base"
    shutil.rmtree(tree, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_LIBRARIES}", "bookworm", str(tree)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_BUILD_SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        unavailable(f"mmdebstrap could not make the base: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    local = tree / "usr" / "local"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    skipped = shutil.ignore_patterns("test", "tests", "idlelib", "turtledemo", "__pycache__", "*.a")
    for part in ("bin", "lib"):
        shutil.copytree(interpreter / part, local / part, symlinks=True, ignore=skipped, dirs_exist_ok=True)
    for name in ("python", "python3"):
        (local / "bin" / name).unlink(missing_ok=True)
        (local / "bin" / name).symlink_to(version)
    pip = local / "bin" / "pip"
    pip.unlink(missing_ok=True)
    pip.write_text('#!/bin/sh\nexec python3 -m pip "$@"\n', "ascii")
    pip.chmod(0o755)
    shutil.copyfile(CERTIFICATES, tree / CERTIFICATES.relative_to("/"))
    subprocess.run(["chroot", str(tree), "ldconfig"], check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    container = buildah("from", "scratch").strip()
    try:
        buildah("add", "--quiet", container, str(tree), "/", timeout=_BUILD_SECONDS)
        buildah("config", "--env", f"SSL_CERT_FILE={CERTIFICATES}", "--label", f"base={wanted}", container)
        buildah("commit", "--quiet", container, BASE, timeout=_BUILD_SECONDS)
    finally:
        buildah("rm", container)
        shutil.rmtree(tree)


def _label(image: str) -> str:
    try:
        return str(
            json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]["Labels"].get("base", "")
        )
    except (AssertionError, KeyError, TypeError, AttributeError):
        return ""
