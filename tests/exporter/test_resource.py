"""The resource attributes."""

from sp_proxy import __version__
from sp_proxy.exporter.resource import resource_attributes
from sp_proxy.settings.model import SettingsModel


def test_least():
    assert resource_attributes(SettingsModel(), {}) == {
        "sp.resource.type": "sp-envoy-proxy",
        "telemetry.sdk.name": "sp-proxy",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
    }


def test_everything():
    settings = SettingsModel(public_key="pk-1", resource_type="own", tags={"team": "checkout"})
    environ = {
        "HOSTNAME": "h",
        "POD_NAME": "p",
        "POD_UID": "u",
        "KUBERNETES_NAMESPACE": "n",
        "NODE_NAME": " node ",
        "DEPLOYMENT_NAME": "d",
        "CONTAINER_NAME": "c",
    }
    attributes = resource_attributes(settings, environ)
    assert (
        attributes.items()
        >= {
            "sp.resource.type": "own",
            "sp.public.key": "pk-1",
            "team": "checkout",
            "host.name": "h",
            "k8s.pod.name": "p",
            "k8s.pod.uid": "u",
            "k8s.namespace.name": "n",
            "k8s.node.name": "node",
            "k8s.deployment.name": "d",
            "k8s.container.name": "c",
        }.items()
    )


def test_the_first_variable_that_says_something_wins():
    environ = {"POD_NAMESPACE": " ", "KUBERNETES_NAMESPACE": "n"}
    assert resource_attributes(SettingsModel(), environ)["k8s.namespace.name"] == "n"
    environ = {"POD_NAMESPACE": "first", "KUBERNETES_NAMESPACE": "n"}
    assert resource_attributes(SettingsModel(), environ)["k8s.namespace.name"] == "first"


def test_a_tag_cannot_pretend_to_be_another_tenant():
    settings = SettingsModel(public_key="pk-1", tags={"sp.public.key": "pk-2"})
    assert resource_attributes(settings, {})["sp.public.key"] == "pk-1"
