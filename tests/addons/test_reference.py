"""The page about addons is what the code says."""

from pathlib import Path

import pytest

from sp_proxy.addons.exchange import CapturedExchange
from sp_proxy.addons.head import Head
from sp_proxy.addons.message import Message
from sp_proxy.addons.reference import EXAMPLES, document

FILE = Path(__file__).parents[2] / "docs" / "addons.md"
FOR_THE_HOST = {"place", "is_changed", "changed", "parts", "saved", "restore", "edit"}


def test_the_file_is_what_the_code_says():
    assert FILE.read_text(encoding="utf-8") == document(), "run: python -m sp_proxy.addons.reference > docs/addons.md"


@pytest.mark.parametrize("kind", [CapturedExchange, Message, Head])
def test_everything_that_hooks_may_use_is_in_it(kind):
    text = document()
    for name in vars(kind):
        if not name.startswith("_") and name not in FOR_THE_HOST:
            assert f"- `{name}`: " in text or f"- `{name}(" in text, name


def test_every_example_is_in_it():
    text = document()
    examples = sorted(EXAMPLES.glob("*.py"))
    assert len(examples) >= 10
    assert [path.name for path in examples if f"(../addons/{path.name})" not in text] == []


def test_attributes_are_in_it_too():
    assert "- `client_address`: " in document()
    assert "- `size`: " in document()
