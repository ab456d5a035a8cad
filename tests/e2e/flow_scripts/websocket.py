"""Change and drop messages of a WebSocket connection."""

import re

from mitmproxy import http


def websocket_message(flow: http.HTTPFlow) -> None:
    assert flow.websocket is not None
    message = flow.websocket.messages[-1]
    if message.from_client:
        message.content = re.sub(b"^Hello", b"HAPPY", message.content)
    if b"secret" in message.content:
        message.drop()
