"""What subcommands share: settings, or lines and exit code 2."""

import pytest
import typer

from sp_proxy.cli.options import load_or_exit
from sp_proxy.settings.flags import Flag


def test_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SP_PROXY_PUBLIC_KEY", "k")
    path = tmp_path / "f.yaml"
    path.write_text("strict: reject\nbypass_cache: 1\n")
    loaded = load_or_exit(path, ["log.level=debug"], {"log.level": Flag("--log-level", "error"), "relay.workers": 2})
    assert loaded.settings.strict == "reject"
    assert loaded.settings.relay.workers == 2
    assert loaded.settings.log.level == "debug"
    assert loaded.origins["log.level"] == "--set"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"sp-proxy: warning: {path}:2: bypass_cache: has no effect, as in the filter\n"


def test_warnings_can_go_elsewhere(tmp_path, capsys):
    path = tmp_path / "f.yaml"
    path.write_text("public_key: k\nbypass_cache: 1\n")
    warnings: list[str] = []
    load_or_exit(path, warning=warnings.append)
    assert len(warnings) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "assignments,line",
    [
        (["strict=x"], 'sp-proxy: --set: strict: found "x"; allowed: raw or reject\n'),
        (["x"], "sp-proxy: --set: found x without a value; allowed: KEY=VALUE, for example listen.inbound=17006\n"),
    ],
)
def test_problems(assignments, line, capsys):
    with pytest.raises(typer.Exit) as caught:
        load_or_exit(None, assignments, environ={"SP_PROXY_PUBLIC_KEY": "k"})
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == line


def test_what_uploads_nothing_needs_no_key(capsys):
    assert load_or_exit(None, sends=False, environ={}).settings.strict == "raw"
    with pytest.raises(typer.Exit):
        load_or_exit(None, environ={})
    assert "public_key: found nothing" in capsys.readouterr().err
