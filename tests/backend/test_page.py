import re
from html.parser import HTMLParser

from sp_proxy.backend.page import SECURITY_HEADERS, load_files
from tests.backend.serving import backend

FILES = load_files()


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline_scripts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in {"script", "style"} and data.strip():
            self.inline_scripts.append(data)


def test_nothing_is_inline_and_nothing_is_loaded_from_elsewhere():
    page = Elements()
    page.feed(FILES["/"].body.decode())
    assert page.inline_scripts == []
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "/")), target
            if target and target.startswith("/"):
                assert target in FILES
    for path, file in FILES.items():
        addresses = set(re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^\s\"']*", file.body))
        assert addresses <= {b"http://www.w3.org/2000/svg"}, path


def test_scripts_make_no_markup_of_strings():
    sinks = (
        rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|srcdoc|createContextual"
    )
    for path, file in FILES.items():
        if path.endswith(".js"):
            assert not re.search(sinks, file.body), path
            for imported in re.findall(rb'(?:from |import\()"\./([^"]+)"', file.body):
                assert f"/{imported.decode()}" in FILES


def test_the_policy_allows_only_this_origin():
    policy = SECURITY_HEADERS["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert SECURITY_HEADERS["x-content-type-options"] == "nosniff"


async def test_files_are_served_with_their_type_and_revalidated():
    async with backend() as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.content == FILES["/"].body
        assert (await client.get("/app.js")).headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await client.get("/style.css")).headers["content-type"] == "text/css; charset=utf-8"
        again = await client.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/index.html")).status_code == 404


def luminance(colour: str) -> float:
    """Relative, of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_text_can_be_read_on_its_ground():
    """4.5 to 1, as WCAG's level AA has it, in light and dark."""
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", FILES["/style.css"].body.decode())
    colours = {name: (light, dark) for name, light, dark in found}
    grounds = {
        "text": ("bg", "panel", "raised", "accent-soft", "grey-soft"),
        "dim": ("bg", "panel", "raised", "accent-soft", "grey-soft"),
        "accent": ("bg", "panel", "raised", "accent-soft"),
        **{name: ("panel", "accent-soft", f"{name}-soft") for name in ("good", "warn", "bad", "info")},
        **dict.fromkeys(("j-key", "j-string", "j-number", "j-word"), ("panel", "raised")),
    }
    for name, behind in grounds.items():
        for ground in behind:
            for one, other in zip(colours[name], colours[ground], strict=True):
                lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
                assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, ground, one, other)
