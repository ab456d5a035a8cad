"""Rules of every writer, installed in a pod and taken away again."""

import pytest

from sp_proxy.netfilter.plan import Command, State, differences, plan_apply, plan_remove
from sp_proxy.netfilter.standalone import standalone_rules
from sp_proxy.netfilter.system import IDS, apply, find_tools, kernel_families, read_state
from sp_proxy.settings.model import SettingsModel
from tests.netfilter.conftest import Site

WRITERS = ["nft", "iptables-nft", "iptables-legacy"]
writers = pytest.mark.parametrize("writer", WRITERS)
families = pytest.mark.parametrize("family", [4, 6])


def rules(**netfilter):
    return standalone_rules(SettingsModel.model_validate({"netfilter": netfilter}), IDS)


def install(site: Site, writer: str, **netfilter) -> tuple[Command, ...]:
    """Applies inside the pod; gives the commands that were run, and finds no difference afterwards."""

    def inside() -> tuple[Command, ...]:
        tools, ruleset = find_tools(), rules(**netfilter)
        written = kernel_families() if netfilter.get("ipv6", True) else (4,)
        commands = plan_apply(ruleset, writer, read_state(tools, writer), written)
        apply(commands, writer, tools)
        assert differences(ruleset, writer, read_state(tools), written) == []
        return commands

    commands = site.pod.call(inside)
    site.beat()
    return commands


def uninstall(site: Site) -> tuple[Command, ...]:
    def inside() -> tuple[Command, ...]:
        tools = find_tools()
        commands = plan_remove(read_state(tools))
        apply(commands, "", tools)
        return commands

    return site.pod.call(inside)


def state(site: Site) -> State:
    return site.pod.call(lambda: read_state(find_tools()))


def dump(site: Site) -> str:
    """All rules in the pod, in every form, without counters, comments of time and who is alive."""
    texts = [site.pod.run("nft", "-s", "list", "ruleset").stdout]
    texts += [site.pod.run(f"{tool}-legacy-save", "-t", "nat").stdout for tool in ("iptables", "ip6tables")]
    lines = [
        line for text in texts for line in text.splitlines() if not line.startswith("#") and "elements =" not in line
    ]
    return "\n".join(line.split(" [")[0] if line.startswith(":") else line for line in lines)


def used_before(site: Site, writer: str) -> str:
    """The rules after a first use: iptables keeps the built-in chains that it makes then, in its own order."""
    install(site, writer)
    uninstall(site)
    return dump(site)


def pod_address(site: Site, family: int) -> str:
    return site.pod.ipv4 if family == 4 else site.pod.ipv6
