"""The map: services in layers, what is told of their calls, and the times that can be chosen."""

import json
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect

LAYERS = "([names, edges]) => import('/layout.js').then(({ layers }) => [...layers(names, edges)])"


def test_services_and_their_calls(page, screenshot):
    page.goto("/#/map")
    expect(page.locator(".map-node")).to_have_count(5)
    calls = [call.get_attribute("aria-label") for call in page.locator(".map-call").all()]
    assert len(calls) == 4
    assert any(call.startswith("orders → inventory: 124 requests, 0 % errors, p95 ") for call in calls), calls
    assert any(call.startswith("orders → payment: 4 requests, 25 % errors, p95 ") for call in calls), calls
    # From left to right, callers before those they call.
    at = {
        node.locator(".map-name").text_content(): node.locator("rect").bounding_box()["x"]
        for node in page.locator(".map-node").all()
    }
    assert at["outside"] < at["orders"] < at["payment"] < at["bank.example"]
    assert at["inventory"] == at["payment"]
    expect(page.locator(".map-node.host .map-name")).to_have_text("bank.example")
    expect(page.locator(".call-row:not(.head)")).to_have_count(4)
    screenshot("map")


def test_boxes_do_not_lie_on_each_other(page):
    page.goto("/#/map")
    expect(page.locator(".map-node")).to_have_count(5)
    boxes = [node.locator("rect").bounding_box() for node in page.locator(".map-node").all()]
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert (
                one["x"] + one["width"] <= other["x"]
                or other["x"] + other["width"] <= one["x"]
                or one["y"] + one["height"] <= other["y"]
                or other["y"] + other["height"] <= one["y"]
            )


def test_what_is_chosen_stands_out(page):
    page.goto("/#/map")
    page.locator(".map-node", has_text="payment").click()
    expect(page.locator(".map-call.faded")).to_have_count(2)
    page.locator(".map-node", has_text="payment").click()
    expect(page.locator(".map-call.faded")).to_have_count(0)
    page.locator(".map-call").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".map-call.faded")).to_have_count(3)
    expect(page.locator(".call-row.faded")).to_have_count(3)


def test_a_call_leads_to_its_exchanges(page):
    page.goto("/#/map")
    row = page.locator(".call-row", has_text="payment:8080")
    row.get_by_role("link", name="Exchanges").click()
    expect(page).to_have_title("Live · sp_proxy")
    expect(page.locator("a.row").first).to_contain_text("/charge")
    expect(page.locator("a.row")).to_have_count(4)


def test_the_time_is_chosen(watched):
    page = watched.page
    page.goto("/#/map?since=2020-01-01&until=2020-01-02")
    expect(page.locator(".map .empty")).to_have_text("Nothing was captured in this time.")
    page.get_by_role("link", name="7 days").click()
    expect(page.locator(".map-node")).to_have_count(5)
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"/#/map\?since=-1d$"))
    watched.expect("Failed to load resource")
    page.get_by_label("Since").fill("yesterday")
    page.keyboard.press("Enter")
    expect(page.locator(".problem")).to_contain_text("since: ")


def test_any_graph_has_its_place_for_everything(page):
    """Circles, calls of oneself, and names like those of objects' own properties among them."""
    page.goto("/#/map")
    names = st.sampled_from(["a", "b", "c", "d", "e", "__proto__", "constructor", "", "\u0000"])
    edges = st.lists(st.fixed_dictionaries({"source": names, "target": names}), max_size=14)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.lists(names, min_size=1, unique=True), edges)
    def check(nodes: list[str], calls: list[dict[str, str]]) -> None:
        found = dict(page.evaluate(LAYERS, [nodes, calls]))
        assert set(found) == set(nodes)
        places = [(place["layer"], place["place"]) for place in found.values()]
        assert len(set(places)) == len(places)
        by_layer: dict[int, list[int]] = {}
        for layer, place in places:
            by_layer.setdefault(layer, []).append(place)
        assert sorted(by_layer) == list(range(len(by_layer)))
        assert all(sorted(each) == list(range(len(each))) for each in by_layer.values())
        # Where there is no way back, who is called stands behind the caller.
        for call in calls:
            source, target = call["source"], call["target"]
            if source in found and target in found and not leads(calls, set(nodes), target, source):
                assert found[source]["layer"] < found[target]["layer"], json.dumps([nodes, calls])

    check()


def leads(calls: list[dict[str, str]], nodes: set[str], start: str, end: str) -> bool:
    """Whether there is a way from one to the other; from a node to itself there is."""
    seen, waiting = set(), [start]
    while waiting:
        here = waiting.pop()
        if here == end:
            return True
        if here not in seen:
            seen.add(here)
            waiting += [call["target"] for call in calls if call["source"] == here and call["target"] in nodes]
    return False
