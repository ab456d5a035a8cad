import json

from rich.console import Console

from sp_proxy.trial.report import as_json, lines, table
from sp_proxy.trial.trial import Group, Result

RESULT = Result(
    looked_at=9,
    stay=5,
    lost={"a": Group("no collection rule matches", 3, "GET shop/\x1b[2J[bold]")},
    unknown={"b": Group("its direction is not known", 1, "GET a/")},
    redacted={"request body": Group("request body", 2, "POST a/")},
    unused=["server[1]"],
    unreadable=1,
)


def test_for_people():
    console = Console(width=120, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(table(RESULT))
    text = capture.get()
    assert "3  be lost" in text
    assert "[bold]" in text
    assert "\x1b" not in text
    said = "\n".join(lines(RESULT))
    assert "decided about nothing here: server[1]" in said
    assert "cannot be known" in said
    assert said.endswith("9 exchanges: 5 stay, 3 would no longer be captured")


def test_for_programs():
    data = json.loads(json.dumps(as_json(RESULT)))
    assert data["no_longer_captured"] == [
        {"reason": "no collection rule matches", "count": 3, "example": "GET shop/\x1b[2J[bold]"}
    ]
    assert data["differs"]
    assert data["rules_without_a_decision"] == ["server[1]"]


def test_what_is_let_in():
    result = Result(looked_at=1, stay=1, opens=["server[1] is new (path '/a')"])
    assert list(lines(result)) == [
        "cannot be known, as it was not captured: server[1] is new (path '/a')",
        "1 exchange: no difference to what was captured",
    ]
    assert result.differs
    assert as_json(result)["opens"] == ["server[1] is new (path '/a')"]


def test_nothing_to_say():
    assert list(lines(Result())) == ["nothing was captured that could be looked at"]
    assert list(lines(Result(looked_at=2, stay=2)))[-1] == "2 exchanges: no difference"
