"""The destinations that settings ask for, ready to be followed."""

from typing import Any

import pytest

from sp_proxy.exporter.lines import LinesFile, Stdout
from sp_proxy.exporter.routes import World, plans, routes, spool_directories
from sp_proxy.exporter.upload import OtlpHttp
from sp_proxy.settings.model import SettingsModel
from tests.certificate_authority import CertificateAuthority

WORLD = World(lambda: 0.0, lambda: 0.5)

SEVERAL = [
    {"type": "softprobe", "url": "http://s:1/"},
    {"type": "otlp", "url": "http://c:2", "name": "collector", "compression": "none"},
    {"type": "file", "path": "/tmp/x"},
    {"type": "stdout"},
]


def settings(**values) -> SettingsModel:
    return SettingsModel.model_validate({"public_key": "k", "sp_backend_url": "http://b:1"} | values)


def test_without_exporters_the_softprobe_backend_alone():
    (plan,) = plans(settings(), {})
    assert (plan.name, plan.url, plan.form.compression) == ("softprobe", "http://b:1", "gzip")
    assert plan.form.resource["sp.public.key"] == "k"
    assert plan.target == "http://b:1/v1/traces"


def test_several():
    found = plans(settings(exporters=SEVERAL), {})
    assert [plan.name for plan in found] == ["softprobe", "collector", "file", "stdout"]
    assert [plan.target for plan in found] == ["http://s:1/v1/traces", "http://c:2/v1/traces", "/tmp/x", "-"]
    assert [plan.form.compression for plan in found] == ["gzip", "none", "none", "none"]
    # the tenant's key is for the Softprobe backend only
    assert ["sp.public.key" in plan.form.resource for plan in found] == [True, False, False, False]


def test_each_has_its_own_spool_and_another_backend_another_one(tmp_path):
    spool = {"directory": str(tmp_path)}
    directories = spool_directories(settings(exporters=SEVERAL, spool=spool), {})
    assert list(directories) == ["softprobe", "collector", "file", "stdout"]
    assert len(set(directories.values())) == 4
    other = spool_directories(settings(exporters=[{"type": "softprobe", "url": "http://t:1"}], spool=spool), {})
    assert other["softprobe"] != directories["softprobe"]
    assert not list(tmp_path.iterdir())


def test_the_sinks():
    found = routes(settings(exporters=SEVERAL, spool={"mode": "off"}), {}, WORLD)
    assert [type(route.sink) for route in found] == [OtlpHttp, OtlpHttp, LinesFile, Stdout]
    assert [route.directory for route in found] == [None] * 4


@pytest.mark.parametrize(
    "values,problem",
    [
        ({"upload": {"ca_file": "/nowhere/ca.pem"}}, "upload.ca_file: /nowhere/ca.pem: No such file or directory"),
        ({"approved_backends": ["elsewhere.example"]}, "approved_backends: b is not among them"),
        (
            {"upload": {"client_cert_file": "/nowhere/c.pem"}},
            "upload.client_cert_file: /nowhere/c.pem: No such file or directory",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(values, problem):
    with pytest.raises(ValueError) as caught:
        routes(settings(**values), {}, WORLD)
    assert str(caught.value) == problem


def manner(**values) -> tuple[object, ...]:
    (route,) = routes(settings(spool={"mode": "off"}, **values), {}, WORLD)
    return route.manner


def test_what_decides_how_payloads_get_there_and_what_does_not():
    assert manner() == manner()
    assert manner() == manner(tags={"a": "b"}, capture={"enabled": False}, limits={"exchanges_per_second": 1})
    others: list[dict[str, Any]] = [
        {"public_key": "l"},
        {"sp_backend_url": "http://b:2"},
        {"upload": {"concurrency": 3}},
        {"retry": {"multiplier": 3}},
        {"queue": {"max_records": 600}},
        {"approved_backends": ["b", "c"]},
        {"exporters": [{"type": "softprobe", "headers": {"x-a": "b"}}]},
    ]
    assert all(manner(**each) != manner() for each in others)


def test_a_certificate_that_was_renewed_is_another_manner(tmp_path):
    one, two = (CertificateAuthority(tmp_path, name) for name in ("one", "two"))
    path = tmp_path / "ca.pem"
    path.write_bytes(one.ca_file.read_bytes())
    before = manner(upload={"ca_file": str(path)})
    assert manner(upload={"ca_file": str(path)}) == before
    path.write_bytes(two.ca_file.read_bytes())
    assert manner(upload={"ca_file": str(path)}) != before


def test_a_place_is_a_target_with_its_spool(tmp_path):
    spool = {"directory": str(tmp_path)}
    (one,) = routes(settings(spool=spool), {}, WORLD)
    (off,) = routes(settings(spool={"mode": "off"}), {}, WORLD)
    (elsewhere,) = routes(settings(spool=spool, sp_backend_url="http://c:1"), {}, WORLD)
    (again,) = routes(settings(spool=spool, public_key="another"), {}, WORLD)
    assert one.place == again.place
    assert len({one.place, off.place, elsewhere.place}) == 3
