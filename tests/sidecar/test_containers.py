"""What the containers may do, and what they are told."""

from sp_proxy.settings.environment import environment_layer
from sp_proxy.settings.load import load
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import parse_size
from sp_proxy.sidecar.containers import SECRET_KEY, init_container, proxy_container, volumes
from sp_proxy.sidecar.deadline import Deadline, divide
from sp_proxy.sidecar.plan import Sidecar

DEADLINE = divide(30, pre_stop=False)


def settings(container):
    """What the daemon makes of the variables of a container."""
    values = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return load(None, {name: value for name, value in values.items() if name.startswith("SP_PROXY_")}, {}, sends=False)


def test_the_daemon_has_no_privilege_and_the_init_container_two():
    daemon = proxy_container(Sidecar(), DEADLINE)["securityContext"]
    init = init_container(Sidecar())["securityContext"]
    assert daemon["capabilities"] == {"drop": ["ALL"]}
    assert init["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    for context in (daemon, init):
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (daemon["runAsUser"], daemon["runAsNonRoot"]) == (1338, True)
    assert str(daemon["runAsUser"]) == SettingsModel.model_validate({}).netfilter.user, "whom the rules leave alone"


def test_what_they_ask_for():
    for container in (proxy_container(Sidecar(), DEADLINE), init_container(Sidecar())):
        assert container["resources"]["requests"] == {"cpu": "100m", "memory": "128Mi"}
        assert "cpu" not in container["resources"]["limits"]


def test_the_variables_are_settings_and_the_same_for_both():
    sidecar = Sidecar(istio=True, variables={"SP_PROXY_NETFILTER__INBOUND_EXCLUDE_PORTS": "[22]"})
    proxy, init = proxy_container(sidecar, Deadline(0, 7, 3)), init_container(sidecar)
    for container in (proxy, init):
        found = settings(container).settings
        assert found.netfilter.mode == "beside-istio"
        assert found.netfilter.inbound_exclude_ports == [22]
        assert found.admin.listen.port == 16021
        assert found.admin.listen.host == ""
    shutdown = settings(proxy).settings.shutdown
    assert (shutdown.grace_period, shutdown.flush_timeout) == (7, 3)


def test_the_spool_stays_well_below_what_a_pod_is_evicted_for():
    """For three exporters."""
    limit = volumes(Sidecar())[1]["emptyDir"]["sizeLimit"]
    assert 3 * settings(proxy_container(Sidecar(), DEADLINE)).settings.spool.max_size < parse_size(f"{limit}B")


def test_the_key_comes_from_the_secret_and_may_be_missing():
    (key,) = [
        each for each in proxy_container(Sidecar(secret="s"), DEADLINE)["env"] if each["name"] == "SP_PROXY_PUBLIC_KEY"
    ]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "s", "key": SECRET_KEY, "optional": True}
    assert "SP_PROXY_PUBLIC_KEY" not in {each["name"] for each in init_container(Sidecar())["env"]}


def test_other_variables_are_none_of_the_settings():
    names = {
        each["name"]: "x"
        for each in proxy_container(Sidecar(), DEADLINE)["env"]
        if not each["name"].startswith("SP_PROXY_")
    }
    assert environment_layer(names).values == {}
    assert {"POD_NAME", "POD_NAMESPACE", "SERVICE_NAME"} <= set(names)


def test_a_native_sidecar_is_restarted_and_a_classic_one_stays_a_while():
    native = proxy_container(Sidecar(), DEADLINE)
    classic = proxy_container(Sidecar(native=False), divide(30, pre_stop=True))
    assert native["restartPolicy"] == "Always"
    assert native["lifecycle"]["postStart"]["exec"]["command"][-1].startswith("sp-proxy ready --timeout ")
    assert "preStop" not in native["lifecycle"], "it would run when the pod begins to end, not when its turn comes"
    assert "restartPolicy" not in classic
    assert classic["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert "lifecycle" not in proxy_container(Sidecar(native=False), divide(2, pre_stop=True))
