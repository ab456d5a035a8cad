"""Name GraphQL exchanges by their operation: ``query Orders`` and not ``/graphql``. A batch becomes one for each."""

import re

OPERATION = re.compile(r"\b(query|mutation|subscription)\s+(\w+)")


def exchange(ex):
    """From ``operationName``, or else from the document."""
    if ex.method != "POST" or not ex.path.partition("?")[0].endswith("/graphql"):
        return None
    body = ex.request.json()
    if isinstance(body, list) and 1 < len(body) <= 16:
        parts = [ex, *(ex.copy() for _ in body[1:])]
        for part, operation in zip(parts, body, strict=True):
            name(part, operation)
        return parts
    name(ex, body[0] if isinstance(body, list) and body else body)
    return None


def name(ex, operation):
    """Name one, and tag it."""
    if not isinstance(operation, dict):
        return
    found = OPERATION.search(str(operation.get("query", "")))
    kind = found[1] if found else "query"
    called = operation.get("operationName") or (found[2] if found else "anonymous")
    ex.name = f"{kind} {called}"
    ex.tag("graphql.operation", called)
    ex.tag("graphql.type", kind)
