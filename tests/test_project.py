"""The project as a whole: lint, types, the scripts, the lock, and what may stand nowhere in it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.requirements import unavailable

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME: list[str] = PROJECT["project"]["dependencies"]
DEVELOPMENT: list[str] = PROJECT["dependency-groups"]["dev"]

# In parts, or this file would be what it forbids.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in [
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("static", "crates", "io"),
        ("proxy", "golang", "org"),
        ("rubygems", "org"),
        ("repo", "maven", "apache", "org"),
        ("ghcr", "io"),
        ("docker", "io"),
        ("quay", "io"),
    ]
]
MACHINE_PATHS = [f"/{directory}/" for directory in ("work", "root")]


def _run(*command: str) -> None:
    """The command succeeds; its output is the failure."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)


def _tool(name: str) -> str:
    """A tool of this very environment, activated or not."""
    return str(Path(sys.executable).with_name(name))


def _files() -> Iterator[Path]:
    """What is in the repository, and what is about to be."""
    if not (ROOT / ".git").exists():
        unavailable("not a git clone: what belongs to the project is not known")
    # The tests may run as another user than the owner of the clone.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


def _containing(forbidden: list[str]) -> list[str]:
    pattern = re.compile("|".join(map(re.escape, forbidden)))
    found = []
    for file in _files():
        text = file.read_bytes().decode(errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {match[0]}")
    return found


def _lock(name: str) -> dict[str, set[Version]]:
    """Package → the versions it is pinned to: one, or one for each marker."""
    pins: dict[str, set[Version]] = {}
    for line in (ROOT / name).read_text().replace("\\\n", " ").splitlines():
        requirement = Requirement(line.split("--hash")[0])
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        assert "--hash=sha256:" in line, line
        pins.setdefault(canonicalize_name(requirement.name), set()).add(Version(pin.version))
    return pins


def test_ruff_finds_nothing():
    _run(_tool("ruff"), "check", "--quiet")


def test_the_code_is_formatted():
    _run(_tool("ruff"), "format", "--check", "--quiet", "--diff")


@pytest.mark.timeout(600)
def test_types_are_strict_and_right():
    # A room without a module yet is none to mypy, and an error.
    rooms = [room for room in PROJECT["tool"]["mypy"]["files"] if any((ROOT / room).rglob("*.py"))]
    _run(_tool("mypy"), "--no-error-summary", *rooms)


def test_the_scripts_are_clean():
    if shutil.which("shellcheck") is None:
        unavailable("needs shellcheck: apt-get install shellcheck")
    shebang = re.compile(rb"#!.*\b(bash|sh)\n")
    scripts = [file for file in _files() if file.suffix == ".sh" or shebang.match(file.read_bytes()[:64])]
    assert ROOT / ".ci/run" in scripts
    _run("shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *map(str, sorted(scripts)))


def test_scripts_that_are_run_are_executable():
    files = [file for file in _files() if file.read_bytes()[:2] == b"#!"]
    assert files
    assert [str(file.relative_to(ROOT)) for file in files if not os.access(file, os.X_OK)] == []


def test_who_asks_the_installation_for_its_help_has_nothing_installed(tmp_path: Path):
    (tmp_path / "id").write_text(
        "#!/bin/sh\necho 1000\n"
    )  # should it go on: an ordinary user's installation ends at once
    (tmp_path / "id").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["scripts/install-host.sh", "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = "error: --help is not known: it takes no arguments, and installs for the whole host (docs/hosts.md)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_no_host_of_a_package_registry_stands_in_the_repository():
    assert _containing(REGISTRY_HOSTS) == []


def test_no_path_of_a_machine_stands_in_the_repository():
    assert _containing(MACHINE_PATHS) == []


@pytest.mark.parametrize(
    "lock,direct",
    [("requirements.lock", RUNTIME), ("requirements-dev.lock", RUNTIME + DEVELOPMENT)],
    ids=["runtime", "dev"],
)
def test_the_lock_satisfies_the_project(lock: str, direct: list[str]):
    pins = _lock(lock)
    for text in direct:
        wanted = Requirement(text)
        versions = pins.get(canonicalize_name(wanted.name), set())
        assert versions, f"{wanted.name} is not in {lock}: make lock"
        assert all(wanted.specifier.contains(version) for version in versions), f"{text}, but {versions}: make lock"


def test_the_runtime_lock_is_a_part_of_the_other():
    everything = _lock("requirements-dev.lock")
    assert [name for name, pins in _lock("requirements.lock").items() if not pins <= everything.get(name, set())] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_names_no_address(lock: str):
    assert "://" not in (ROOT / lock).read_text()


def test_every_debian_package_says_why():
    lines = (ROOT / "scripts/debian-packages.txt").read_text().splitlines()
    packages = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [name for name, *why in packages if not why] == []
    assert packages == sorted(packages)
