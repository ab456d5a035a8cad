"""The parts that need no namespace; whole runs are in ``tests/e2e/test_dev.py``."""

from sp_proxy.dev.pods import name_servers


def test_name_servers_are_those_of_the_machine():
    text = "# nameserver 1.1.1.1\nsearch a.example\nnameserver 127.0.0.53\nnameserver 2001:db8::1\noptions edns0\n"
    assert name_servers(text) == [("127.0.0.53", 53), ("2001:db8::1", 53)]
    assert len(name_servers("nameserver 10.0.0.1\n" * 5)) == 3


def test_without_any_it_is_the_machine_itself():
    assert name_servers("search a.example\nnameserver\n") == [("127.0.0.1", 53)]
