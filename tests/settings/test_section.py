"""The base of the sections."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.section import Section


class Kitchen(Section):
    """An example."""

    tables: int = 4


def test_unknown_keys_are_errors_and_values_stay():
    with pytest.raises(ValidationError, match="chairs"):
        Kitchen.model_validate({"chairs": 3})
    kitchen = Kitchen(tables=2)
    with pytest.raises(ValidationError, match="frozen"):
        kitchen.tables = 3  # type: ignore[misc]
