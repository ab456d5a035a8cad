"""``sp-proxy ca``: the certificate authority with which intercepted TLS is signed.

``init`` makes it, ``show`` tells what it is, ``install`` lets this machine trust it. The directory is ``tls.ca_directory``
of the settings; ``--directory`` wins.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.mitm.config import TlsConfig

FAILED = 1

DirectoryOption = Annotated[
    Path | None, typer.Option("--directory", metavar="DIR", help="Instead of tls.ca_directory of the settings.")
]

app = typer.Typer(add_completion=False, help="The certificate authority for intercepted TLS.")


@app.command()
def init(
    config: ConfigOption = None,
    set_: SetOption = None,
    directory: DirectoryOption = None,
    force: Annotated[bool, typer.Option("--force", help="Make a new one in the place of an existing one.")] = False,
) -> int:
    """Make an authority: a key and a certificate, valid for ten years."""
    from sp_proxy.mitm.ca import CaError, create

    tls = _tls(config, set_, directory)
    if tls.ca_file:
        say(f"tls.ca_file is set to {tls.ca_file}: that authority is used, none is made")
        return FAILED
    try:
        info = create(Path(tls.ca_directory), force=force)
    except CaError as error:
        say(str(error))
        return FAILED
    print(f"made {info.certificate_file} (SHA-256 {info.fingerprint_sha256})")
    print("clients must trust it: sp-proxy ca install, or mount it where they look for authorities")
    return 0


@app.command()
def show(
    config: ConfigOption = None,
    set_: SetOption = None,
    directory: DirectoryOption = None,
    pem: Annotated[bool, typer.Option("--pem", help="Only the certificate, in PEM.")] = False,
) -> int:
    """Say what the authority is, or print its certificate."""
    from sp_proxy.mitm.ca import CaError, certificate, describe

    tls = _tls(config, set_, directory)
    try:
        info = describe(tls)
        text = certificate(tls)
    except CaError as error:
        say(str(error))
        return FAILED
    if pem:
        print(text, end="")
        return 0
    print(f"certificate: {info.certificate_file}")
    print(f"subject:     {info.subject}")
    print(f"SHA-256:     {info.fingerprint_sha256}")
    print(f"valid:       {info.not_before:%Y-%m-%d} to {info.not_after:%Y-%m-%d}")
    return 0


@app.command()
def install(
    config: ConfigOption = None,
    set_: SetOption = None,
    directory: DirectoryOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out again.")] = False,
) -> int:
    """Let this machine trust the authority: its system store, as Debian, Red Hat and their kin have it. Needs root."""
    from sp_proxy.mitm.ca import CaError, certificate
    from sp_proxy.mitm.trust import install as install_certificate
    from sp_proxy.mitm.trust import uninstall

    try:
        if remove:
            print(f"removed {uninstall()}")
            return 0
        path = install_certificate(certificate(_tls(config, set_, directory)))
    except CaError as error:
        say(str(error))
        return FAILED
    print(f"installed {path}")
    print("programs with a store of their own (Java, Firefox, Python's certifi) must be told separately")
    return 0


def _tls(config: Path | None, assignments: list[str] | None, directory: Path | None) -> "TlsConfig":
    from msgspec import structs

    from sp_proxy.settings.engine import tls_config

    tls = tls_config(load_or_exit(config, assignments, sends=False).settings)
    return tls if directory is None else structs.replace(tls, ca_directory=str(directory), ca_file="")
