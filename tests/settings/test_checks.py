"""Keys that do not go together."""

from typing import Any

import pytest

from sp_proxy.settings import checks
from sp_proxy.settings.keys import dotted
from sp_proxy.settings.model import SettingsModel


def problems(values: dict[str, Any], *, sends: bool = False) -> list[str]:
    return [
        f"{dotted(path)}: {text}" for path, text in checks.problems(SettingsModel.model_validate(values), sends=sends)
    ]


def test_the_defaults_need_a_key_and_nothing_else():
    (problem,) = problems({}, sends=True)
    assert problem.startswith("public_key: found nothing; needed because the backend https://o.softprobe.ai is not on")
    assert "SP_PROXY_PUBLIC_KEY" in problem
    assert problems({"public_key": "k"}, sends=True) == []
    assert problems({}) == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]"])
def test_a_backend_on_this_machine_needs_no_key(host):
    assert problems({"sp_backend_url": f"http://{host}:4318"}, sends=True) == []


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "[::2]", "127.0.0.1.example", "[::ffff:1.2.3.4]"])
def test_any_other_needs_one(host):
    assert len(problems({"sp_backend_url": f"http://u:hunter2@{host}:4318"}, sends=True)) == 1
    assert "hunter2" not in problems({"sp_backend_url": f"http://u:hunter2@{host}"}, sends=True)[0]


