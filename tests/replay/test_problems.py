import pytest

from sp_proxy.replay.prepare import base_of
from sp_proxy.replay.problems import ReplayError


@pytest.mark.parametrize(
    "url", ["", "ftp://a", "http://", "http://a:b", "http://me@a", "http://a?b", "http://a/\n", "//a", "http://[a"]
)
def test_a_problem_is_one_line_that_names_the_option(url):
    with pytest.raises(ReplayError) as caught:
        base_of("--to", url)
    assert str(caught.value).startswith("--to: found ")
    assert "\n" not in str(caught.value)
