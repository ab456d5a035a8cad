import re
from html.parser import HTMLParser

from sp_proxy.replay.page import page
from sp_proxy.replay.run import Report
from tests.backend.requests import HOSTILE
from tests.replay.reports import REPORT, SAME


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def read(report: Report) -> Elements:
    elements = Elements()
    elements.feed(page(report))
    return elements


def test_hostile_content_is_text():
    elements = read(REPORT)
    assert HOSTILE.splitlines()[0][:40] in elements.text
    assert elements.tags & {"script", "img", "iframe", "svg", "a", "link", "object", "form"} == set()
    assert not any(name.startswith("on") or name in {"src", "href", "style"} for name in elements.attributes)
    assert "default-src 'none'" in page(REPORT)
    assert re.search(r"(?i)url\(|@import|https?://(?!target)", page(REPORT)) is None


def test_what_it_says():
    text = read(REPORT).text
    assert "Replay: 2 of 3 differ" in text
    for part in ("3 sent, 1 as recorded", "2 different, 1 not sent", "no answer within 30 seconds", "and 3 more"):
        assert part in text
    assert "not all was compared" in text
    assert "Replay: no difference" in read(Report("http://a", "r", (SAME,))).text
