"""Alert rules and dashboard: every metric that they name is one of a daemon that runs, and Prometheus' own tool takes them."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.requirements import require_tools
from tests.supervisor.daemon import REAL, running_daemon

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "deploy" / "monitoring"
RULES: dict[str, Any] = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text("utf-8"))
BOARD: dict[str, Any] = json.loads((FILES / "grafana-dashboard.json").read_text("utf-8"))
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
TRIED = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text("utf-8"))
NAME = re.compile(r"\b(?:sp_proxy|process)_[a-z0-9_]+\b")
LABELS = re.compile(r"(?:by \(([^)]*)\)|\{([^}]*)\})")
OF_PROMETHEUS = {"job", "instance"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in ALERTS)
    for panel in panels():
        yield from (target["expr"] for target in panel["targets"])


async def test_every_metric_and_label_is_one_of_a_daemon_that_runs(tmp_path):
    settings = {"data_path": "mitmproxy", "spool": {"directory": str(tmp_path)}}
    async with running_daemon("127.0.0.1:9", settings, directory=tmp_path, command=REAL) as daemon:
        text = (await daemon.get("/metrics")).text
    known = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 40
    assert named - known == set()
    helped = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert known == set(helped)
    assert all(len(words) > 8 for words in helped.values())


def test_labels_are_those_that_the_metrics_have():
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sp_proxy" / "admin").glob("*.py"))
    for expression in expressions():
        for grouped, selected in LABELS.findall(expression):
            for label in re.findall(r"[a-z_]+(?==|,|\)|$)", f"{grouped},{re.sub(r'"[^"]*"', '', selected)}"):
                assert label in OF_PROMETHEUS or f'"{label}"' in source, (label, expression)


def promtool(*words: str) -> None:
    require_tools("promtool")
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules():
    promtool("check", "rules", str(FILES / "prometheus-rules.yaml"))


def test_promtool_takes_what_the_dashboard_asks(tmp_path):
    """As recording rules: there is no other way to have expressions checked."""
    made = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$__rate_interval", "5m").replace("$job", "j").replace("$instance", "i"),
        }
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}), "utf-8")
    promtool("check", "rules", str(path))


def test_every_alert_fires_when_it_should_and_not_else(tmp_path):
    """The quiet daemon's alerts stand in the file; of the other one each must fire."""
    tried = json.loads(json.dumps(TRIED))
    tried["rule_files"] = [str(FILES / "prometheus-rules.yaml")]
    quiet = {each["alertname"] for each in tried["tests"][0]["alert_rule_test"]}
    names = {rule["alert"] for rule in ALERTS}
    assert quiet <= names
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump(tried), "utf-8")
    promtool("test", "rules", str(path))
    for name in sorted(names):
        # Expected to be silent, it is reported as firing: so it fires.
        loud = tried["tests"][1] | {"alert_rule_test": [{"eval_time": "80m", "alertname": name}]}
        path.write_text(yaml.safe_dump(tried | {"tests": [loud]}), "utf-8")
        with pytest.raises(AssertionError, match=rf'alertname="{name}"'):
            promtool("test", "rules", str(path))


def test_alerts_say_what_it_is_and_what_to_do():
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description"}
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)


def test_panels_have_ids_and_places_of_their_own_and_explain_themselves():
    every = BOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(panel["description"] for panel in panels())
    assert {variable["name"] for variable in BOARD["templating"]["list"]} == {"datasource", "job", "instance"}
