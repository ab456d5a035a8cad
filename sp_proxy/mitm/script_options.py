"""The options that flow scripts declare get the values that settings give them; what does not fit is said in one line."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from mitmproxy.exceptions import OptionsError
from mitmproxy.options import Options

from sp_proxy.addons.loading import line_of
from sp_proxy.mitm.config import FlowScriptConfig

_MAX_SHOWN: Final = 10


def set_options(configs: Sequence[FlowScriptConfig], options: Options, others: AbstractSet[str]) -> None:
    """Give all options of all scripts, which have been loaded, their values; ``others`` are names of options that are not theirs.

    Raises ValueError, one line.
    """
    known = dict(options.items())  # type: ignore[no-untyped-call]
    for config in configs:
        for name, value in config.options.items():
            if name not in known:
                raise ValueError(f"{_place(config, name)}: unknown option; allowed: {_declared(known.keys() - others)}")
            if wanted := _expected(known[name], value):
                raise ValueError(f"{_place(config, name)}: found {value[:100]!r}; allowed: {wanted}")
    try:
        options.set(*(f"{name}={value}" for each in configs for name, value in each.options.items()))
    except (OptionsError, NotImplementedError) as error:
        raise ValueError(_refused(configs, error)) from error


def one_line(error: BaseException) -> str:
    """What an exception says."""
    return " ".join(str(error).split())[:300]


def _expected(option: Any, value: str) -> str:
    """What mitmproxy would take; empty where it takes this."""
    if option.choices and value not in option.choices:
        return ", ".join(option.choices)
    if option.typespec is bool and value not in {"true", "false", ""}:
        return "true or false"
    if option.typespec is int or (option.typespec == int | None and value):
        try:
            int(value)
        except ValueError:
            return "a whole number"
    return ""


def _declared(names: AbstractSet[str]) -> str:
    shown = ", ".join(sorted(names)[:_MAX_SHOWN])
    return shown + (", …" if len(names) > _MAX_SHOWN else "") or "none, for the scripts declare none"


def _refused(configs: Sequence[FlowScriptConfig], error: BaseException) -> str:
    """A script's own ``configure`` does not want them."""
    for config in configs:
        if line := line_of(error.__traceback__, config.path):
            return f"{config.path}:{line}: options: {one_line(error)}"
    return f"addons.flows: options: {one_line(error)}"


def _place(config: FlowScriptConfig, name: str) -> str:
    return f"addons.flows: {config.path}: options.{name}"
