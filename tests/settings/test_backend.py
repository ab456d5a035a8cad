import pytest
from pydantic import ValidationError

from sp_proxy.settings.backend import Backend


def test_nothing_is_open_by_default():
    settings = Backend()
    assert (settings.listen.host, settings.allowed_origins, settings.tenants, settings.public_keys) == (
        *("127.0.0.1", [], [], []),
    )


@pytest.mark.parametrize("origin", ["*", "null", "app.example", "https://app.example/x", "ftp://app.example", ""])
def test_what_is_no_origin(origin):
    with pytest.raises(ValidationError):
        Backend(allowed_origins=[origin])


def test_origins_are_as_browsers_write_them():
    assert Backend(allowed_origins=["https://App.Example:8443"]).allowed_origins == ["https://app.example:8443"]


def test_tenants():
    (tenant,) = Backend(tenants=[{"public_key": "k", "retention": "36h"}]).tenants
    assert (tenant.public_key.get_secret_value(), tenant.retention) == ("k", 36 * 3600)
    assert "'k'" not in repr(tenant)
    for wrong in ({"public_key": "", "retention": "1h"}, {"public_key": "k", "retention": "0s"}, {"public_key": "k"}):
        with pytest.raises(ValidationError):
            Backend(tenants=[wrong])


@pytest.mark.parametrize("name", ["", "1x", "a-b", "a.b", "a;b", "é", "x" * 65])
def test_names_on_clickhouse_are_plain(name):
    for field in ("database", "cluster"):
        with pytest.raises(ValidationError):
            Backend(clickhouse={field: name})


def test_clickhouse_as_people_write_it():
    settings = Backend(engine="clickhouse", clickhouse={"url": "https://ch:8443/", "cluster": "shop"})
    assert (settings.clickhouse.url, settings.clickhouse.database, settings.clickhouse.cluster) == (
        *("https://ch:8443", "sp_proxy", "shop"),
    )
