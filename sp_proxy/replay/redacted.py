"""A new answer as it would have been captured (pure): so it is compared with what was recorded, and so it may be reported."""

import base64

from sp_proxy.core.body import media_type
from sp_proxy.core.redaction import Redaction
from sp_proxy.replay.compare import Answer
from sp_proxy.replay.recorded import still_coded


def redact(answer: Answer, redaction: Redaction) -> Answer:
    """The answer without its secrets; one whose body is left out is not complete. Raises RedactionError."""
    fields = []
    for name, value in answer.fields:
        kept = redaction.header(name, value)
        if kept is not None:
            fields.append((name, kept))
    if not answer.body:
        return Answer(answer.status, tuple(fields), b"", answer.complete)
    content_type = dict(answer.fields).get("content-type", "").encode("utf-8", "replace")
    if still_coded(answer.fields):
        made = redaction.coded_body(answer.body)
        is_text, charset = False, ""
    else:
        made = redaction.body(answer.body, content_type, complete=answer.complete)
        is_text, charset = media_type(content_type).is_text, media_type(content_type).charset
    if made is None:
        return Answer(answer.status, tuple(fields), b"", complete=False)
    body = made.decode().encode(charset or "utf-8", "replace") if is_text else base64.b64decode(made)
    return Answer(answer.status, tuple(fields), body, answer.complete)
