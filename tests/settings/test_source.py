"""The same settings again, or other ones."""

import os
from pathlib import Path

import pytest

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.source import Source

FLAGS = {"public_key": "k"}


def test_flags_and_environment_stay_and_the_file_may_change(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("strict: reject\nrelay: {workers: 3}\n")
    source = Source(path, {"SP_PROXY_STRICT": "raw"}, FLAGS)
    assert source.digest == b""
    loaded = source.load()
    assert (loaded.settings.strict, loaded.settings.relay.workers) == ("raw", 3)
    before = source.digest
    assert before == source.content() != b""
    path.write_text("relay: {workers: 4}\n")
    assert source.digest == before != source.content()
    assert source.load().settings.relay.workers == 4
    assert source.digest == source.content()


def test_what_was_read_counts_even_when_it_is_wrong(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("strict: reject\n")
    source = Source(path, {}, FLAGS)
    source.load()
    path.write_text("strcit: reject\n")
    with pytest.raises(SettingsError):
        source.load()
    assert source.digest == source.content()


def test_a_pipe_is_read_once():
    reader, writer = os.pipe()
    os.write(writer, b"public_key: pk\nstrict: reject\n")
    os.close(writer)
    try:
        source = Source(Path(f"/dev/fd/{reader}"), {}, {})
        assert source.load().settings.strict == "reject"
        assert source.content() == source.digest == b""
        with pytest.raises(SettingsError, match=f"^/dev/fd/{reader}: not a file: it cannot be read a second time$"):
            source.load()
    finally:
        os.close(reader)


def test_a_look_tells_files_apart(tmp_path):
    path, other = tmp_path / "f.yaml", tmp_path / "g.yaml"
    source = Source(path, {}, FLAGS)
    assert (source.look(), source.content()) == ((), b"")
    path.write_text("a")
    other.write_text("a")
    first = source.look()
    assert first == source.look() != ()
    other.replace(path)
    assert source.look() != first
    path.unlink()
    path.symlink_to("nowhere")
    assert source.look() == ()


def test_without_a_file_nothing_is_seen():
    source = Source(None, {}, FLAGS)
    source.load()
    assert (source.look(), source.content(), source.digest) == ((), b"", b"")


def test_files_of_addons_are_looked_at_too(tmp_path):
    file, folder = tmp_path / "sp-proxy.yaml", tmp_path / "addons"
    folder.mkdir()
    one = folder / "one.py"
    one.write_text("def exchange(ex): ...\n")
    flow = tmp_path / "flow.py"
    flow.write_text("def request(flow): ...\n")
    file.write_text(f"public_key: k\naddons: {{directory: {folder}, flows: [{{file: {flow}, hosts: [a]}}]}}\n")
    source = Source(file, {}, {})
    source.load()
    for change in (
        lambda: one.write_text("def exchange(ex): pass\n"),
        lambda: flow.write_text("def response(flow): ...\n"),
        lambda: (folder / "two.py").write_text("def exchange(ex): ...\n"),
        one.unlink,
    ):
        look, content = source.look(), source.content()
        assert content == source.digest
        change()
        assert source.look() != look
        assert source.content() != content
        source.load()
    file.unlink()
    assert (source.look(), source.content()) == ((), b"")
    named = Source(None, {}, {"public_key": "k", "addons.directory": str(folder)})
    named.load()
    assert named.look()
    assert named.content() == named.digest != b""
