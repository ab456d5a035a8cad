r"""Form fields in ``multipart/form-data`` (RFC 7578): ``--boundary``, a head with the field's name, an empty line, content."""

import re
from typing import Final

from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.names import Names

_BOUNDARY: Final = re.compile(rb";[ \t]*boundary=(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"(?:\A|\n)content-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_NAME: Final = re.compile(rb";[ \t]*name=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))", re.IGNORECASE)


def boundary(content_type: bytes) -> bytes:
    """The boundary that a content type names; empty for none."""
    match = _BOUNDARY.search(content_type)
    return (match[1] or match[2]) if match else b""


def redact_multipart(body: bytes, content_type: bytes, names: Names) -> tuple[bytes, Action | None]:
    """The body without the content of these fields, and the first action that drops, if any did.

    The last part may have been cut. Raises ValueError for what is no multipart body.
    """
    delimiter = boundary(content_type)
    start, *parts = body.split(b"--" + delimiter) if delimiter else [body]
    if not parts or (start and not start.endswith(b"\n")):
        raise ValueError("no multipart body")
    dropping: Action | None = None
    made = [start]
    for index, part in enumerate(parts):
        if part.startswith(b"--"):
            made.append(part)
            continue
        head, empty_line, content = part.partition(b"\r\n\r\n")
        if not empty_line:
            if index < len(parts) - 1:
                raise ValueError("a part without an end of its head")
            made.append(part)
            continue
        action = names.action(_field_name(head))
        if action is not None:
            dropping = dropping or (action if action.drops else None)
            value = content.removesuffix(b"\r\n")
            content = action.substitute(value) + content[len(value) :]
        made.append(head + empty_line + content)
    return (b"--" + delimiter).join(made), dropping


def _field_name(head: bytes) -> bytes:
    disposition = _DISPOSITION.search(head)
    name = _NAME.search(disposition[1]) if disposition else None
    if name is None:
        raise ValueError("a part without a name")
    return re.sub(rb"\\(.)", rb"\1", name[1]) if name[1] is not None else bytes(name[2])
