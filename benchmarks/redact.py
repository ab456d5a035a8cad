"""What redaction costs the exporter: a body, a header value and a whole record, with and without it.

In rounds that alternate, so a busy machine slows all alike; medians are printed, in µs of CPU time. Bodies are 1 KiB of
JSON with ids, times, decimals and UUIDs, in which detectors find nothing. Ends by itself in a few seconds.

    python -m benchmarks.redact [--rounds 7]
"""

import argparse
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable

import msgspec

from benchmarks.encode import records
from sp_proxy import regex
from sp_proxy.core.body import body_text
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body

JSON = b"application/json"
DETECTORS = RedactionConfig(
    detectors={"payment_card": "replace", "bearer_token": "replace", "jwt": "replace", "aws_key": "replace"}
)
RULES = msgspec.structs.replace(
    DETECTORS,
    rules=(
        RuleConfig(headers=("x-api-*",), query=("token",), form=("password",), json_paths=("$..password", "card.pan")),
        RuleConfig(text=(r"(?i)\bssn[: ]*([0-9-]{9,11})",), action="hash"),
    ),
    salt=b"0123456789abcdef",
)


def random_uuid(generator: random.Random) -> str:
    return str(uuid.UUID(int=generator.getrandbits(128), version=4))


def body(size: int, generator: random.Random) -> bytes:
    """JSON as services have it."""
    items = [
        {
            "id": random_uuid(generator),
            "sku": f"a-{generator.randrange(10**6)}",
            "created": 1_700_000_000_000 + generator.randrange(10**9),
            "price": generator.random() * 100,
            "name": "A thing of beauty",
        }
        for _ in range(size // 100)
    ]
    return json.dumps(items).encode()[:size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    generator = random.Random(1)
    bodies = [body(1024, generator) for _ in range(1000)]
    exchanges = [
        msgspec.structs.replace(
            record,
            request_body=generator.choice(bodies),
            response_body=generator.choice(bodies),
            session_id=b"sp-session-%b" % random_uuid(generator).encode(),
        )
        for record in records(3000, 1024)
    ]
    detectors, rules = Redactor(DETECTORS, regex), Redactor(RULES, regex)
    values = [f"00-{generator.getrandbits(128):032x}-{generator.getrandbits(64):016x}-01" for _ in range(2000)]

    def spans(redactor: Redactor | None) -> Callable[[], object]:
        encode = SpanEncoder(decode_body, redaction=redactor).encode_span
        return lambda: [encode(exchange) for exchange in exchanges]

    cases: dict[str, tuple[int, Callable[[], object]]] = {
        "body of 1 KiB, as it is": (len(bodies), lambda: [body_text(each, JSON) for each in bodies]),
        "body of 1 KiB, detectors": (
            len(bodies),
            lambda: [detectors.body(each, JSON, complete=True) for each in bodies],
        ),
        "body of 1 KiB, detectors and rules": (
            len(bodies),
            lambda: [rules.body(each, JSON, complete=True) for each in bodies],
        ),
        "header value, detectors": (len(values), lambda: [detectors.header("traceparent", each) for each in values]),
        "record, as it is": (len(exchanges), spans(None)),
        "record, detectors": (len(exchanges), spans(detectors)),
        "record, detectors and rules": (len(exchanges), spans(rules)),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, (count, work) in cases.items():
            start = time.process_time()
            work()
            times[name].append((time.process_time() - start) * 1e6 / count)
    for name, measured in times.items():
        print(f"  {name:<38}{statistics.median(measured):7.2f} µs")


if __name__ == "__main__":
    main()
