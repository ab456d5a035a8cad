"""The documentation is what the model says."""

from pathlib import Path

import pytest

from sp_proxy.settings.keys import dotted, fields, variable
from sp_proxy.settings.reference import document

FILE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_file_is_what_the_model_says():
    assert FILE.read_text(encoding="utf-8") == document(), (
        "run: python -m sp_proxy.settings.reference > docs/configuration.md"
    )


@pytest.mark.parametrize("path", [pytest.param(path, id=dotted(path)) for path, _ in fields()])
def test_every_setting_is_in_it(path):
    assert f"| `{dotted(path)}` |" in document()
    assert f"- `{variable(path)}" in document()
