"""Where the sidecar may not go."""

import pytest

from sp_proxy.sidecar.checks import check, why_left_alone
from sp_proxy.sidecar.documents import ManifestError
from sp_proxy.sidecar.plan import INJECT
from sp_proxy.sidecar.workloads import Workload

PORTS = {16021: "admin.listen", 16006: "listen.inbound"}


def workload(kind="Deployment", annotations=None, metadata=None, **spec):
    template = {"spec": {"containers": [{"name": "app"}], **spec}, **({"metadata": metadata} if metadata else {})}
    return Workload(kind, "shop", template, annotations or {})


@pytest.mark.parametrize(
    "one, reason",
    [
        (workload(), ""),
        (workload(annotations={INJECT: "false"}), 'annotation sp-proxy/inject is "false"'),
        (workload(metadata={"annotations": {INJECT: False}}), 'annotation sp-proxy/inject is "false"'),
        (workload(annotations={INJECT: "true"}), ""),
        (workload(hostNetwork=True), "hostNetwork: the rules would be the node's"),
        (workload(hostNetwork=False), ""),
        (workload(os={"name": "windows"}), "its pods are for windows"),
        (workload(os={"name": "linux"}), ""),
    ],
)
def test_what_is_left_alone(one, reason):
    assert why_left_alone(one) == reason


def container(**more):
    return {"containers": [{"name": "app", **more}]}


@pytest.mark.parametrize(
    "one, native, message",
    [
        (
            workload(**container(ports=[{"containerPort": 16006}])),
            True,
            "container app has port 16006, which is the sidecar's listen.inbound",
        ),
        (
            workload(initContainers=[{"name": "init", "ports": [{}, {"containerPort": 16021}]}]),
            True,
            "container init has port 16021",
        ),
        (workload(**container(securityContext={"runAsUser": 1338})), True, "container app runs as user 1338"),
        (workload(securityContext={"runAsUser": 1338}), True, "container app runs as user 1338"),
        (workload("Job"), False, "a classic sidecar does not end"),
        (workload("CronJob"), False, "a classic sidecar does not end"),
        (workload("Pod", restartPolicy="Never"), False, "use the native form"),
    ],
)
def test_what_would_do_harm_is_refused_in_one_line(one, native, message):
    with pytest.raises(ManifestError) as error:
        check(one, PORTS, native=native)
    assert str(error.value).startswith(f"{one.kind} shop: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "one, native",
    [
        (workload(), False),
        (workload("Job", restartPolicy="Never"), True),
        (workload(securityContext={"runAsUser": 1338}, **container(securityContext={"runAsUser": 1000})), True),
        (workload(**container(ports=[{"containerPort": 8080}, "odd"], securityContext=None)), True),
        (workload(containers=[{"name": "sp-proxy", "ports": [{"containerPort": 16021}]}, {"name": "app"}]), False),
    ],
)
def test_all_else_is_fine(one, native):
    check(one, PORTS, native=native)
