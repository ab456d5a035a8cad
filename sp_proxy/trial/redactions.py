"""What another configuration would take out of a captured exchange beside what is gone already (pure).

Redaction is applied once more to what was sent. What comes out as it went in would stay as it is; whether something that is gone
would now be left in cannot be told. A hash of a hash is another one, so values that are hashed already are told as changed.
"""

from collections.abc import Iterator

from sp_proxy.core.redaction import Redaction
from sp_proxy.trial.captured import Body, Captured


def redactions(captured: Captured, redaction: Redaction) -> Iterator[str]:
    """Names of the places that would change. Raises RedactionError when redaction itself fails."""
    if redaction.target(captured.target) != captured.target:
        yield "request target"
    if redaction.authority(captured.authority) != captured.authority:
        yield "host"
    for what, fields in (
        ("request header", captured.request_headers),
        ("response header", captured.response_headers),
        ("trailer", captured.trailers),
    ):
        for name, value in fields:
            if redaction.header(name.lower(), value) != value:
                yield f"{what} {name.lower()}"
    for what, body in (("request body", captured.request_body), ("response body", captured.response_body)):
        if body is not None and _changes(body, redaction, complete=captured.complete):
            yield what


def _changes(body: Body, redaction: Redaction, *, complete: bool) -> bool:
    made = redaction.body(body.content, body.content_type, complete=complete)
    return made is None or made != body.sent
