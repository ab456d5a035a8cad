"""Only what changes is touched: every other line of somebody's manifest stays as it was."""

import copy
from contextlib import suppress

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from sp_proxy.sidecar.documents import ManifestError, read
from sp_proxy.sidecar.rewrite import rewrite

MANIFEST = """\
# The shop, as its people wrote it
kind:   Deployment   # not aligned with anything
metadata: {name: shop, labels: {app: 'shop'}}
spec:
  template:
    spec:
      # the application
      containers:

        # first one
        - name: app
          image: "shop:1"   # pinned
          args: [ "a",   'b' ]
          command:
          - not
          - indented
          text: |
            kept as
              it is

      # the volumes
      volumes:
        - name: data   # ephemeral
          emptyDir: {}
      # the end
"""


def changed(text, *paths):
    """The text after setting (or with ``...`` deleting) the values at these paths."""
    old = read(text)
    new = copy.deepcopy(old)
    for path, value in paths:
        here = new[0]
        for key in path[:-1]:
            here = here[key]
        if value is ...:
            del here[path[-1]]
        elif isinstance(here, list) and path[-1] == len(here):
            here.append(value)
        else:
            here[path[-1]] = value
    return rewrite(text, old, new)


def added_lines(before, after):
    """What was added; all else is there, in its order."""
    lines = iter(after.splitlines())
    added = []
    for line in before.splitlines():
        for other in lines:
            if other == line:
                break
            added.append(other)
        else:
            pytest.fail(f"is gone: {line!r}")
    return [*added, *lines]


POD = ("spec", "template", "spec")


def test_an_item_goes_right_behind_the_last_one_and_before_the_comment_on_what_follows():
    after = changed(MANIFEST, ((*POD, "containers", 1), {"name": "sidecar", "args": ["run"]}))
    assert added_lines(MANIFEST, after) == ["        - name: sidecar", "          args:", "            - run"]
    assert after.index("name: sidecar") < after.index("# the volumes")


def test_an_item_at_the_front_goes_above_the_comment_on_the_first_one():
    old = read(MANIFEST)
    new = copy.deepcopy(old)
    new[0]["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar"})
    after = rewrite(MANIFEST, old, new)
    assert added_lines(MANIFEST, after) == ["        - name: sidecar"]
    assert after.index("      containers:") < after.index("name: sidecar") < after.index("# first one")


def test_a_new_key_goes_to_the_end_of_its_mapping():
    after = changed(MANIFEST, ((*POD, "initContainers"), [{"name": "init"}]), ((*POD, "x"), "y"))
    assert added_lines(MANIFEST, after) == ["      initContainers:", "        - name: init", '      x: "y"']
    assert after.index("emptyDir") < after.index("initContainers") < after.index("# the end")


def test_what_is_in_braces_stays_in_braces():
    after = changed(MANIFEST, (("metadata", "labels", "sp-proxy/injected"), "true"))
    assert 'metadata: {name: shop, labels: {app: \'shop\', "sp-proxy/injected": "true"}}' in after


@pytest.mark.parametrize("empty", ["volumes:", "volumes: []", "volumes: {}  # none", "volumes: ~"])
def test_below_a_key_that_holds_nothing(empty):
    text = f"spec:\n  {empty}\n  last: 1\n"
    after = changed(text, (("spec", "volumes"), [{"name": "data"}]))
    assert read(after) == [{"spec": {"volumes": [{"name": "data"}], "last": 1}}]
    assert after.splitlines()[2].strip() == "- name: data"


def test_adding_and_taking_away_again_is_nothing():
    paths = [(*POD, "initContainers"), (*POD, "containers", 1), (*POD, "volumes", 1), ("metadata", "labels", "l")]
    with_all = changed(
        MANIFEST, *((path, [{"name": "x"}] if path[-1] == "initContainers" else {"name": "x"}) for path in paths[:3])
    )
    without = rewrite(with_all, read(with_all), read(MANIFEST))
    assert without == MANIFEST


