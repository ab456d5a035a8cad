"""A report with everything that there can be in one, hostile content among it."""

from sp_proxy.replay.compare import Comparison, Difference
from sp_proxy.replay.run import Outcome, Report
from tests.backend.requests import HOSTILE
from tests.replay.exchanges import recorded

SAME = Outcome(recorded(path="/same"), status=200, comparison=Comparison((), notes=("not all was compared",)), took=0.5)
DIFFERS = Outcome(
    recorded(path=f"/{HOSTILE}", service=HOSTILE, span_id="c" * 16),
    status=500,
    comparison=Comparison((Difference("status", "200", "500"), Difference(f"$.{HOSTILE}", HOSTILE, HOSTILE)), 3),
    took=0.25,
)
UNANSWERED = Outcome(recorded(path="/silent"), no_answer="no answer within 30 seconds")
SKIPPED = Outcome(recorded(path="/skipped"), skipped="POST may change something: sent with --unsafe only")
REPORT = Report("http://target:1", "r1", (SAME, DIFFERS, UNANSWERED, SKIPPED))
