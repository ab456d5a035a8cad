from rich.console import Console

from sp_proxy.demo import screen
from sp_proxy.demo.counts import Books, Counts

BOOKS = Books(
    {("customers", "orders"): 10, ("orders", "inventory"): 7},
    0,
    {"orders": Counts(17, 16, 1), "inventory": Counts(7, 7, 0)},
    23,
)
EXCHANGE = {
    "start_unix_ns": 1_700_000_000_000_000_000,
    "duration_ns": 1_234_567,
    "service": "orders",
    "direction": "inbound",
    "method": "POST",
    "host": "orders:8080",
    "path": "/orders?[bold]",
    "status": 201,
    "session_id": "sess-ana",
}


def shown(renderable) -> str:
    console = Console(width=120, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_line_for_each_daemon():
    lines = [line.split() for line in shown(screen.counts_table(BOOKS)).splitlines()]
    assert ["orders", "10", "7", "17", "16", "1"] in lines
    assert ["inventory", "7", "0", "7", "7", "0"] in lines


def test_the_latest_exchanges_and_no_markup_of_theirs():
    text = shown(screen.recent_table([EXCHANGE, {**EXCHANGE, "status": 0}]))
    assert "POST orders:8080/orders?[bold]" in text
    assert "1.2" in text
    assert "201" in text
    assert "none" in text


def test_the_live_view_says_where_and_how_to_end():
    assert "http://127.0.0.1:4318/" in shown(screen.live_view(BOOKS, [], "http://127.0.0.1:4318/", ending=False))
    assert "Ctrl-C" in shown(screen.live_view(BOOKS, [], "u", ending=False))
    assert "ending" in shown(screen.live_view(BOOKS, [], "u", ending=True))


def test_totals_and_the_line_for_logs():
    numbers = {line.split()[0]: int(line.split()[1]) for line in screen.totals(BOOKS).splitlines()}
    assert numbers == {"sent": 17, "expected": 24, "captured": 24, "accepted": 23, "dropped": 1, "stored": 23}
    assert screen.one_line(BOOKS) == "sent 17, captured 24, accepted 23, dropped 1, stored 23"


def test_a_trace_is_a_tree():
    leaf = {"span": {"service": "sdk", "name": "SELECT", "exchange": None}, "children": []}
    trace = {"trace_id": "ab", "roots": [{"span": {"exchange": EXCHANGE}, "children": [leaf]}]}
    lines = shown(screen.trace_tree(trace)).splitlines()
    assert lines[0].strip() == "trace ab"
    assert "orders inbound  POST /orders?[bold]  201  1.2 ms" in lines[1]
    assert lines[2].endswith("└── sdk  SELECT") or "sdk  SELECT" in lines[2]
    assert lines[2].index("sdk") > lines[1].index("orders")
