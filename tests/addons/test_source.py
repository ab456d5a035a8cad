"""What a file offers, from its syntax; and the one line for each mistake."""

import pytest

from sp_proxy.addons.source import MAX_BYTES, AddonError, hook_files, look, read, read_flows, read_hooks

CAPTURE = "def exchange(ex):\n    pass\n"


@pytest.mark.parametrize(
    "text, hooks, required, pure",
    [
        (CAPTURE, ("exchange",), False, False),
        ("required = True\nasync def exchange(ex, more=1): ...\n", ("exchange",), True, False),
        ("pure: bool = True\ndef request(head): ...\n" + CAPTURE, ("request", "exchange"), False, True),
        ("def request(flow): ...\ndef load(loader): ...\n", ("flow",), False, False),
        ("class A: ...\naddons = [A()]\n", ("flow",), False, False),
        ("async def websocket_message(flow): ...\n", ("flow",), False, False),
    ],
)
def test_hooks_are_read_from_the_syntax(text, hooks, required, pure):
    found = look("/x/tenant.py", text)
    assert (found.name, found.hooks, found.required, found.pure) == ("tenant", hooks, required, pure)
    assert found.text == text


@pytest.mark.parametrize(
    "text, said",
    [
        ("def exchange(ex)\n", "/x/a.py:1: expected ':'"),
        ("\n\nreturn 1\n", "/x/a.py:3: 'return' outside function"),
        ("x = 1\n", "/x/a.py:1: no hook; needed: def exchange(ex)"),
        ("\ndef exchange(): ...\n", "/x/a.py:2: exchange is called with one argument: def exchange(ex)"),
        ("def exchange(a, b): ...\n", "/x/a.py:1: exchange is called with one argument"),
        ("def exchange(a, *, b): ...\n", "/x/a.py:1: exchange is called with one argument"),
        ("async def request(head): ...\n", "/x/a.py:1: request(head) cannot be async"),
        ("def request(flow): ...\n" + CAPTURE, "/x/a.py:1: a flow script and another hook"),
        ("required = not False\n" + CAPTURE, "/x/a.py:1: required is True or False, written out"),
        ("a = '\0'\n" + CAPTURE, "/x/a.py:1: "),
        ("(" * 9999 + ")" * 9999, "/x/a.py:1: "),
    ],
)
def test_mistakes_are_one_line_with_their_place(text, said):
    with pytest.raises(AddonError) as caught:
        look("/x/a.py", text)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(AddonError, match=r"none\.py: cannot be read \(no such file or directory\)"):
        read(str(tmp_path / "none.py"))
    (tmp_path / "a.py").write_bytes(b"x = 1\ny = '\xff'\n")
    with pytest.raises(AddonError, match=r"a\.py:2: not UTF-8"):
        read(str(tmp_path / "a.py"))
    (tmp_path / "b.py").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(AddonError, match="longer than 1 MiB"):
        read(str(tmp_path / "b.py"))
    (tmp_path / "a b.py").write_text(CAPTURE)
    with pytest.raises(AddonError, match="letters, digits, _ and -"):
        read(str(tmp_path / "a b.py"))


def test_a_folder_is_read_by_name_behind_the_named_files(tmp_path):
    for name in ("b.py", "a.py", "_c.py", "d.txt", ".e.py"):
        (tmp_path / name).write_text(CAPTURE)
    first = tmp_path / "b.py"
    found = read_hooks([str(first)], str(tmp_path))
    assert [each.name for each in found] == ["b", "a"]
    with pytest.raises(AddonError, match=r"addons\.directory: .*: no such file"):
        hook_files([], str(tmp_path / "none"))


def test_each_kind_in_its_place_and_each_name_once(tmp_path):
    flow, hook, other = tmp_path / "flow.py", tmp_path / "hook.py", tmp_path / "more" / "hook.py"
    flow.write_text("def response(flow): ...\n")
    hook.write_text(CAPTURE)
    other.parent.mkdir()
    other.write_text(CAPTURE)
    assert [each.name for each in read_flows([str(flow)])] == ["flow"]
    with pytest.raises(AddonError, match=r"flow\.py:1: a flow script; allowed: in addons\.flows"):
        read_hooks([str(flow)], "")
    with pytest.raises(AddonError, match=r"hook\.py:1: no flow script"):
        read_flows([str(hook)])
    with pytest.raises(AddonError, match="has this name already"):
        read_hooks([str(hook), str(other)], "")
