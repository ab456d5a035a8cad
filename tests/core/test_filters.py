"""What is never captured: static resources, prefetches, the ingress gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core import filters


def block(*lines: str) -> bytes:
    return ("\r\n" + "".join(f"{line}\r\n" for line in lines)).encode()


@pytest.mark.parametrize(
    "extension",
    ["js", "css", "html", "htm", "svg", "png", "jpg", "jpeg", "gif", "webp", "ico", "ttf", "woff", "woff2", "map"],
)
def test_static_by_extension_with_and_without_query(extension):
    assert filters.is_static_target(f"/a/b.{extension}".encode())
    assert filters.is_static_target(f"/a/b.{extension}?v=/1".encode())
    assert not filters.is_static_target(f"/a/b{extension}".encode())
    assert not filters.is_static_target(f"/a?file=x.{extension}".encode())


def test_api_paths_are_not_static():
    for target in (b"/", b"/api/orders", b"/data.json", b"/a.jsx", b"*", b"", b"/a.js/b"):
        assert not filters.is_static_target(target)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/javascript",
        "application/javascript; charset=utf-8",
        "application/x-javascript",
        "text/css",
        "text/html; charset=utf-8",
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/x-icon",
        "font/ttf",
        "font/woff",
        "font/woff2",
        "application/octet-stream",
    ],
)
def test_static_by_content_type(content_type):
    assert filters.is_static_response(block("server: x", f"content-type: {content_type}", "etag: 1"))
    assert filters.is_static_response(block(f"content-type:{content_type}"))
    assert not filters.is_static_response(block(f"x-content-type: {content_type}"))


def test_content_types_that_are_kept():
    for content_type in ("application/json", "text/plain", "", "image/tiff", "application/grpc"):
        assert not filters.is_static_response(block(f"content-type: {content_type}"))
    assert not filters.is_static_response(block("content-length: 1"))
    assert not filters.is_static_response(b"\r\n")


PREFETCHES = [
    ("rsc: 1",),
    ("next-router-prefetch: 1",),
    ("next-router-state-tree: %5b%22%22%5d",),
    ("purpose: prefetch",),
    ("sec-purpose: prefetch;prerender",),
    ("accept: text/x-component",),
    ("accept: */*", "accept: text/html, text/x-component;q=0.5"),
]
NO_PREFETCHES = [
    (),
    ("x-rsc: 1",),
    ("x-purpose: prefetch",),
    ("purpose: navigate", "x-mode: prefetch"),
    ("next-router-other: 1",),
    ("x-accept: text/x-component",),
    ("accept: text/x-other",),
    ("accept: */*", "x-note: text/x-component"),
]


@pytest.mark.parametrize("lines", PREFETCHES)
def test_prefetch(lines):
    fields = block("host: a", *lines, "x-last: 1")
    assert filters.is_prefetch(fields)
    assert filters.has_telling_field(fields)


@pytest.mark.parametrize("lines", NO_PREFETCHES)
def test_not_prefetch(lines):
    assert not filters.is_prefetch(block("host: a", *lines, "x-last: 1"))


def test_prefetch_targets():
    assert filters.is_prefetch_target(b"/x?_rsc=1")
    assert filters.is_prefetch_target(b"/_next/data/x")
    assert not filters.is_prefetch_target(b"/next/data?rsc=1")


def test_ingress_gateway_is_found_in_its_own_field_only():
    value = "router~10.0.0.1~istio-ingressgateway-x.istio-system"
    assert filters.is_from_ingress_gateway(block("host: a", f"x-envoy-peer-metadata-id: {value}"))
    assert filters.is_from_ingress_gateway(
        block("x-envoy-peer-metadata-id: sidecar~1", f"x-envoy-peer-metadata-id: {value}")
    )
    assert not filters.is_from_ingress_gateway(block(f"x-other: {value}", "x-envoy-peer-metadata-id: sidecar~1"))


LINES = st.sampled_from(
    [line for lines in PREFETCHES + NO_PREFETCHES for line in lines]
    + ["x-envoy-peer-metadata-id: istio-ingressgateway", "host: rsc:", "a: \nb", "accept: ", ""]
)


@given(st.lists(LINES, max_size=6))
def test_the_first_look_never_hides_a_match(lines):
    fields = block(*lines)
    if not filters.has_telling_field(fields):
        assert not filters.is_prefetch(fields)
        assert not filters.is_from_ingress_gateway(fields)
