"""HTTP/1.x and other protocols through a real daemon and real redirect rules, held against the direct connection.

Every check is played on all routes at once. Both ends must have seen what they see directly: the same bytes but for the
lines that are injected, the same end of the connection, and at the same time. The records are compared when all is over.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.conversation import Check, Played, Record, differences
from tests.conformance.endings import ENDINGS
from tests.conformance.http1_answers import ANSWERS
from tests.conformance.http1_bodies import BODIES
from tests.conformance.http1_pieces import PIECES
from tests.conformance.http1_pipelining import PIPELINING
from tests.conformance.http1_requests import REQUESTS
from tests.conformance.http1_switching import SWITCHING
from tests.conformance.large import CUT_OFF, LARGE
from tests.conformance.other_protocols import OTHER_PROTOCOLS
from tests.conformance.routes import Client, Network, network
from tests.e2e.harness import require_daemon

GROUPS = {
    "requests": REQUESTS,
    "bodies": BODIES,
    "answers": ANSWERS,
    "pieces": PIECES,
    "pipelining": PIPELINING,
    "switching": SWITCHING,
    "endings": ENDINGS,
    "other-protocols": OTHER_PROTOCOLS,
    "large": LARGE,
    "cut-off": CUT_OFF,
}
PARAMETERS = [pytest.param(check, id=f"{group}-{check.name}") for group, checks in GROUPS.items() for check in checks]
NOT_IN_ABSOLUTE_FORM = {
    "body-like-a-request": "what is no request would be changed, too",
    "upgrade": "likewise",
    "broken-behind-a-good-one": "is answered by the daemon: it may be meant for another origin",
    "broken-chunks-behind-a-good-one": "likewise",
    "broken-behind-one-answered-until-close": "likewise",
    "answer-to-half-a-head": "never passes: it may become a request for another origin",
    "garbage-behind-a-length": "likewise",
    "server-half-closes-and-a-request-comes": "the server is not connected before",
    "server-speaks-and-a-request-comes": "likewise",
}
IN_ABSOLUTE_FORM = [
    pytest.param(check, id=f"{group}-{check.name}")
    for group in ("bodies", "answers", "pipelining", "switching", "endings", "large")
    for check in GROUPS[group]
    if (check.records or group == "answers") and "CONNECT" not in {method for method, *_ in check.records}
    if check.name not in NOT_IN_ABSOLUTE_FORM
]
"""What is read, and what the server may answer to it."""
Found = tuple[str, str, int, str]
ATTEMPTS = 3
"""A machine that is busy with something else makes everybody late, but not three times."""


class Exam:
    """All routes, and which records are expected of which client."""

    def __init__(self, network: Network, threads: ThreadPoolExecutor) -> None:
        self._network = network
        self._threads = threads
        self._expected: dict[Client, list[Record]] = defaultdict(list)

    def play(self, check: Check, *, in_absolute_form: bool = False) -> list[str]:
        """What differs, on which route."""
        routes = {"proxy": self._network.in_absolute_form} if in_absolute_form else self._network.routes
        ways = {"direct": self._network.direct, **routes}
        playing = {name: self._threads.submit(way, check) for name, way in ways.items()}
        played: dict[str, Played] = {name: future.result() for name, future in playing.items()}
        direct = played.pop("direct")
        assert "timeout" not in {direct.client.ended, direct.server.ended}, "a check that fails directly"
        for each in played.values():
            self._expected[each.address] += check.records
        return [f"{name}: {text}" for name, each in played.items() for text in differences(check, direct, each)]

    def records(self) -> dict[Client, tuple[list[Record], list[Found]]]:
        """Expected and found, where they differ."""
        found = {client: [_record(each) for each in spans] for client, spans in self._network.records().items()}
        return {
            client: (expected, found.get(client, []))
            for client in {*self._expected, *found}
            if not _alike(expected := self._expected.get(client, []), found.get(client, []))
        }


def _record(attributes: dict[str, str]) -> Found:
    status = int(attributes.get("http.response.status_code", "0"))
    error = attributes.get("error.type", "")
    return attributes["http.request.method"], attributes["url.path"], status, "" if error == str(status) else error


def _alike(expected: list[Record], found: list[Found]) -> bool:
    return len(expected) == len(found) and all(map(_is, expected, found))


def _is(expected: Record, found: Found) -> bool:
    errors = expected[3].split("|") if len(expected) == 4 else [""]
    return expected[:3] == found[:3] and found[3] in errors


@pytest.fixture(scope="module")
def exam() -> Iterator[Exam]:
    require_daemon("nft")
    with network({}) as all_of_it, ThreadPoolExecutor(len(all_of_it.routes) + 1) as threads:
        yield Exam(all_of_it, threads)


@pytest.mark.parametrize("check", PARAMETERS)
def test_both_ends_see_what_they_see_directly(exam: Exam, check: Check):
    assert settled(lambda: exam.play(check)) == []


@pytest.mark.parametrize("check", IN_ABSOLUTE_FORM)
def test_in_absolute_form_they_see_the_same(exam: Exam, check: Check):
    assert settled(lambda: exam.play(check, in_absolute_form=True)) == []


def settled(look: Callable[[], list[str]]) -> list[str]:
    """What is found, but for a lateness that does not last."""
    found = look()
    for _ in range(1, ATTEMPTS):
        if not found or any(" was late by " not in each for each in found):
            break
        found = look()
    return found


def test_the_records_are_those_of_the_exchanges(exam: Exam):
    """None is missing, none is invented. The last test: it looks at what those before have left."""
    assert exam.records() == {}
