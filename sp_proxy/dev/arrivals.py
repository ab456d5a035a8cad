"""What the backend has got since it was asked the last time."""

from contextlib import suppress
from urllib.parse import quote

from sp_proxy.demo.inquiries import BackendApi, Unanswered
from sp_proxy.dev.calls import Exchanges

PAGE = 500


def catch_up(exchanges: Exchanges, backend: BackendApi, since: str = "") -> None:
    """Add what is new, and once more the latest of what is known: its other half may have come meanwhile.

    ``since``: a moment, as queries have it: what began before (an earlier run's, in its file) is left out. A backend that does
    not answer is asked again the next time.
    """
    before, only = "", f"&q={quote(f'time>={since}')}" if since else ""
    with suppress(Unanswered):
        while True:
            known = len(exchanges) + exchanges.forgotten
            page = backend.json(f"/api/v1/exchanges?limit={PAGE}{only}" + (f"&before={before}" if before else ""))
            exchanges.add(reversed(page["exchanges"]))
            before = page["next"]
            if not before or len(exchanges) + exchanges.forgotten - known < len(page["exchanges"]):
                return