def test_one_changed_value_is_one_changed_place():
    after = changed(MANIFEST, ((*POD, "containers", 0, "image"), "shop:2"))
    assert after == MANIFEST.replace('"shop:1"', '"shop:2"')


def test_nothing_changed_is_the_same_text():
    assert rewrite(MANIFEST, read(MANIFEST), read(MANIFEST)) == MANIFEST


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("ends", [False, True])
def test_every_newline_and_none_at_the_end(newline, ends):
    text = newline.join(["kind: Pod", "spec:", "  containers:", "  - name: ä😀  # 日本", "    image: x"])
    end = newline if ends else ""
    after = changed(text + end, (("spec", "containers", 1), {"name": "b"}), (("spec", "volumes"), ["v"]))
    assert after == newline.join([text, "  - name: b", "  volumes:", "  - v"]) + end


def test_several_documents_of_which_one_changes():
    text = f"---\na: 1\n--- # second\n{MANIFEST}...\n---\n# none\n---\nb: [1,\n 2]\n"
    old = read(text)
    new = [*old]
    new[1] = {**old[1], "more": 1}
    assert added_lines(text, rewrite(text, old, new)) == ["more: 1"]


def test_what_stands_twice_by_an_alias_is_not_changed_in_both_places():
    text = "a: &a\n  x: [1]\nb: *a\n"
    with pytest.raises(ManifestError, match="alias"):
        changed(text, (("b", "y"), 1))


def test_beside_an_alias_all_is_as_ever():
    text = "base: &base\n- x\nspec:\n  list:\n  - a\n  other: *base  # a comment\n"
    after = changed(text, (("spec", "list", 1), "b"), (("spec", "more"), 1))
    assert added_lines(text, after) == ["  - b", "  more: 1"]


def test_what_a_merge_key_brings_is_overridden():
    text = "base: &base\n  list: [a]\nspec:\n  <<: *base\n  z: 1\n"
    after = changed(text, (("spec", "list"), ["a", "b"]))
    assert read(after)[0]["spec"] == {"list": ["a", "b"], "z": 1}
    assert read(after)[0]["base"] == {"list": ["a"]}


SCALARS = st.one_of(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff"),
        max_size=8,
    ),
    st.integers(-5, 5),
    st.booleans(),
    st.none(),
    st.sampled_from(["line\nline\n", "keep\n\n\n", "y", "off", "012", "# no comment", "- a", "a: b"]),
)
KEYS = st.sampled_from(["name", "kind", "a", "b b", "ü", "spec"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
STYLES = st.sampled_from(
    [{}, {"default_flow_style": False}, {"default_flow_style": True}, {"default_style": '"'}, {"indent": 4}]
)


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.dictionaries(KEYS, VALUES, min_size=1), STYLES)
def test_the_text_says_what_was_asked_for_or_the_change_is_refused(old, new, style):
    text = yaml.safe_dump(old, sort_keys=False, allow_unicode=True, **style)
    before = read(text)
    assume(before == [old])
    with suppress(ManifestError):
        assert read(rewrite(text, before, [new])) == [new]


@given(st.dictionaries(KEYS, VALUES, min_size=1), STYLES, st.data())
def test_an_addition_always_succeeds(old, style, data):
    """To any list or mapping of any document, at any place."""
    text = yaml.safe_dump(old, sort_keys=False, allow_unicode=True, **style)
    before = read(text)
    assume(before == [old])
    new = copy.deepcopy(old)
    places = [new]
    for place in places:
        places += [
            value for value in (place.values() if isinstance(place, dict) else place) if isinstance(value, dict | list)
        ]
    place = data.draw(st.sampled_from(places))
    if isinstance(place, dict):
        place["added"] = data.draw(VALUES)
    else:
        place.insert(data.draw(st.integers(0, len(place))), {"name": "added", "value": data.draw(VALUES)})
    assert read(rewrite(text, before, [new])) == [new]
