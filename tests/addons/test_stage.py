"""Hooks one after the other, and what of their work is taken."""

import msgspec
import trio

from sp_proxy import regex
from sp_proxy.addons.exchange import unchanged
from sp_proxy.addons.source import look
from sp_proxy.addons.stage import AddonPool, Worked, applied, capture_plans, work
from sp_proxy.core.batching import content_size
from sp_proxy.core.exchange import Partial
from sp_proxy.core.redact.config import RedactionConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redaction import NeverSent, RedactionError
from sp_proxy.settings.addons import Addons
from tests.addons.hooks import PATIENCE, plan, running
from tests.exporter.rig import make_exchange, make_exchanges

CARD = "4111 1111 1111 1111"


def redactor() -> Redactor:
    return Redactor(RedactionConfig(detectors={"payment_card": "replace"}), regex)


async def test_each_sees_what_the_one_before_has_left_and_all_is_counted():
    drop_two = "def exchange(ex):\n    if ex.query['n'] in '24': ex.drop()\n    else: ex.tag('n', ex.query['n'])\n"
    double = "def exchange(ex):\n    other = ex.copy()\n    other.tag('n', ex.tags['n'] * 2)\n    return [ex, other]\n"
    async with running(drop_two, "one") as one, running(double, "two") as two:
        worked = await work([one, two], Worked(make_exchanges(5)), NeverSent())
        assert one.stats().dropped == 2
        assert two.stats().added == 3
    assert [dict(each.tags)["n"] for each in worked.exchanges] == ["1", "11", "3", "33", "5", "55"]
    assert len({each.span_id for each in worked.exchanges}) == 6
    assert [each.span_id for each in worked.exchanges][::2] == [number.to_bytes(8) for number in (1, 3, 5)]
    assert (dict(worked.lost), worked.added) == ({"addon_dropped": 2}, 3)


async def test_what_they_hold_is_told():
    triple = "def exchange(ex):\n    return [ex, ex.copy(), ex.copy()]\n"
    (record,) = records = [make_exchange()]
    told: list[int] = []
    async with running("def exchange(ex): ...\n", "none") as none, running(triple, "a") as a, running(triple, "b") as b:
        await work([none, a, b], Worked(records), NeverSent(), holds=told.append)
    assert told == [3 * content_size(record), 9 * content_size(record)]


async def test_what_has_been_answered_counts_while_the_rest_is_worked_on(tmp_path):
    go = tmp_path / "go"
    text = f"import os, time\ndef exchange(ex):\n    while ex.query['n'] == '65' and not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    text += "    return [ex, ex.copy()]\n"
    pool = AddonPool()
    (process,) = pool.processes([plan(text, call=60.0, batch=60.0)])
    records = make_exchanges(65)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.work, records)
            while pool.answered_bytes < 2 * sum(map(content_size, records[:64])):  # noqa: ASYNC110  # another process answers
                await trio.sleep(0.01)
            go.touch()
    assert pool.answered_bytes == 0
    pool.keep(())


async def test_what_a_required_hook_missed_is_not_sent():
    fails = "def exchange(ex):\n    if ex.query['n'] == '2': 1 / 0\n    ex.tag('seen', 1)\n"
    async with running("required = True\n" + fails, "one") as one, running(fails, "two") as two:
        worked = await work([one], Worked(make_exchanges(3)), NeverSent())
        assert [each.span_id for each in worked.exchanges] == [number.to_bytes(8) for number in (1, 3)]
        assert dict(worked.lost) == {"addon_failed": 1}
        worked = await work([two], Worked(make_exchanges(3)), NeverSent())
        assert len(worked.exchanges) == 3
        assert not worked.lost
        behind = await work([one, two], Worked([make_exchange(1)]), NeverSent(), only_required=True)
        assert dict(behind.exchanges[0].tags) == {"seen": "1"}
        assert two.stats().skipped == 1


async def test_labels_are_masked():
    text = f"def exchange(ex):\n    ex.count('paid', card='{CARD}')\n"
    async with running(text) as process:
        await work([process], Worked([make_exchange()]), redactor())
        ((name, labels),) = process.stats().series
    assert name == "paid"
    assert CARD not in str(labels)


class Failing(NeverSent):
    def header(self, name: str, value: str, *, clean: bool = False) -> str | None:
        raise RedactionError


def test_a_hook_changes_what_it_may_and_nothing_else():
    record = make_exchange()
    change = unchanged(record, 0)
    assert applied(record, change, NeverSent(), again=False) == record
    replace = msgspec.structs.replace
    for address, taken in (("10.9.9.9", "10.9.9.9"), ("", ""), ("secret", "10.0.0.1"), ("fe80::1%secret", "10.0.0.1")):
        made = applied(record, replace(change, client_address=address), NeverSent(), again=False)
        assert made.client_address == taken
    named = replace(change, service_name=f"card {CARD}".encode(), request_body_size=-5, response_body_size=1 << 80)
    made = applied(record, named, redactor(), again=False)
    assert CARD.encode() not in made.service_name
    assert (made.request_body_size, made.response_body_size) == (0, 1 << 62)
    assert applied(record, named, Failing(), again=False).service_name == b""
    early = replace(record, partial=Partial(b"12345678", ongoing=True))
    again = applied(early, change, NeverSent(), again=True)
    assert again.span_id != record.span_id
    assert again.partial is not None
    assert again.partial.span_id != b"12345678"
    assert again.partial.ongoing


def test_plans_are_what_settings_name(tmp_path):
    assert capture_plans(Addons()) == ()
    (tmp_path / "a.py").write_text("def exchange(ex): ...\n")
    (tmp_path / "b.py").write_text("def request(head): ...\n")
    (found,) = capture_plans(Addons(directory=str(tmp_path), call_budget=2))
    assert (found.file.name, found.call_budget) == ("a", 2.0)


async def test_a_pool_has_one_process_for_each_hook():
    pool = AddonPool()
    one, two = plan("def exchange(ex): ...", "one"), plan("def exchange(ex): ...", "two")
    first = pool.processes([one, two, one])
    assert [each.name for each in first] == ["one", "two"]
    assert pool.processes([two])[0] is first[1]
    pool.keep([two])
    assert [each.name for each in pool.stats()] == ["two"]
    assert pool.processes([one])[0] is not first[0]


async def test_a_pool_keeps_one_account_of_an_addon_over_its_files():
    pool = AddonPool()
    before = plan("def exchange(ex): ...", "one")
    after = plan("def exchange(ex): ex.drop()", "one")
    (old,) = pool.processes([before])
    old.tally.called = 3
    for now in (before, after), (after,):  # side by side, and alone
        pool.keep(now)
        assert pool.processes([after])[0].stats().called == 3
        assert [each.name for each in pool.stats()] == ["one"]
    pool.keep([])
    assert pool.processes([after])[0].stats().called == 0


def test_hooks_that_have_been_read_are_not_read_again():
    files = [look("/nowhere/a.py", "def exchange(ex): ..."), look("/nowhere/b.py", "def request(head): ...")]
    plans = capture_plans(Addons(files=["/nowhere/a.py", "/nowhere/b.py"]), files)
    assert [plan.file for plan in plans] == files[:1]
    assert capture_plans(Addons()) == ()
