"""The system's store, with a store of our own in its place."""

from pathlib import Path

import pytest

from sp_proxy.mitm.ca import CaError
from sp_proxy.mitm.trust import FILE_NAME, STORES, Store, install, uninstall


def test_installed_and_removed(tmp_path: Path):
    log = tmp_path / "ran"
    missing = Store(tmp_path / "missing", ("true",))
    store = Store(tmp_path, ("sh", "-c", f"echo run >> {log}"))
    path = install("PEM", (missing, store))
    assert path == tmp_path / FILE_NAME
    assert path.read_text() == "PEM"
    assert uninstall((missing, store)) == path
    assert not path.exists()
    assert uninstall((store,)) == path
    assert log.read_text() == "run\n" * 3


def test_no_store(tmp_path: Path):
    with pytest.raises(CaError, match=r"no store that is known \(none of sp-none\)"):
        install("PEM", (Store(tmp_path, ("sp-none",)),))


def test_a_tool_that_fails(tmp_path: Path):
    with pytest.raises(CaError, match="sh failed: what is wrong"):
        install("PEM", (Store(tmp_path, ("sh", "-c", "echo what is wrong >&2; exit 3")),))


def test_a_place_that_cannot_be_written(tmp_path: Path):
    (tmp_path / FILE_NAME).mkdir()
    store = Store(tmp_path, ("true",))
    with pytest.raises(CaError, match="needs root"):
        install("PEM", (store,))
    with pytest.raises(CaError, match="needs root"):
        uninstall((store,))


def test_the_stores_that_are_known():
    assert {store.command[0] for store in STORES} == {"update-ca-certificates", "update-ca-trust", "trust"}
