"""The pictures that the documents show are there, are pictures, and are small."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_SIZE = 200 << 10


def pictures(document: Path) -> list[Path]:
    return [document.parent / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", document.read_text("utf-8"))]


def test_the_readme_shows_a_call_tree_and_a_session():
    shown = {path.relative_to(ROOT).as_posix() for path in pictures(ROOT / "README.md")}
    assert {"docs/pictures/trace.png", "docs/pictures/session.png"} <= shown


def test_every_picture_is_one():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [path for document in documents for path in pictures(document)]
    assert found
    for path in found:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n"), path
        assert path.stat().st_size < MAX_SIZE, path
