from sp_proxy.demo.errors import DemoError, NotPermittedError, StoppedError


def test_what_has_no_way_out_is_told_like_everything_else():
    assert issubclass(NotPermittedError, DemoError)


def test_being_stopped_is_not_an_error_to_tell():
    assert not issubclass(StoppedError, DemoError)
