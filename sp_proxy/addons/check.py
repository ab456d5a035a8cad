"""Whether addons run at all, found out before they come into force: their files are run once, elsewhere (``elsewhere.py``)."""

from typing import NoReturn

from msgspec import json

from sp_proxy.addons import elsewhere
from sp_proxy.addons.flows import check_flows, flow_scripts
from sp_proxy.addons.loading import check_loads
from sp_proxy.addons.source import AddonError, AddonFile, different, read_flows, read_hooks
from sp_proxy.settings.addons import Addons


def read_and_check(addons: Addons) -> list[AddonFile]:
    """All addons that settings name, each run once. Raises AddonError."""
    hooks, flows = read_hooks(addons.files, addons.directory), read_flows([flow.file for flow in addons.flows])
    found = different([*hooks, *flows])
    check(hooks)
    check_flows(flow_scripts(addons, flows))
    return found


def check(files: list[AddonFile]) -> None:
    """Run each file with hooks once. Raises AddonError for the first that cannot be run: ``FILE:LINE: why``."""
    if files:
        elsewhere.ask("sp_proxy.addons", json.encode(files), [each.path for each in files])


def answer() -> NoReturn:
    """In that process."""
    elsewhere.answer(_problem)


def _problem(question: bytes) -> str:
    for each in json.decode(question, type=list[AddonFile]):
        try:
            check_loads(each.name, each.path, each.text)
        except AddonError as error:
            return str(error)
    return ""
