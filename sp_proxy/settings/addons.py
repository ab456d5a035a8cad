"""The section ``addons``: operators' scripts, and what they may take."""

from typing import Annotated

from pydantic import Field

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Duration, Line, Pattern, Size

File = Annotated[Line, Field(min_length=1)]


class FlowScript(Section):
    """A script for mitmproxy's addon API. Connections to its hosts go through the mitmproxy worker."""

    file: File = Field(description="The script.")
    hosts: list[Pattern] = Field(
        min_length=1,
        description="Regular expressions, each searched in the name of a host; TLS is opened only for those of "
        "`tls.intercept` besides, and HTTP/2 in clear text only with `data_path: mitmproxy`.",
    )
    options: dict[str, Line] = Field({}, description="Options that the script declares, by name.")


class Addons(Section):
    """Operators' scripts; none cost nothing. Changed files are read like a changed configuration."""

    files: list[File] = Field([], description="Files with capture or request hooks, in the order of their calls.")
    directory: Line = Field("", description="Folder of such files, each `*.py` in it; called after `files`, by name.")
    flows: list[FlowScript] = Field([], description="Flow scripts: mitmproxy's own addons.")
    call_budget: Duration = Field(
        0.1, ge=0.001, le=10, description="Time for one call of a capture hook; one that takes longer is ended."
    )
    batch_budget: Duration = Field(
        1.0, ge=0.01, le=30, description="Time of each capture hook for a batch; the rest of it goes on without."
    )
    request_budget: Duration = Field(
        0.001,
        ge=0.00005,
        le=1,
        description="Time for one call of a request hook; one that takes longer again and again is switched off.",
    )
    stuck_after: Duration = Field(
        2.0,
        ge=0.5,
        le=60,
        description="A call of a request hook or flow script that does not return is ended after this long.",
    )
    max_memory: Size = Field(
        512 << 20,
        ge=128 << 20,
        description="Address space of a capture hook's process; what a request hook may take in one call.",
    )
