"""Filter flows with mitmproxy's filter expressions, and rewrite the bodies and queries of those that match."""

from mitmproxy import flowfilter, http

posts = flowfilter.parse("~m POST & ~u /filtered")


def request(flow: http.HTTPFlow) -> None:
    if flowfilter.match(posts, flow):
        flow.request.query["seen"] = "yes"
        flow.request.text = flow.request.text.replace("dog", "cat")


def response(flow: http.HTTPFlow) -> None:
    if flowfilter.match(posts, flow):
        flow.response.headers["filtered"] = "yes"
