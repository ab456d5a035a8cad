"""Flow scripts as settings name them, tried before they come into force: each is loaded with its options, as the mitm worker loads it, in
a process of its own (``sp_proxy/mitm/check.py``), for nothing here may import mitmproxy.
"""

from collections.abc import Iterable, Sequence

from sp_proxy.addons.elsewhere import ask
from sp_proxy.addons.source import AddonFile
from sp_proxy.mitm.config import FlowScriptConfig, encode_scripts
from sp_proxy.settings.addons import Addons


def flow_scripts(addons: Addons, files: Iterable[AddonFile]) -> tuple[FlowScriptConfig, ...]:
    """What the mitm worker is told of them; ``files`` are those of ``read_hooks`` and ``read_flows``."""
    by_path = {each.path: each for each in files}
    return tuple(
        FlowScriptConfig(file.name, file.path, file.text, tuple(flow.hosts), dict(flow.options))
        for flow, file in ((flow, by_path[flow.file]) for flow in addons.flows)
    )


def check_flows(scripts: Sequence[FlowScriptConfig]) -> None:
    """Raises AddonError, one line, for a script that cannot be loaded, and for options that it does not have, or not so."""
    if scripts:
        ask("sp_proxy.mitm", encode_scripts(scripts), [each.path for each in scripts])
