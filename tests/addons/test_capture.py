"""Capture hooks in a running exporter: records come from a worker's channel, and payloads go to a file."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import trio

from sp_proxy.channel.frames import Records
from tests.addons.hooks import PATIENCE
from tests.exporter.rig import make_exchanges, open_rig, settings

CARD = "4111111111111111"


def sent(path: Path) -> list[dict[str, Any]]:
    """Spans, with their attributes as a mapping."""
    spans = []
    for line in path.read_text().splitlines() if path.exists() else ():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    values = {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
                    spans.append({"name": span["name"], **values})
    return spans


async def test_hooks_stand_before_redaction_and_the_books_balance(tmp_path):
    (tmp_path / "a_filter.py").write_text("def exchange(ex):\n    if ex.query['n'] == '2': ex.drop()\n")
    (tmp_path / "b_leak.py").write_text(
        f"def exchange(ex):\n"
        f"    ex.tag('card', '{CARD}')\n"
        f"    ex.request.headers['authorization'] = 'Bearer abc'\n"
        f"    ex.request.headers['x-card'] = '{CARD}'\n"
        f"    ex.request.set_json({{'card': '{CARD}'}})\n"
        f"    ex.name = ex.path = '/cards/{CARD}'\n"
        f"    ex.service_name = 'of {CARD}'\n"
        f"    ex.host = '{CARD}'\n"
        f"    return [ex, ex.copy()]\n"
    )
    (tmp_path / "c_dies.py").write_text("import os\ndef exchange(ex):\n    os._exit(1)\n")
    out = tmp_path / "out.jsonl"
    addons = {"directory": str(tmp_path), "call_budget": "5s", "batch_budget": "20s"}
    exporters = [{"type": "file", "path": str(out)}]
    async with open_rig("http://b:1", seconds=PATIENCE, addons=addons, exporters=exporters) as rig:
        await rig.send_records(4)
        stats = await rig.until(lambda seen: seen.accepted == 6)
        assert (stats.captured, stats.shed) == (7, {"addon_dropped": 1})
        assert [each.name for each in stats.addons] == ["a_filter", "b_leak", "c_dies"]
        assert stats.addons[2].restarts >= 1
    spans = sent(out)
    assert len(spans) == 6
    assert CARD not in out.read_text()
    assert "Bearer" not in out.read_text()


async def test_other_files_are_other_hooks_from_the_next_batch_on(tmp_path):
    hook, out = tmp_path / "tag.py", tmp_path / "out.jsonl"
    hook.write_text("def exchange(ex):\n    ex.tag('by', 'one')\n")
    sections = {
        "addons": {"files": [str(hook)], "call_budget": "5s", "batch_budget": "20s"},
        "exporters": [{"type": "file", "path": str(out)}],
    }
    async with open_rig("http://b:1", seconds=PATIENCE, **sections) as rig:
        exporter = rig.exporter
        await rig.send_records(1)
        await rig.until(lambda seen: seen.accepted == 1)
        same = exporter.prepare(settings("http://b:1", **sections))
        assert not exporter.differs(same)
        hook.write_text("def exchange(ex):\n    ex.tag('by', 'two')\n")
        other = exporter.prepare(settings("http://b:1", **sections))
        assert exporter.differs(other)
        await exporter.apply(other)
        await rig.send_records(1, first=2)
        await rig.until(lambda seen: seen.accepted == 2)
        assert len(exporter.stats().addons) == 1
        await exporter.apply(exporter.prepare(settings("http://b:1", exporters=sections["exporters"])))
        await rig.send_records(1, first=3)
        await rig.until(lambda seen: seen.accepted == 3)
        assert exporter.stats().addons == ()
    assert [span.get("sp.tag.by") for span in sent(out)] == ["one", "two", None]


async def test_records_of_earlier_workers_are_seen_by_the_hooks_of_both_settings(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"required = True\ndef exchange(ex):\n    ex.tag('{name}', 1)\n")
    out = tmp_path / "out.jsonl"
    make = partial(settings, "http://b:1", exporters=[{"type": "file", "path": str(out)}])
    limits = {"call_budget": "5s", "batch_budget": "20s"}
    one = {"files": [str(tmp_path / "one.py")], **limits}
    async with open_rig(
        "http://b:1", seconds=PATIENCE, addons=one, exporters=[{"type": "file", "path": str(out)}]
    ) as rig:
        prepared = rig.exporter.prepare(make(addons={"files": [str(tmp_path / "two.py")], **limits}))
        edition = rig.exporter.open_edition(prepared)
        await rig.exporter.apply(prepared, edition)
        await rig.send(Records(make_exchanges(1)))
        await rig.until(lambda seen: seen.accepted == 1)
        assert {each.name for each in rig.exporter.stats().addons} == {"one", "two"}
        await rig.worker.aclose()
        with trio.fail_after(PATIENCE):
            while len(rig.exporter.stats().addons) > 1:  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.01)
    (span,) = sent(out)
    assert (span["sp.tag.one"], span["sp.tag.two"]) == ("1", "1")


async def test_when_workers_have_to_wait_hooks_that_are_not_required_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("sp_proxy.exporter.edition.BEHIND_SECONDS", 0.0)
    (tmp_path / "slow.py").write_text("import time\ndef exchange(ex):\n    time.sleep(0.3)\n")
    out = tmp_path / "out.jsonl"
    addons = {"directory": str(tmp_path), "call_budget": "5s", "batch_budget": "20s"}
    exporters = [{"type": "file", "path": str(out)}]
    batch = {"max_records": 1, "flush_timeout": "20ms"}
    async with open_rig("http://b:1", seconds=PATIENCE, addons=addons, exporters=exporters, batch=batch) as rig:
        await rig.send_records(20)
        stats = await rig.until(lambda seen: seen.accepted == 20)
        assert stats.addons[0].skipped > 0
        assert stats.addons[0].called > 0
    assert len(sent(out)) == 20
