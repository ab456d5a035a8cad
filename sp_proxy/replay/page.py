"""A replay as one HTML file (pure): nothing is loaded, no script is in it, and captured content is text.

Every text is escaped, and a content security policy forbids whatever might come through all the same.
"""

from html import escape

from sp_proxy.replay.run import Outcome, Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c2530; background: #fff }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #dde3ea; vertical-align: top; overflow-wrap: anywhere }
code { font: 13px/1.4 ui-monospace, monospace; white-space: pre-wrap }
summary { cursor: pointer; padding: .3rem 0; overflow-wrap: anywhere }
.differs { color: #a3121b } .same { color: #17683a } .skipped { color: #6b5a00 }
@media (prefers-color-scheme: dark) {
  body { color: #dfe6ee; background: #12171d } th, td { border-color: #2c3742 }
  .differs { color: #ff8d8d } .same { color: #74d99f } .skipped { color: #e5cf70 }
}
"""
_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    '<meta name="referrer" content="no-referrer"><title>sp-proxy replay</title>'
    f"<style>{_STYLE}</style></head><body>"
)


def page(report: Report) -> str:
    """The document."""
    verdict = {0: "no difference", 1: f"{report.different} of {report.sent} differ", 2: "it could not be done"}
    pieces = [
        _HEAD,
        f"<h1>Replay: {verdict[report.exit_code]}</h1>",
        f"<p>To {_code(report.to)}: {report.sent} sent, {report.sent - report.different} as recorded,",
        f" {report.different} different, {report.skipped} not sent.",
        f" The requests' sessions begin with {_code(f'replay-{report.run}-')}.</p>",
    ]
    for title, css, wanted in (
        ("Different", "differs", [each for each in report.outcomes if each.differs]),
        ("Not sent", "skipped", [each for each in report.outcomes if each.skipped]),
        ("As recorded", "same", [each for each in report.outcomes if not each.differs and not each.skipped]),
    ):
        if wanted:
            pieces.append(f"<h2>{title} ({len(wanted)})</h2>")
            pieces += [_outcome(each, css) for each in wanted]
    return "".join([*pieces, "</body></html>\n"])


def _outcome(outcome: Outcome, css: str) -> str:
    recorded = outcome.recorded
    head = (
        f'<span class="{css}">{_code(recorded.method)} {_code(recorded.target)}</span> '
        f"{escape(recorded.service)} <small>{_code(recorded.span_id)}</small>"
    )
    if outcome.skipped:
        return f"<p>{head}<br>{escape(outcome.skipped)}</p>"
    if outcome.no_answer:
        return f"<p>{head}<br>no answer: {escape(outcome.no_answer)}</p>"
    assert outcome.comparison is not None
    notes = "".join(f"<p>{escape(note)}</p>" for note in outcome.comparison.notes)
    if not outcome.differs:
        return f"<p>{head} {outcome.status}</p>{notes}"
    rows = "".join(
        f"<tr><td>{_code(each.place)}</td><td>{_code(each.expected)}</td><td>{_code(each.found)}</td></tr>"
        for each in outcome.comparison.differences
    )
    more = f"<p>and {outcome.comparison.more} more</p>" if outcome.comparison.more else ""
    return (
        f"<details open><summary>{head}</summary><table><tr><th>where</th><th>recorded</th><th>now</th></tr>"
        f"{rows}</table>{more}{notes}</details>"
    )


def _code(text: str) -> str:
    # A character that turns the direction of writing would show a text other than it is.
    return f"<bdi><code>{escape(text)}</code></bdi>"
