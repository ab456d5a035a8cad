import json
from typing import Any

import trio

from sp_proxy.replay.compare import Answer
from sp_proxy.replay.prepare import Request, changes
from sp_proxy.replay.rules import File, RuleBook
from sp_proxy.replay.run import Options, Outcome, replay
from sp_proxy.replay.send import NoAnswer
from tests.replay.exchanges import answering, body, recorded
from tests.replay.origins import Given, Got, origin

FAST = Options(None, concurrency=2, timeout=60)
JSON = {"content-type": "application/json"}


def exchange(number: int, session: str, method: str = "GET", target: str = "/", status: int = 200, **answer: Any):
    content = answer or {"ok": True}
    return answering(
        content,
        start_unix_ns=number,
        span_id=f"{number:016x}",
        session_id=session,
        method=method,
        path=target,
        status=status,
    )


async def test_results_and_exit_codes():
    def answer(got: Got) -> Given:
        return 200, JSON, json.dumps({"ok": got.target != "/changed"}).encode()

    exchanges = [exchange(1, "a", target="/same"), exchange(2, "a", target="/changed"), exchange(3, "b", "POST")]
    seen: list[Outcome] = []
    with origin(answer) as there:
        report = await replay(exchanges, changes(there.url), RuleBook(File()), FAST, on_outcome=seen.append)
        same = await replay(exchanges[:1], changes(there.url), RuleBook(File()), FAST)
        none = await replay(exchanges[2:], changes(there.url), RuleBook(File()), FAST)
    assert [each.recorded for each in report.outcomes] == exchanges
    assert sorted(map(id, seen)) == sorted(map(id, report.outcomes))
    assert (report.sent, report.different, report.skipped, report.exit_code) == (2, 1, 1, 1)
    assert report.outcomes[1].comparison is not None
    assert [str(each) for each in report.outcomes[1].comparison.differences] == ["$.ok: expected true, found false"]
    assert (same.exit_code, none.exit_code) == (0, 2)


async def test_nobody_is_there():
    with origin(lambda _: (200, {}, b"")) as there:
        pass
    report = await replay([exchange(1, "a")], changes(there.url), RuleBook(File()), FAST)
    assert (report.sent, report.different, report.reached, report.exit_code) == (1, 1, False, 2)


async def test_a_session_is_kept_in_order_and_its_values_are_carried():
    """Two sessions make an order and ask for it; the target has numbers of its own, and its own order of sessions."""
    orders: dict[str, str] = {}

    def answer(got: Got) -> Given:
        if got.method == "POST":
            who = json.loads(got.body)["who"]
            order = f"new-{who}-{len(orders)}"
            orders[order] = who
            return 201, {**JSON, "location": f"/o/{order}"}, json.dumps({"id": order}).encode()
        order = got.target.removeprefix("/o/")
        return (
            (200, JSON, json.dumps({"id": order, "who": orders[order]}).encode())
            if order in orders
            else (404, JSON, b"")
        )

    def session(number: int, who: str):
        order = f"old-{number}"
        return [
            recorded(
                start_unix_ns=number,
                span_id=f"{number:016x}",
                session_id=who,
                method="POST",
                path="/o",
                status=201,
                request={"headers": [["content-type", "application/json"]], **body({"who": who})},
                response={
                    "headers": [["content-type", "application/json"], ["location", f"/o/{order}"]],
                    **body({"id": order}),
                },
            ),
            exchange(number + 10, who, target=f"/o/{order}", id=order, who=who),
        ]

    exchanges = [*session(1, "ana"), *session(2, "bo")]
    with origin(answer) as there:
        wanted = changes(there.url, unsafe=True)
        report = await replay(exchanges, wanted, RuleBook(File(carry=("$.id",))), FAST)
        without = await replay(exchanges, wanted, RuleBook(File(ignore=("$.id",))), FAST)
    # Location too, which the very answer names that makes the value.
    places = [
        each.place for outcome in report.outcomes if outcome.comparison for each in outcome.comparison.differences
    ]
    assert places == []
    assert without.exit_code == 1


async def test_as_recorded_it_takes_its_time(autojump_clock):
    began = trio.current_time()
    times: list[float] = []

    class Deaf:
        """Nobody is there; on a virtual clock, which real sockets would not wait for."""

        async def send(self, request: Request) -> Answer:
            times.append(trio.current_time() - began)
            await trio.sleep(0.25)
            raise NoAnswer("nobody", connected=False)

        async def aclose(self) -> None:
            times.append(-1.0)

    second = 1_000_000_000
    exchanges = [exchange(at * second, session) for at, session in ((1, "a"), (3, "b"), (5, "a"))]
    report = await replay(exchanges, changes("http://a"), RuleBook(File()), Options(2.0), sender=Deaf())
    assert times == [0.0, 1.0, 2.0, -1.0]
    assert [each.took for each in report.outcomes] == [0.25] * 3
