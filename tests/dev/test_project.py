import re

import pytest

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.project import Service, read_project, single

GOOD = """
[[service]]
name = "orders"
command = "python orders.py"
port = 8081
to = 3000
directory = "orders"
env = {LOG = "debug"}
health = "/health"

[[service]]
name = "worker"
command = ["python", "worker.py"]
"""


def write(tmp_path, text):
    path = tmp_path / "dev.toml"
    path.write_text(text)
    return path


def test_services(tmp_path):
    project = read_project(write(tmp_path, GOOD))
    orders, worker = project.services
    assert orders == Service(
        "orders", "python orders.py", port=8081, to=3000, directory="orders", env={"LOG": "debug"}, health="/health"
    )
    assert orders.words == ["sh", "-c", "python orders.py"]
    assert worker.words == ["python", "worker.py"]
    assert worker.port is None
    assert project.directory == tmp_path


def entry(text: str) -> str:
    return f'[[service]]\nname = "a"\ncommand = "x"\n{text}\n'


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "there is no [[service]]"),
        ("[[service", "not TOML"),
        ("[server]\n", "'server': unknown key; did you mean service?"),
        ("[[service]]\nname = 'a'\n", "service a: command: is missing"),
        (entry("prot = 1"), "service a: 'prot': unknown key; did you mean port?"),
        (entry("port = '8080'"), 'service a: port: found "8080"; allowed: a port, as a number without quotes'),
        (entry("port = 70000"), "service a: port: found 70000; allowed: 1 to 65535"),
        (entry("to = 3000"), "service a: to: needs port"),
        (entry("port = 80\nto = 80"), "service a: to: 80 is port of a too"),
        (entry("port = 80") + entry("").replace('"a"', '"b"') + "port = 80", "service b: port: 80 is port of a too"),
        (entry("") + entry(""), "service a: the name is taken"),
        (entry("").replace('"a"', '"a b"'), "service 'a b': a name is"),
        (entry("").replace('"x"', '""'), "service a: command: found nothing to run"),
        (entry("").replace('"x"', "[]"), "service a: command: found nothing to run"),
        (entry('env = {"A B" = "1"}'), "service a: env: 'A B' is no variable"),
        (entry('port = 80\nhealth = "x"'), "service a: health: found 'x'; allowed: a path"),
        (entry('health = "/x"'), "service a: health: needs port"),
        ("host_ports = [0]\n" + entry(""), "host_ports: found 0; allowed: 1 to 65535"),
        ("host_ports = [80]\n" + entry("port = 80"), "host_ports: 80 is port of a too"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(DevError, match=re.escape(said)) as error:
        read_project(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DevError, match="no such file"):
        read_project(tmp_path / "nothing.toml")


def test_one_command():
    project = single(("/usr/bin/node", "app.js"), "", 8080, 3000)
    (service,) = project.services
    assert (service.name, service.words, service.port, service.to) == ("node", ["/usr/bin/node", "app.js"], 8080, 3000)
    assert single(("./-_-",), "", None, None).services[0].name == "application"
    assert single(("x",), "shop", None, None).services[0].name == "shop"


@pytest.mark.parametrize("name, port, to, said", [("a b", None, None, "a name is"), ("", None, 1, "needs port")])
def test_a_command_with_a_mistake(name, port, to, said):
    with pytest.raises(DevError, match=said):
        single(("x",), name, port, to)
