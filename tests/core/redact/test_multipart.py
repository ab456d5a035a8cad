"""Fields of multipart forms."""

import pytest

from sp_proxy import regex
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.multipart import boundary, redact_multipart
from sp_proxy.core.redact.names import Names

NAMES = Names(regex, [("password", Action("replace", b"[R]")), ("gone", Action("drop", b"[D]"))])
TYPE = b'multipart/form-data; boundary="B x"'


def part(name: bytes, content: bytes) -> bytes:
    return b'--B x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + content + b"\r\n"


def test_named_fields_go_and_all_else_stays():
    body = b"preamble\r\n" + part(b"user", b"jane") + part(b"password", b"hunter2\r\n\r\nmore") + b"--B x--\r\nend"
    redacted, dropping = redact_multipart(body, TYPE, NAMES)
    assert redacted == body.replace(b"hunter2\r\n\r\nmore", b"[R]")
    assert dropping is None


def test_a_field_that_drops():
    assert redact_multipart(part(b"gone", b"x") + b"--B x--", TYPE, NAMES)[1] is not None


def test_the_last_part_may_be_cut():
    body = part(b"user", b"jane") + part(b"password", b"hunter2")[:-4]
    assert b"hunt" not in redact_multipart(body, TYPE, NAMES)[0]
    cut_head = part(b"user", b"jane") + b"--B x\r\nContent-Dispo"
    assert redact_multipart(cut_head, TYPE, NAMES)[0] == cut_head


def test_a_name_may_be_bare_or_quoted():
    body = b"--B\r\ncontent-disposition: form-data; name=password\r\n\r\nx\r\n--B--"
    assert redact_multipart(body, b"multipart/form-data; boundary=B", NAMES)[0].count(b"[R]") == 1
    escaped = Names(regex, [('a"b', Action("replace", b"[R]"))])
    assert b"[R]" in redact_multipart(part(b'a\\"b', b"x"), TYPE, escaped)[0]


@pytest.mark.parametrize(
    "body,content_type",
    [
        (part(b"password", b"x"), b"multipart/form-data"),
        (b"password=x", TYPE),
        (b"x" + part(b"password", b"x"), TYPE),
        (b"--B x\r\nno end of head--B x\r\n", TYPE),
        (b"--B x\r\nContent-Type: text/plain\r\n\r\nno name\r\n--B x--", TYPE),
    ],
)
def test_what_is_no_multipart_body(body, content_type):
    with pytest.raises(ValueError):
        redact_multipart(body, content_type, NAMES)


def test_boundaries():
    assert boundary(TYPE) == b"B x"
    assert boundary(b"multipart/form-data; charset=x; BOUNDARY=abc; y") == b"abc"
    assert boundary(b"multipart/form-data") == b""
