"""What Ray's metrics agent is given, and the Grafana dashboard that asks for it."""

import json
import re
import sys
from typing import Any

import pytest

from app.running import metrics
from app.running.metrics import METRICS, PREFIX
from tests.conftest import ROOT

DASHBOARD = json.loads((ROOT / "docs" / "grafana.json").read_text())
METRIC, LABELS = re.compile(r"\bray_(\w+?)(?=[{,)\s])"), re.compile(r"by \(([^)]*)\)")


def test_a_process_without_ray_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    before = dict(metrics._made)
    metrics.report(loss=1.0, reward=None)
    metrics.count("verdicts_total", status="passed")
    assert metrics._made == before


def test_what_a_process_reports_is_of_what_it_works_for() -> None:
    with metrics.tagged(run="a", stage="sft"), metrics.tagged(individual="1.2"):
        assert metrics._tags_of("reward", {}) == {"run": "a", "stage": "sft", "individual": "1.2"}
    assert metrics._tags_of("verdicts_total", {"status": "passed"}) == {"run": "", "stage": "", "status": "passed"}


def asked() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*queries, *(one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query")]


def test_the_dashboard_asks_for_what_the_code_exports_and_for_all_of_it() -> None:
    names = {name for query in asked() for name in METRIC.findall(query)}
    assert names == {PREFIX + name for name in METRICS}


def test_a_query_groups_by_tags_that_its_metric_has() -> None:
    for query in asked():
        (metric,) = {name.removeprefix(PREFIX) for name in METRIC.findall(query)}
        wanted = {label.strip() for labels in LABELS.findall(query) for label in labels.split(",")}
        assert wanted <= set(METRICS[metric].tag_keys), query
        assert ("rate(" in query) == (METRICS[metric].kind == "counter"), query


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [(place["x"], place["y"]) for place in (panel["gridPos"] for panel in panels)]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
