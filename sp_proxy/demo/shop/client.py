"""How services and customers call a service: one keep-alive connection, every call reported."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from sp_proxy.demo.shop import report
from sp_proxy.demo.shop.messages import Answer, decode
from sp_proxy.demo.shop.report import Call

TIMEOUT_SECONDS = 15.0


class Peer:
    """A service that is called, under the name that it has in the shop. Not for two threads at once."""

    def __init__(self, caller: str, name: str, address: tuple[str, int]) -> None:
        """``address`` is where the name leads: in place of the cluster's DNS."""
        self._caller = caller
        self._name = name
        self._connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_SECONDS)

    def call(self, method: str, target: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request, with a JSON body unless ``value`` is None. Status 0: there was no answer."""
        answer = self._exchange(method, target, value, headers or {})
        report.write(Call(self._caller, self._name, method, target, answer.status))
        return answer

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def _exchange(self, method: str, target: str, value: Any, headers: Mapping[str, str]) -> Answer:
        body = None if value is None else json.dumps(value, ensure_ascii=False).encode()
        fields = {
            "host": f"{self._name}:8080",
            "user-agent": f"{self._caller}/1.0",
            "accept": "application/json",
            "accept-encoding": "gzip",
            **headers,
        }
        if body is not None:
            fields["content-type"] = "application/json"
        try:
            self._connection.request(method, target, body, fields)
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(0, {"title": f"{self._name}: {type(error).__name__}"})
        return Answer(response.status, decode(data, response.getheader("content-encoding", "")))
