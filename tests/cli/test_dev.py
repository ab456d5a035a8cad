"""``sp-proxy dev``'s command line; what it runs is tested in ``tests/e2e/test_dev.py``."""

from pathlib import Path

import pytest

from sp_proxy.cli.main import main
from sp_proxy.dev import run
from sp_proxy.dev.errors import DevError
from sp_proxy.dev.run import Options


@pytest.fixture
def given(monkeypatch):
    found: list[Options] = []

    def note(options: Options, _console: object) -> int:
        found.append(options)
        return 3

    monkeypatch.setattr(run, "run", note)
    return found


def test_one_command(given):
    words = ["--port", "8080", "--to", "3000", "--user", "ann", "--proxy", "--no-open", "--no-https", "--stay"]
    assert main(["dev", *words, "--", "npm", "start", "--verbose"]) == 3
    (options,) = given
    (service,) = options.project.services
    assert (service.name, service.words, service.port, service.to) == ("npm", ["npm", "start", "--verbose"], 8080, 3000)
    assert options.single
    assert options.explicit
    assert options.stay
    assert (options.user, options.open_browser, options.intercept) == ("ann", False, False)


def test_what_stands_behind_the_command_is_its_own(given):
    assert main(["dev", "--no-https", "npm", "start", "--port", "5"]) == 3
    assert given[0].project.services[0].words == ["npm", "start", "--port", "5"]
    assert not given[0].intercept


def test_a_file(given, tmp_path, monkeypatch):
    (tmp_path / "sp-dev.toml").write_text('[[service]]\nname = "a"\ncommand = "x"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["dev"]) == 3
    assert main(["dev", "--file", "sp-dev.toml"]) == 3
    assert [options.single for options in given] == [False, False]
    assert given[0].project.directory == tmp_path


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--port", "0", "--", "x"],
        ["--to", "3000", "--", "x"],
        ["--file", "a.toml", "--", "x"],
        ["--file", "missing.toml"],
        ["--port", "80"],
        ["--nope"],
        ["--set", "no.such=1", "--", "x"],
        ["--name", "a b", "--", "x"],
    ],
)
def test_wrong_usage_is_one_line(words, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["dev", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert given == []


def test_an_option_that_needs_another_says_so_by_its_name(given, capsys):
    assert main(["dev", "--to", "3000", "--", "x"]) == 2
    said = "sp-proxy dev: Invalid value for --to: needs --port, where the application is called (see sp-proxy dev --help)\n"
    assert capsys.readouterr().err == said


def test_answers_from_an_earlier_run(given, tmp_path):
    kept = tmp_path / "kept.sqlite3"
    kept.touch()
    assert main(["dev", "--database", str(kept), "--mock", "status:200", "--mock-host", "^pay", "--", "x"]) == 3
    assert (given[0].mocked["inject.query"], given[0].mocked["inject.hosts"]) == ("status:200", ["^pay"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["--mock", "status:200"], "--mock: needs --database FILE, in which an earlier run has kept answers"),
        (["--mock", "status:200", "--database", "missing"], "--mock: needs --database FILE, in which an earlier"),
        (["--mock", "status:200", "--database", "x" * 300], "--mock: needs --database FILE, in which an earlier"),
        (["--mock-host", "^pay"], "--mock-host: needs --mock"),
        (["--database", "kept", "--mock", "servise:x"], "--mock: no query: column 1: 'servise' is not a field"),
        (["--database", "kept", "--mock", "status:200", "--mock-host", "("], "--mock-host: inject.hosts[0]: found "),
    ],
)
def test_answers_that_cannot_be_given(words, said, given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("kept").touch()
    assert main(["dev", *words, "--", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert given == []


def test_what_stops_it_is_one_line(monkeypatch, capsys):
    def fail(_options: object, _console: object) -> int:
        raise DevError("port 80 of a: permission denied")

    monkeypatch.setattr(run, "run", fail)
    assert main(["dev", "--", "x"]) == 1
    assert capsys.readouterr().err == "sp-proxy: port 80 of a: permission denied\n"


def test_the_preload_of_node_is_installed_beside_it():
    assert Path(run.__file__).with_name("node.cjs").is_file()
