"""A new answer as it would have been captured (pure): so it is compared with what was recorded, and so it may be reported."""

import base64
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from sp_proxy.core.body import media_type
from sp_proxy.core.redact.config import REPLACEMENT
from sp_proxy.core.redaction import Redaction
from sp_proxy.replay.compare import Answer
from sp_proxy.replay.recorded import still_coded

MIN_HIDDEN: Final = 4
"""Characters of a supplied secret: shorter ones stand everywhere by chance."""
MIN_WORD: Final = 8
"""Likewise of a word in one, as the token in ``Bearer TOKEN``."""


def hide(answer: Answer, secrets: Iterable[str]) -> Answer:
    """The answer without the secrets that were sent with its request: a service that says them again must not have them shown."""
    forms = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
    if not forms:
        return answer
    fields, body = answer.fields, answer.body
    for form in forms:
        fields = tuple((name, value.replace(form, REPLACEMENT)) for name, value in fields)
        body = body.replace(form.encode(), REPLACEMENT.encode())
    return Answer(answer.status, fields, body, answer.complete)


def _forms(secret: str) -> Iterable[str]:
    words = [word for word in secret.split() if len(word) >= MIN_WORD]
    for text in (secret, *words) if len(secret) >= MIN_HIDDEN else ():
        yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
        yield from (quote(text, safe=""), quote(text))


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
