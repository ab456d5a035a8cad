"""Keep all exchanges of some customers and a part of the others': the same customers are kept on every host."""

import zlib

HEADER = "x-customer-id"
ALWAYS = {"acme"}
PERCENT = 10


def exchange(ex):
    """A customer's hash decides, so what is kept of one is kept whole. Failures are always kept."""
    customer = ex.request.headers.get(HEADER, "")
    if customer in ALWAYS or ex.status >= 500 or ex.error:
        return
    if zlib.crc32(customer.encode()) % 100 >= PERCENT:
        ex.drop()
