"""What the page's decoders make of bodies, module by module in a browser: they say null rather than wrong things, keep what
they do not change, and no bytes make them fail or go on for ever.
"""

import base64
from typing import Any

import pytest

from tests.browser.traffic import MULTIPART, XML, grpc_message, png


@pytest.fixture
def call(page):
    """``call("json.js", "indented", text)``: a function of a module of the page."""
    page.goto("/#/compare/1/2")

    def run(module: str, function: str, *values: Any) -> Any:
        return page.evaluate(
            """async ([module, name, values]) => {
              const plain = (node) => node.children
                ? { label: node.label, kind: node.kind, children: node.children().map(plain) }
                : { label: node.label, kind: node.kind, text: node.text };
              const given = values.map((value) => value && value.base64 !== undefined
                ? Uint8Array.from(atob(value.base64), (character) => character.charCodeAt(0)) : value);
              const found = await (await import("/" + module))[name](...given);
              return Array.isArray(found) && found[0]?.kind ? found.map(plain) : found;
            }""",
            [module, function, list(values)],
        )

    return run


def of(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def leaf(label: str | None, kind: str, text: str) -> dict[str, str | None]:
    return {"label": label, "kind": kind, "text": text}


def test_json_keeps_what_was_written(call):
    text = '{"a":1.50,"big":12345678901234567890,"a":[],"t":"\\u0041\\/","e":1e400,"o":{}}'
    assert call("json.js", "indented", text) == (
        '{\n  "a": 1.50,\n  "big": 12345678901234567890,\n  "a": [],\n  "t": "\\u0041\\/",\n  "e": 1e400,\n  "o": {}\n}'
    )
    nodes = {node["label"]: node for node in call("json.js", "jsonNodes", text)}
    assert nodes["big"]["text"] == "12345678901234567890"
    assert nodes["e"]["text"] == "1e400"
    assert nodes["t"]["text"] == '"A/"'
    assert call("json.js", "jsonNodes", "null") == [leaf(None, "word", "null")]
    for broken in ("", "{", "[1,]", "{'a':1}", "NaN", "[1] [2]"):
        assert call("json.js", "jsonNodes", broken) is None
        assert call("json.js", "indented", broken) is None


def test_xml_is_read_strictly(call):
    (_, _, prices) = call("xml.js", "xmlNodes", XML)
    assert prices["children"][0] == leaf("@currency", "string", "EUR")
    assert prices["children"][1]["children"] == [leaf("@sku", "string", "kettle-2"), leaf(None, "string", "49.90")]
    assert call("xml.js", "xmlNodes", "<a>&#x41;&#66;&amp;lt;&unknown;<![CDATA[<b>]]></a>") == [
        {
            "label": "a",
            "kind": "element",
            "children": [leaf(None, "string", "AB&lt;&unknown;"), leaf("CDATA", "word", "<b>")],
        }
    ]
    for broken in ("", "text", "<a>", "<a></b>", "<a/><b/>", "<a b=1/>", "<a/>text", "<a><!-- </a>", "<!DOCTYPE a"):
        assert call("xml.js", "xmlNodes", broken) is None


def test_protobuf_is_guessed_with_care(call):
    (message,) = call("grpc.js", "grpcNodes", of(grpc_message(("key", "value"), ("n", 300))), "application/grpc", "")
    assert [pair["children"] for pair in message["children"]] == [
        [leaf("1", "string", '"key"'), {"label": "2", "kind": "object", "children": [leaf("1", "string", '"value"')]}],
        [leaf("1", "string", '"n"'), {"label": "2", "kind": "object", "children": [leaf("3", "number", "300")]}],
    ]
    double, fixed = b"\x09" + b"\x00" * 6 + b"\xf8\x3f", b"\x15" + b"\x01\x00\x00\x00"
    (message,) = call("grpc.js", "grpcNodes", of(b"\x00\x00\x00\x00\x0e" + double + fixed), "application/grpc", "")
    assert message["children"] == [
        leaf("1", "number", "1.5 (4609434218613702656)"),
        leaf("2", "number", "1.401298464324817e-45 (1)"),
    ]
    json = b'{"a":1}'
    (message,) = call("grpc.js", "grpcNodes", of(b"\x00\x00\x00\x00\x07" + json), "application/grpc+json", "")
    assert message["children"] == [leaf("a", "number", "1")]
    web = base64.b64encode(b"\x80\x00\x00\x00\x0egrpc-status: 0").decode()
    (trailers,) = call("grpc.js", "grpcNodes", of(web.encode()), "application/grpc-web-text+proto", "")
    assert trailers == {"label": "trailers", "kind": "object", "children": [leaf("grpc-status", "string", "0")]}


def test_forms(call):
    assert call("form.js", "formNodes", "a=1&b=%26+x&c&a=2") == [
        leaf("a", "string", "1"),
        leaf("b", "string", "& x"),
        leaf("c", "string", ""),
        leaf("a", "string", "2"),
    ]
    note, photo = call("form.js", "multipartNodes", of(MULTIPART), 'multipart/form-data; boundary="cut"')
    assert note == leaf("note", "string", "leave it at the door")
    assert photo["children"][-1] == leaf("content", "word", f"{len(png(8, 8))} bytes")
    assert call("form.js", "multipartNodes", of(MULTIPART), "multipart/form-data") is None


def test_bytes(call):
    assert call("bytes.js", "hexDump", of(b"GET / HTTP\r\n\x00\xff" + b"z" * 4), 0, 18) == (
        "00000000  47 45 54 20 2f 20 48 54  54 50 0d 0a 00 ff 7a 7a  |GET / HTTP....zz|\n"
        "00000010  7a 7a                                             |zz|"
    )
    assert call("bytes.js", "textOf", of("grüße\t\x1b".encode())) == "grüße\t\x1b"
    assert call("bytes.js", "textOf", of(b"\xff\xfe")) is None
    assert call("bytes.js", "textOf", of(b"a\x00b")) is None
    assert call("bytes.js", "imageType", of(png())) == "image/png"
    assert call("bytes.js", "imageType", of(b"<svg/>")) == ""


FUZZ = """async ({ rounds, seeds }) => {
  const { decoded } = await import("/body.js");
  const { tree } = await import("/tree.js");
  let state = 11;
  const random = (below) => (state = (state * 1103515245 + 12345) % 2147483648, Math.floor(state / 65536) % below);
  const types = ["application/json", "application/xml", "application/grpc", "application/grpc-web-text", "application/grpc+json",
    "multipart/form-data; boundary=cut", "application/x-www-form-urlencoded", "image/png", "text/plain", ""];
  for (let round = 0; round < rounds; round++) {
    const bytes = Uint8Array.from(atob(seeds[random(seeds.length)]), (character) => character.charCodeAt(0));
    for (let change = random(12); change > 0; change--) {
      if (bytes.length) bytes[random(bytes.length)] = random(3) ? random(256) : "<>[]{}\\"'&;/-=\\n".charCodeAt(random(16));
    }
    const cut = bytes.subarray(random(4) ? 0 : random(bytes.length + 1), random(4) ? bytes.length : random(bytes.length + 1));
    const binary = random(2);
    const data = binary ? btoa(String.fromCharCode(...cut)) : new TextDecoder().decode(cut);
    const content = { encoding: binary ? "base64" : "text", data, content_type: types[random(types.length)] };
    try {
      const { nodes } = await decoded(content, new Map([["grpc-encoding", ["gzip", "deflate", "zstd", ""][random(4)]]]));
      if (nodes) tree(nodes);
    } catch (error) {
      return `${JSON.stringify(content)}: ${error.stack}`;
    }
  }
  return "";
}"""


def test_no_bytes_break_them(page):
    page.goto("/#/compare/1/2")
    seeds = [
        b'{"a": [1, 2.5e3, "x\\u0041", null, true], "b": {"c": {}}}',
        XML.encode(),
        MULTIPART,
        grpc_message(("key", "value"), ("n", 300)) + grpc_message(("z", "z" * 50), compressed=True),
        b"a=1&b=%26+x&c",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a x="1"><!-- c --><![CDATA[d]]></a>',
        png(4, 4),
        b"",
    ]
    assert page.evaluate(FUZZ, {"rounds": 4000, "seeds": [base64.b64encode(seed).decode() for seed in seeds]}) == ""
