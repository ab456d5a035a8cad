"""The sections on how much is captured."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.limits import Limits, Sampling


def test_nothing_is_limited_by_default():
    assert Limits().model_dump() == {
        "exchanges_per_second": 0.0,
        "exchange_burst": 0,
        "bytes_per_second": 0,
        "byte_burst": 0,
    }
    assert (Sampling().ratio, Sampling().keep_errors, Sampling().keep_slower_than) == (1.0, True, 0.0)


def test_units():
    assert Limits.model_validate({"bytes_per_second": "2MiB"}).bytes_per_second == 2 << 20
    assert Sampling.model_validate({"keep_slower_than": "500ms"}).keep_slower_than == 0.5


@pytest.mark.parametrize(
    "values", [{"exchanges_per_second": -1}, {"exchange_burst": 0.5}, {"bytes_per_second": "fast"}]
)
def test_limits_that_are_none(values):
    with pytest.raises(ValidationError):
        Limits.model_validate(values)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, True, "all", float("nan")])
def test_a_ratio_is_from_0_to_1(ratio):
    with pytest.raises(ValidationError):
        Sampling.model_validate({"ratio": ratio})
