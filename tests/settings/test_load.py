"""Loading: precedence, origins, every mistake at once, and never anything but SettingsError."""

import contextlib
import dataclasses
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.flags import Flag
from sp_proxy.settings.keys import dotted, fields
from sp_proxy.settings.load import Loaded, Settings, load
from sp_proxy.settings.types import Address

KEY = {"SP_PROXY_PUBLIC_KEY": "key"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str | bytes) -> Path:
        Path("f.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return Path("f.yaml")

    return write


def problems(path: Path | None, environ: dict[str, str], flags: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path, environ, flags or {})
    return caught.value.problems


def test_no_file_at_all():
    loaded = load(None, KEY, {})
    assert isinstance(loaded.settings, Settings)
    assert loaded.settings.public_key.get_secret_value() == "key"
    assert loaded.origins["public_key"] == "SP_PROXY_PUBLIC_KEY"
    assert loaded.origins["listen.inbound"] == "default"
    assert loaded.warnings == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.warnings = []  # type: ignore[misc]


def test_the_process_environment_is_not_read(monkeypatch):
    monkeypatch.setenv("SP_PROXY_STRICT", "reject")
    monkeypatch.setenv("STRICT", "reject")
    assert load(None, KEY, {}).settings.strict == "raw"


def test_precedence(file):
    path = file(
        "listen: {inbound: 1, outbound: 2, forward: [{listen: 3, upstream: 'a:3'}]}\npublic_key: k\nstrict: reject\n"
    )
    environ = {"SP_PROXY_LISTEN__OUTBOUND": "12", "SP_PROXY_LISTEN__FORWARD": "[]", "SP_PROXY_LOG__LEVEL": "debug"}
    flags = {"listen.forward": "[{listen: 23, upstream: 'a:23'}]", "log.level": Flag("--log-level", "error")}
    loaded = load(path, environ, flags)
    listen = loaded.settings.listen
    assert listen.inbound == Address("", 1)
    assert listen.outbound == Address("", 12)
    assert [forward.listen.port for forward in listen.forward] == [23]
    assert loaded.settings.log.level == "error"
    assert {key: origin for key, origin in loaded.origins.items() if origin != "default"} == {
        "listen.inbound": "f.yaml:1",
        "listen.outbound": "SP_PROXY_LISTEN__OUTBOUND",
        "listen.forward": "--set",
        "public_key": "f.yaml:2",
        "strict": "f.yaml:3",
        "log.level": "--log-level",
    }


def test_tags_of_all_sources_are_merged(file):
    loaded = load(file("tags: {a: x, b: x, c: x}"), {**KEY, "SP_PROXY_TAGS__B": "y"}, {"tags.c": "z"})
    assert loaded.settings.tags == {"a": "x", "b": "y", "c": "z"}
    assert [loaded.origins[f"tags.{name}"] for name in "abc"] == ["f.yaml:1", "SP_PROXY_TAGS__B", "--set"]


def test_every_setting_has_an_origin():
    assert set(load(None, KEY, {}).origins) == {dotted(path) for path, _ in fields()}


@pytest.mark.parametrize("name", ["f.yaml", "f.json", "config"])
def test_json(tmp_path, name):
    (tmp_path / name).write_text('{\n\t"public_key": "k",\n\t"listen": {"inbound": "127.0.0.1:80"}\n}')
    loaded = load(tmp_path / name, {}, {})
    assert loaded.settings.listen.inbound == Address("127.0.0.1", 80)
    assert loaded.origins["listen.inbound"] == f"{tmp_path / name}:3"


@pytest.mark.parametrize("text", ["off", "false", "no", "'off'"])
def test_a_listener_that_is_off(file, text):
    assert load(file(f"public_key: k\nlisten: {{inbound: {text}}}"), {}, {}).settings.listen.inbound is None
    assert load(None, {**KEY, "SP_PROXY_LISTEN__INBOUND": "off"}, {}).settings.listen.inbound is None
    assert load(None, KEY, {"listen.inbound": "off"}).settings.listen.inbound is None


@pytest.mark.parametrize("text,found", [("0", "0"), ("true", "true"), ("on", "true"), ("'0'", '"0"')])
def test_what_is_not_off(file, text, found):
    assert problems(file(f"public_key: k\nlisten:\n  inbound: {text}"), {}) == [
        f"f.yaml:3: listen.inbound: found {found}; allowed: a port (1 to 65535) or HOST:PORT, or off"
    ]


def test_each_source_is_named_in_its_mistakes(file):
    path = file("public_key: k\nstrict: x\nlisten: {inbound: x}\n")
    environ = {"SP_PROXY_LISTEN__INBOUND": "y", "SP_PROXY_BATCH": '{"max_recods": 1}'}
    found = problems(path, environ, {"relay.workers": "z"})
    assert {line.split(": found")[0].split(": unknown")[0] for line in found} == {
        "f.yaml:2: strict",
        "SP_PROXY_LISTEN__INBOUND: listen.inbound",
        "SP_PROXY_BATCH: batch.max_recods",
        "--set: relay.workers",
    }


def test_mistakes_of_all_sources_are_told_at_once(file):
    found = problems(file("a: [\n"), {"SP_PROXY_TYPO": "1"}, {"typo": "1"})
    assert [line.split(":")[0] for line in found] == ["f.yaml", "SP_PROXY_TYPO", "--set"]


def test_mistakes_of_a_file_come_in_its_order(file):
    found = problems(file("typo: 1\nstrict: x\nbatch:\n  typo: 1\nlisten: 5\n" + "#\n" * 5 + "relay: 5\n"), {})
    assert [line.split(":")[1] for line in found] == ["1", "2", "4", "5", "11"]


def test_secrets_are_in_no_line(file):
    secret = "hunter2\u00e4 x"
    lines = [
        *problems(file(f"public_key: {secret}\nsp_backend_url: ftp://u:hunter2@h\n"), {}),
        *problems(None, {"SP_PROXY_PUBLIC_KEY": secret, "SP_PROXY_SP_BACKEND_URL": "hunter2@h"}),
        *problems(None, {}, {"public_key": secret, "backend.public_keys": f'["{secret}", 5]'}),
        *problems(None, {"SP_PROXY_SP_BACKEND_URL": "http://u:hunter2@example.com"}),
    ]
    assert len(lines) == 7
    assert not [line for line in lines if "hunter2" in line]


def test_a_missing_key_names_where_it_could_stand(file):
    assert problems(file("strict: raw"), {})[0].startswith("f.yaml: public_key: found nothing; needed because")
    assert problems(None, {})[0].startswith("SP_PROXY_PUBLIC_KEY: public_key: found nothing; needed because")
    assert load(None, {}, {}, sends=False).settings.public_key.get_secret_value() == ""


def test_the_embedded_backend_is_where_batches_go_unless_told_otherwise():
    loaded = load(None, {}, {"backend.enabled": "true", "backend.listen": "[::1]:5000"})
    assert loaded.settings.sp_backend_url == "http://[::1]:5000"
    assert loaded.origins["sp_backend_url"] == "backend.listen"
    told = load(None, {"SP_PROXY_SP_BACKEND_URL": "http://127.0.0.1:9"}, {"backend.enabled": "true"})
    assert told.settings.sp_backend_url == "http://127.0.0.1:9"
    default = problems(None, {"SP_PROXY_SP_BACKEND_URL": "https://o.softprobe.ai"}, {"backend.enabled": "true"})
    assert "public_key" in default[0]


def test_what_does_not_go_together_names_the_second_place(file):
    assert problems(file("public_key: k\nlisten: {outbound: 7}"), {"SP_PROXY_LISTEN__INBOUND": "7"}) == [
        "f.yaml:2: listen.outbound: found 7, which listen.inbound (7) takes already; allowed: another port"
    ]


def test_warnings_have_their_place(file):
    path = file("public_key: k\nbypass_cache: true\nexemptionRules:\n- pathPatterns: []\n")
    assert load(path, {}, {}).warnings == [
        "f.yaml:2: bypass_cache: has no effect, as in the filter",
        "f.yaml:4: exemptionRules[0]: exempts everything: nothing will be captured",
    ]


def test_debug_headers_are_a_setting_in_a_bare_config_only(file):
    assert load(file("public_key: k\ndebug_headers: true"), {}, {}).settings.debug_headers
    manifest = file("kind: WasmPlugin\nspec: {pluginConfig: {public_key: k, debug_headers: true}}")
    assert not load(manifest, {}, {}).settings.debug_headers


def test_settings_made_by_hand_take_keywords_only(monkeypatch):
    monkeypatch.setenv("strict", "reject")
    assert Settings(service_name="a").service_name == "a"
    assert Settings().strict == "raw"


# ---- anything at all in the file

NAMES = sorted(
    {str(key) for path, _ in fields() for key in path} | {"kind", "spec", "pluginConfig", "typo", "apiVersion"}
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["off", "a:1", "[::1]:80", "8080", "1s", "64KiB", "WasmPlugin", "(", "http://h", "1" * 5000])
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


def loads_or_tells(path: Path | None, environ: dict[str, str], flags: dict[str, Any]) -> Loaded | None:
    try:
        return load(path, environ, flags)
    except SettingsError as error:
        problems = error.problems
    assert problems
    assert all(line.isprintable() for line in problems)
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(TREES, TREES)
@example({"kind": "WasmPlugin", "spec": {"pluginConfig": {"listen": {"forward": [None]}}}}, {"kind": "WasmPlugin"})
def test_any_tree(file, one, two):
    with contextlib.suppress(ValueError):  # a float or an integer that YAML cannot write
        loads_or_tells(file(yaml.safe_dump_all([one, two])), KEY, {})
        loads_or_tells(file(yaml.safe_dump(one)), KEY, {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(file, data):
    loads_or_tells(file(data), KEY, {})


@settings(deadline=None)
@given(st.sampled_from([path for path, _ in fields()]), st.text())
def test_any_text_in_a_variable_or_a_flag(path, text):
    loads_or_tells(None, {**KEY, "SP_PROXY_" + "__".join(map(str, path)).upper(): text}, {})
    loads_or_tells(None, KEY, {dotted(path): text})


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_name_of_a_variable_or_a_flag(name, text):
    loads_or_tells(None, {**KEY, "SP_PROXY_" + name: text}, {})
    loads_or_tells(None, KEY, {name: text})


def test_a_file_that_cannot_be_read(tmp_path):
    assert problems(tmp_path / "nope", {}) == [f"{tmp_path}/nope: no such file"]


def test_a_file_that_is_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["strict: reject"])
    writer.start()
    try:
        assert load(pipe, KEY, {}).settings.strict == "reject"
    finally:
        writer.join()
