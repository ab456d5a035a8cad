"""What a run looks at before it begins; whole runs are in ``tests/e2e/test_dev.py``."""

import pytest
from rich.console import Console

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.project import single
from sp_proxy.dev.run import Options, Run
from sp_proxy.dev.signals import Signals


class NoSignals(Signals):
    """Of a process which has others to follow: this test's."""

    def __init__(self) -> None:
        """Nothing is registered."""


@pytest.mark.parametrize(
    "words, user, said",
    [(["no-such-program-anywhere"], "", "no such program"), (["true"], "root", "--user is for namespaces")],
)
def test_what_cannot_be_is_said_before_anything_is_started(words, user, said):
    options = Options(single(tuple(words), "", None, None), single=True, explicit=True, user=user)
    with pytest.raises(DevError, match=said):
        Run(options, Console(), NoSignals()).run()
