import pytest

from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.secrets import MAX_BYTES, Filled, Secret, fill, parse

R = "[REDACTED]"
PLACEHOLDERS = Placeholders()


def filled(*secrets: Secret, target: str = "/", fields: dict[str, str] | None = None, body: bytes = b"") -> Filled:
    return fill(target, tuple((fields or {}).items()), body, secrets, PLACEHOLDERS)


def test_from_the_environment_and_from_files(tmp_path):
    (tmp_path / "pin").write_text("1234\n")
    found = parse(
        ["header:X-Api-Key=env:KEY", f"json:$.user['a=b']=file:{tmp_path / 'pin'}"], {"KEY": "the-key=with=signs"}
    )
    assert found == (Secret("header", "x-api-key", "the-key=with=signs"), Secret("json", "$.user['a=b']", "1234"))


@pytest.mark.parametrize(
    "text, problem",
    [
        ("token=hunter2", "--secret: found 'token'; allowed: header:NAME"),
        ("cookie:a=env:A", "--secret: found 'cookie:a'; allowed:"),
        ("header:a=hunter2", "--secret: found 'header:a'; allowed:"),
        ("header:a=env:NOT_SET", "the variable NOT_SET is not set"),
        ("header:a=file:/nowhere", "no such file"),
        ("json:$=env:A", "--secret json:$: allowed: a JSON path"),
    ],
)
def test_problems_never_show_a_value(text, problem):
    with pytest.raises(ReplayError) as caught:
        parse([text], {"A": "1"})
    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("large", "binary"):
        with pytest.raises(ReplayError):
            parse([f"header:a=file:{tmp_path / name}"], {})


def test_headers():
    secrets = (Secret("header", "x-api-key", "k"), Secret("header", "authorization", "Bearer t"))
    assert filled(*secrets, fields={"x-api-key": R}).fields == (("x-api-key", "k"), ("authorization", "Bearer t"))
    # What was captured as it was is no secret, and nothing is added that may have been absent.
    assert filled(secrets[0], fields={"x-api-key": "plain"}).fields == (("x-api-key", "plain"),)
    assert filled(secrets[0]).fields == ()


def test_queries_and_forms():
    assert filled(Secret("query", "token", "a b&c"), target=f"/x?token={R}&id=7").target == "/x?token=a%20b%26c&id=7"
    form = {"content-type": "application/x-www-form-urlencoded"}
    made = filled(Secret("form", "pin", "1 2"), fields=form, body=b"a=1&pin=%5BREDACTED%5D")
    assert (made.body, made.lacking) == (b"a=1&pin=1+2", "")


def test_json():
    made = filled(Secret("json", "$..pin", "7"), body=b'{"user":{"pin":"[REDACTED]","n":1.10},"pin":"plain"}')
    assert made.body == b'{"user":{"pin":"7","n":1.10},"pin":"plain"}'
    assert made.lacking == ""
    assert filled(Secret("json", "$.pin", "7"), body=b"no [REDACTED] json").lacking.startswith("the body")


@pytest.mark.parametrize(
    "request_parts, lacking",
    [
        ({"fields": {"x-a": f"b {R}"}}, "the field x-a (--secret header:x-a=env:NAME)"),
        ({"target": f"/a?b={R}"}, "the target"),
        ({"target": f"/{R}/a"}, "the target"),
        ({"body": b"hash:abcdefghij234567"}, "the body"),
        ({"target": "/a", "body": b"b"}, ""),
    ],
)
def test_what_is_lacking(request_parts, lacking):
    assert filled(**request_parts).lacking.startswith(lacking)
    assert bool(filled(**request_parts).lacking) == bool(lacking)
