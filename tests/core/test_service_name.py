"""The order of contract section 3."""

import pytest

from sp_proxy.core.service_name import detect

SOURCES = [
    ("OTEL_SERVICE_NAME", "otel", "otel"),
    ("APP_NAME", "app", "app"),
    ("SERVICE_NAME", "service", "service"),
    ("POD_NAME", "pod-7d9f8b-x2x4z", "pod"),
    ("HOSTNAME", "host-name-7d9f8b-x2x4z", "host-name"),
    ("APP_LABEL", "app-label", "app-label"),
    ("SERVICE_LABEL", "service-label", "service-label"),
    ("CONTAINER_NAME", "container", "container"),
    ("DEPLOYMENT_NAME", "deployment", "deployment"),
    ("K8S_APP", "k8s-app", "k8s-app"),
    ("KUBERNETES_APP", "kubernetes-app", "kubernetes-app"),
    ("POD_NAMESPACE", "shop", "shop"),
    ("KUBERNETES_NAMESPACE", "shops", "shops"),
]


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_each_source_wins_over_the_later_ones(first):
    environ = {key: value for key, value, _ in SOURCES[first:]}
    assert detect("default-service", environ) == SOURCES[first][2]
    assert detect("", environ) == SOURCES[first][2]


def test_a_configured_name_wins_over_all():
    assert detect("billing", {key: value for key, value, _ in SOURCES}) == "billing"


def test_nothing_found_is_empty():
    assert not detect("default-service", {})
    assert not detect("", {key: "" for key, _, _ in SOURCES})


@pytest.mark.parametrize("name", ["box", "redis-0", "", "-", "--"])
def test_a_name_without_three_parts_is_passed_over(name):
    assert detect("", {"POD_NAME": name, "HOSTNAME": "cart-1-2"}) == "cart"


def test_the_default_namespace_is_no_name():
    assert not detect("", {"POD_NAMESPACE": "default", "KUBERNETES_NAMESPACE": "default"})
    assert detect("", {"POD_NAMESPACE": "default", "KUBERNETES_NAMESPACE": "shop"}) == "shop"


def test_default_service_is_a_marker_in_the_configuration_only():
    assert detect("", {"APP_NAME": "default-service"}) == "default-service"


def test_white_space_is_dropped_and_control_characters_are_passed_over():
    assert detect(" billing ", {}) == "billing"
    assert detect("   ", {"APP_NAME": "cart\r\nx-evil: 1", "SERVICE_NAME": "café"}) == "café"
