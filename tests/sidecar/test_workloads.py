"""Where pod templates stand, and what is not one."""

import pytest

from sp_proxy.sidecar.documents import ManifestError
from sp_proxy.sidecar.workloads import TEMPLATES, change

POD = {"containers": [{"name": "app"}]}


def workload(kind, api="apps/v1", **template):
    inner = {"spec": POD, **template}
    for key in reversed(TEMPLATES[kind]):
        inner = {key: inner}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "shop"}, **inner}


def mark(one):
    return {**one.template, "marked": str(one)}


def marks(value):
    """Every mark, with the way to it."""
    if isinstance(value, dict):
        return [((key, *way), found) for key, inner in value.items() for way, found in marks(inner)]
    if isinstance(value, list):
        return [((index, *way), found) for index, inner in enumerate(value) for way, found in marks(inner)]
    return [((), value)]


def marked(document):
    return [(way[:-1], found) for way, found in marks(change(document, mark)) if way and way[-1] == "marked"]


@pytest.mark.parametrize("kind", sorted(TEMPLATES))
def test_every_kind_has_its_template_in_its_place(kind):
    assert marked(workload(kind)) == [(TEMPLATES[kind], f"{kind} shop")]


def test_in_lists_and_lists_of_lists():
    listed = {
        "kind": "List",
        "items": [workload("Pod"), {"kind": "PodList", "items": [workload("Deployment")]}, None, "x"],
    }
    assert [way for way, _ in marked(listed)] == [("items", 0), ("items", 1, "items", 0, "spec", "template")]


@pytest.mark.parametrize(
    "other",
    [
        None,
        [],
        "text",
        {},
        {"kind": ["Pod"]},
        {"kind": "Service", "spec": {}},
        {"kind": "ConfigMap", "data": {"kind": "Deployment"}},
        {"kind": "Job", "apiVersion": "batch.volcano.sh/v1alpha1", "spec": {"tasks": []}},
        {"kind": "PodList", "items": "none"},
    ],
)
def test_what_is_none_of_ours_stays_the_same_object(other):
    assert change(other, mark) is other


def test_what_is_not_changed_stays_the_same_object():
    document = {"kind": "List", "items": [workload("Pod"), workload("CronJob")]}
    assert change(document, lambda one: one.template) is document


def test_without_a_name_there_is_still_something_to_call_it():
    one = workload("Job")
    assert marked({**one, "metadata": {"generateName": "load-"}})[0][1] == "Job load-"
    assert marked({**one, "metadata": None})[0][1] == "Job without a name"


@pytest.mark.parametrize(
    "document, message",
    [
        ({"kind": "Deployment"}, "Deployment without a name: spec: found nothing; allowed: a mapping"),
        ({"kind": "Deployment", "spec": {"template": []}}, "spec.template: found a list; allowed: a mapping"),
        (workload("Deployment", spec=None), "Deployment shop: spec.template.spec: found nothing; allowed: a mapping"),
        (
            workload("CronJob", spec={}),
            "spec.jobTemplate.spec.template.spec.containers: found nothing; allowed: a list of mappings",
        ),
        (
            workload("Pod", spec={"containers": []}),
            "Pod shop: spec.containers: found an empty list; allowed: containers",
        ),
        (workload("Pod", spec={"containers": ["app"]}), "spec.containers: found a list; allowed: a list of mappings"),
        (
            workload("Pod", spec={**POD, "volumes": {"a": 1}}),
            "spec.volumes: found a mapping; allowed: a list of mappings",
        ),
        (workload("Pod", spec={**POD, "initContainers": "x"}), "spec.initContainers: found a single value"),
        (workload("Job", metadata=[1]), "spec.template.metadata: found a list; allowed: a mapping"),
        (workload("Job", metadata={"labels": "a=b"}), "spec.template.metadata.labels: found a single value"),
    ],
)
def test_what_is_broken_is_one_line_with_its_place(document, message):
    with pytest.raises(ManifestError) as error:
        change(document, mark)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
