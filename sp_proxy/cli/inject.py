"""``sp-proxy inject``: Kubernetes manifests with the sidecar, or without it again."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.options import WRONG_SETTINGS, SetOption, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.settings.model import SettingsModel
    from sp_proxy.sidecar.inject import Outcome

_MOST_BYTES = 64 << 20
_RESOURCE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""A ConfigMap's or a Secret's (RFC 1123)."""
_IMAGE = re.compile(r"[A-Za-z0-9][\w.:/@-]{0,1023}")

FileOption = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE", help="Manifests, - for standard input. Can be repeated."),
]
UninjectOption = Annotated[bool, typer.Option("--uninject", help="Take the sidecar away.")]
ClassicOption = Annotated[
    bool,
    typer.Option("--classic", help="An ordinary container, for Kubernetes before 1.29, instead of a native sidecar."),
]
IstioOption = Annotated[
    bool | None,
    typer.Option("--istio/--no-istio", help="Istio's Envoy will be in the pods. Default: where the manifest says so."),
]
ImageOption = Annotated[str | None, typer.Option("--image", help="The sidecar's image, instead of sp-proxy:VERSION.")]
ConfigMapOption = Annotated[
    str,
    typer.Option("--config-map", metavar="NAME", help="The ConfigMap whose key sp-proxy.yaml is the configuration."),
]
SecretOption = Annotated[
    str, typer.Option("--secret", metavar="NAME", help="The Secret whose key public_key is the key.")
]


def inject(
    filenames: FileOption,
    uninject: UninjectOption = False,
    classic: ClassicOption = False,
    istio: IstioOption = None,
    image: ImageOption = None,
    config_map: ConfigMapOption = "sp-proxy",
    secret: SecretOption = "sp-proxy",  # noqa: S107 (a name)
    assignments: SetOption = None,
) -> None:
    """Print manifests with the sidecar added to every workload. All else stays as it is written, comments too.

    Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and Pods, in several documents or in Lists. A second
    time replaces what is there. What was done is said on standard error, a line for each workload.
    """
    from sp_proxy.settings.errors import SettingsError
    from sp_proxy.sidecar import inject as manifests
    from sp_proxy.sidecar.documents import ManifestError
    from sp_proxy.sidecar.plan import IMAGE, Sidecar
    from sp_proxy.sidecar.variables import as_variables

    _check_names(image, {"--config-map": config_map, "--secret": secret})
    loaded = load_or_exit(None, assignments, environ={}, sends=False)
    try:
        variables = as_variables(assignments or ())
    except SettingsError as error:
        for problem in error.problems:
            say(problem)
        raise typer.Exit(WRONG_SETTINGS) from None
    sidecar = Sidecar(image or IMAGE, not classic, istio or False, config_map, secret, variables)
    texts: list[str] = []
    outcomes: list[Outcome] = []
    for name in filenames:
        shown = "standard input" if name == "-" else name
        text = _read(name, shown)
        try:
            if uninject:
                changed, happened = manifests.uninject(text)
            else:
                changed, happened = manifests.inject(text, sidecar, _ports(loaded.settings), istio=istio)
        except ManifestError as error:
            say(f"{shown}: {error}")
            raise typer.Exit(1) from None
        texts.append(changed)
        outcomes += happened
        if not happened:
            say(f"{shown}: no workload in it: printed as it is")
    for outcome in outcomes:
        say(str(outcome))
    print(_joined(texts), end="")


def _check_names(image: str | None, names: dict[str, str]) -> None:
    for option, name in names.items():
        if not _RESOURCE_NAME.fullmatch(name):
            raise typer.BadParameter(
                "found no name of a Kubernetes object; allowed: a-z, 0-9, - and .", param_hint=option
            )
    if image is not None and not _IMAGE.fullmatch(image):
        raise typer.BadParameter(
            "found no name of an image; allowed: for example registry.example/sp-proxy:1", param_hint="--image"
        )


def _ports(settings: "SettingsModel") -> dict[int, str]:
    """The sidecar's ports, which the application cannot have."""
    from sp_proxy.sidecar.plan import ADMIN_PORT

    ports = {ADMIN_PORT: "admin.listen"}
    for key in ("inbound", "outbound", "proxy"):
        if address := getattr(settings.listen, key):
            ports[address.port] = f"listen.{key}"
    heartbeat = settings.netfilter.heartbeat
    if heartbeat.enabled:
        ports |= {heartbeat.port: "netfilter.heartbeat.port", heartbeat.port + 1: "netfilter.heartbeat.port + 1"}
    return ports


def _read(name: str, shown: str) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError, AttributeError) as error:  # a path with a NUL; standard input that is closed
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no such file"
        say(f"{shown}: cannot be read ({reason.lower()})")
        raise typer.Exit(1) from None
    if len(data) > _MOST_BYTES:
        say(f"{shown}: larger than {_MOST_BYTES >> 20} MiB")
        raise typer.Exit(1)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        say(f"{shown}: not UTF-8 text (byte {error.start})")
        raise typer.Exit(1) from None


def _joined(texts: list[str]) -> str:
    """One stream of documents."""
    joined = texts[0] if texts else ""
    for text in texts[1:]:
        end = "" if not joined or joined.endswith("\n") else "\n"
        joined += end + ("" if text.startswith("---") else "---\n") + text
    return joined