@pytest.mark.parametrize(
    "values,problem",
    [
        ({"listen": {"inbound": 16001}}, "listen.outbound: found 16001, which listen.inbound (16001) takes already; allowed: another port"),
        ({"listen": {"inbound": 16021}}, "admin.listen: found 127.0.0.1:16021, which listen.inbound (16021) takes already; allowed: another port"),
        ({"listen": {"outbound": "[::]:4318"}, "backend": {"enabled": True}}, "backend.listen: found 127.0.0.1:4318, which listen.outbound ([::]:4318) takes already; allowed: another port"),
        ({"listen": {"forward": [{"listen": "127.0.0.1:16006", "upstream": "a:1"}]}}, "listen.forward[0].listen: found 127.0.0.1:16006, which listen.inbound (16006) takes already; allowed: another port"),
        ({"admin": {"listen": "localhost:1"}, "backend": {"enabled": True, "listen": "127.0.0.1:1"}}, "backend.listen: found 127.0.0.1:1, which admin.listen (localhost:1) takes already; allowed: another port"),
        ({"queue": {"max_records": 10}}, "queue.max_records: found 10; allowed: at least batch.max_records (512)"),
        ({"retry": {"max_interval": "500ms"}}, "retry.max_interval: found 0.5s; allowed: at least retry.initial_interval (1s)"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(values, problem):
    assert problems(values) == [problem]


@pytest.mark.parametrize(
    "values",
    [
        {"listen": {"inbound": "127.0.0.1:1", "outbound": "127.0.0.2:1"}},
        {"listen": {"inbound": "0.0.0.0:1", "outbound": "[::1]:1"}},
        {"listen": {"inbound": 16021}, "admin": {"enabled": False}},
        {"listen": {"inbound": 4318}},
        {"listen": {"inbound": False, "outbound": 16006}},
        {"listen": {"forward": [{"listen": 8080, "upstream": "127.0.0.1:3000"}]}},
        {"listen": {"forward": [{"listen": 8080, "upstream": "10.0.0.9:8080"}]}},
    ],
)
def test_what_does(values):
    assert problems(values) == []


@pytest.mark.parametrize(
    "listen,upstream", [(8080, "127.0.0.1:8080"), (8080, "localhost:8080"), ("127.0.0.1:8080", "localhost:8080"), ("10.0.0.9:8080", "10.0.0.9:8080")]
)  # fmt: skip
def test_a_listener_that_would_forward_to_itself(listen, upstream):
    (problem,) = problems({"listen": {"forward": [{"listen": listen, "upstream": upstream}]}})
    assert problem.startswith(f"listen.forward[0].upstream: found {upstream}, which is listen.forward[0].listen itself")


@pytest.mark.parametrize("listen", [4318, "0.0.0.0:4318", "[::]:4318", "10.0.0.9:4318"])
def test_an_embedded_backend_that_others_can_reach_needs_a_token(listen):
    (problem,) = problems({"backend": {"enabled": True, "listen": listen}, "public_key": "k"}, sends=True)
    assert problem.startswith("backend.token: found nothing; needed because the backend listens on ")
    assert "SP_PROXY_BACKEND__TOKEN" in problem
    assert problems({"backend": {"enabled": True, "listen": listen}}) == []
    assert problems({"backend": {"enabled": True, "listen": listen, "token": "t"}, "public_key": "k"}, sends=True) == []
    assert problems({"backend": {"listen": listen}, "public_key": "k"}, sends=True) == []


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1", "a-name:1"])
def test_others_need_none(listen):
    assert problems({"backend": {"enabled": True, "listen": listen}, "public_key": "k"}, sends=True) == []


def test_warnings():
    settings = SettingsModel.model_validate(
        {"listen": {"inbound": False, "outbound": False}, "exemptionRules": [{}, {"pathPatterns": []}]}
    )
    assert checks.warnings(settings) == [
        (("listen",), "nothing listens: no traffic will arrive"),
        (("exemptionRules", 1), "exempts everything: nothing will be captured"),
    ]
    assert checks.warnings(SettingsModel()) == []


@pytest.mark.parametrize(
    "listen,url",
    [
        ("127.0.0.1:4318", "http://127.0.0.1:4318"),
        (4318, "http://127.0.0.1:4318"),
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        ("[::]:1", "http://[::1]:1"),
        ("10.0.0.9:1", "http://10.0.0.9:1"),
    ],
)
def test_the_embedded_backend_as_this_machine_reaches_it(listen, url):
    assert checks.embedded_url(SettingsModel.model_validate({"backend": {"listen": listen}})) == url


@pytest.mark.parametrize(
    "values,problem",
    [
        ({"exporters": [{"type": "otlp"}]}, "exporters[0].url: missing; needed for type otlp"),
        ({"exporters": [{"type": "file"}]}, "exporters[0].path: missing; needed for type file"),
        (
            {"exporters": [{"type": "stdout", "url": "http://c"}]},
            "exporters[0].url: means nothing for type stdout; allowed: without it",
        ),
        (
            {"exporters": [{"type": "stdout"}, {"type": "file", "path": "x", "name": "stdout"}]},
            "exporters[1].name: found stdout, which exporters[0] is called already; allowed: a name of its own",
        ),
        (
            {"upload": {"client_key_file": "k.pem"}},
            "upload.client_cert_file: missing; needed for upload.client_key_file",
        ),
        (
            {
                "approved_backends": ["a.example"],
                "exporters": [{"type": "otlp", "url": "http://a.example@evil.example"}],
            },
            (
                "exporters[0].url: found http://***@evil.example, whose host is not in approved_backends;"
                " allowed: a host which is"
            ),
        ),
        (
            {"approved_backends": ["a.example"]},
            (
                "sp_backend_url: found https://o.softprobe.ai, whose host is not in approved_backends;"
                " allowed: a host which is"
            ),
        ),
    ],
)
def test_exporters_that_cannot_be(values, problem):
    assert problems(values) == [problem]


@pytest.mark.parametrize(
    "values",
    [
        {"exporters": [{"type": "stdout"}, {"type": "file", "path": "x"}, {"type": "otlp", "url": "http://c"}]},
        {"approved_backends": ["O.softprobe.ai."]},
        {
            "approved_backends": ["[::1]", "c"],
            "exporters": [
                {"type": "softprobe", "url": "http://[::1]:1"},
                {"type": "otlp", "url": "https://C.:4318/x", "headers": {"Authorization": "Bearer t"}},
            ],
        },
    ],
)
def test_exporters_that_can_be(values):
    assert problems(values) == []


def test_only_the_softprobe_backend_needs_a_key():
    assert problems({"exporters": [{"type": "otlp", "url": "https://c.example"}]}, sends=True) == []
    (problem,) = problems({"exporters": [{"type": "softprobe", "url": "https://c.example"}]}, sends=True)
    assert problem.startswith("public_key: found nothing; needed because the backend https://c.example is not on")


@pytest.mark.parametrize(
    "url,host",
    [("http://A.example.:1/x", "a.example"), ("http://good@evil", "evil"), ("http://[::1]:1", "::1"), ("x", "")],
)
def test_the_host_of_a_url(url, host):
    assert checks.host_of(url) == host
