"""The command line, without settings from the environment of who runs the tests."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("SP_PROXY_"):
            monkeypatch.delenv(name)
