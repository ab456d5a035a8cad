from sp_proxy.demo.errors import DemoError
from sp_proxy.dev.errors import DevError


def test_who_catches_what_the_demos_tools_raise_catches_it():
    assert issubclass(DevError, DemoError)
