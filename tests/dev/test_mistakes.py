import tomllib

import pytest

from sp_proxy.dev.mistakes import mistakes

GOOD = """host_ports = [5432]
[[service]]
name = "a"
command = ["x", "y"]
port = 80
env = {A = "1"}
"""


def found(text: str) -> list[str]:
    return list(mistakes(tomllib.loads(text)))


def test_none():
    assert found(GOOD) == []
    assert found("") == []


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("80", "true", "service a: port: found true; allowed: a port, as a number without quotes"),
        ("80", "80.5", "service a: port: found 80.5; allowed: a port, as a number without quotes"),
        ('["x", "y"]', "7", "service a: command: found 7; allowed: a line for the shell in quotes, or words: "),
        ('A = "1"', "A = 1", 'service a: env: found {"A": 1}; allowed: variables with text in quotes'),
        ('"a"', "2026-01-01", 'service 1: name: found "2026-01-01"; allowed: text in quotes'),
        ("[5432]", "5432", "host_ports: found 5432; allowed: a list of ports: [5432]"),
        ("env", "entirely_else", "service a: 'entirely_else': unknown key; known: name, command, port, to,"),
        ('name = "a"', "", "service 1: name: is missing"),
    ],
)
def test_each_in_plain_words(before, after, said):
    (line,) = found(GOOD.replace(before, after, 1))
    assert line.startswith(said)


def test_services_that_are_no_tables():
    assert found("service = [1]\n")[0].startswith("service: found [1]; allowed: tables, each begun by [[service]]")
    assert len(found("[service]\nname = 'a'\n")) == 1
    assert len(found("[[service]]\nname = 'a'\ncommand = 'x'\nport = '" + "9" * 500 + "'\n")[0]) < 200
