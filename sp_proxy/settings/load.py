"""Settings from flags, environment, file and defaults, in this order of precedence. The one way to get them.

Loading is pure but for reading the one file: the environment and the flags come in as arguments. Every mistake is told
at once, one line each, and nothing is guessed; see ``problems.py`` for the form of the lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, override

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from sp_proxy.settings import checks
from sp_proxy.settings.environment import environment_layer
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.flags import flag_layer
from sp_proxy.settings.keys import KeyPath, dotted, fields, node, variable
from sp_proxy.settings.layers import FileLayer, Layer, strongest
from sp_proxy.settings.manifest import file_layer
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.problems import lines, problem

__all__ = ["Loaded", "Settings", "SettingsError", "load"]

DEFAULT = "default"
_LAYERS = "sp_proxy_layers"
_EMPTY_FILE = FileLayer(Layer(), [])


class LayerSource(PydanticBaseSettingsSource):
    """A layer, in the form in which pydantic-settings takes a source."""

    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    @override
    def __call__(self) -> dict[str, Any]:
        return self._layer.values


class Settings(SettingsModel, BaseSettings):
    """The settings in force. ``load`` makes them; its layers are the only sources, strongest first."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, populate_by_name=True, validate_default=True)

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings()
        if _LAYERS not in given:  # made by hand, from keyword arguments
            return (init_settings,)
        return tuple(LayerSource(settings_cls, layer) for layer in given[_LAYERS])


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what a person may want to know about them."""

    settings: Settings
    origins: dict[str, str]
    """Where each setting came from, by dotted key: ``default``, ``FILE:LINE``, a variable, or a flag."""
    warnings: list[str]
    """Lines in the form of the problems."""


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any], *, sends: bool = True) -> Loaded:
    """Load and check. ``flags`` has values by dotted key (see ``flags.flag_layer``).

    ``sends=False`` is for what uploads nothing (rules, the backend alone): ``public_key`` is not needed then.

    Raises SettingsError with every problem of the sources; when these can be read, with every problem of the values;
    when these are right, with every problem between them.
    """
    problems: list[str] = []
    file, environment, command_line = _EMPTY_FILE, Layer(), Layer()
    try:
        file = file_layer(path) if path is not None else _EMPTY_FILE
    except SettingsError as error:
        problems += error.problems
    try:
        environment = environment_layer(environ)
    except SettingsError as error:
        problems += error.problems
    try:
        command_line = flag_layer(flags)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)

    layers = [command_line, environment, file.layer]

    def place(key: KeyPath) -> str:
        layer = strongest(layers, key)
        if layer.depth(key) == 0:  # nobody said anything about it
            return file.layer.name or variable(key[:1])
        return layer.place(key)

    try:
        settings = Settings.model_validate({_LAYERS: layers})
    except ValidationError as error:
        raise SettingsError(sorted(lines(error, place), key=_reading_order)) from None
    origins = _origins(settings, layers)
    if settings.backend.enabled and "sp_backend_url" not in settings.model_fields_set:
        settings = settings.model_copy(update={"sp_backend_url": checks.embedded_url(settings)})
        origins["sp_backend_url"] = "backend.listen"
    if found := checks.problems(settings, sends=sends):
        raise SettingsError([problem(place(key), key, text) for key, text in found])
    warnings = [problem(place(key), key, text) for key, text in checks.warnings(settings)]
    return Loaded(settings, origins, [*file.warnings, *warnings])


def _reading_order(line: str) -> tuple[str, int]:
    """Problems of a file in the order of its lines."""
    place = line.split(": ", 1)[0]
    name, _, number = place.rpartition(":")
    return (name, int(number)) if name and number.isdigit() else (place, 0)


def _origins(settings: Settings, layers: list[Layer]) -> dict[str, str]:
    origins: dict[str, str] = {}
    for path, field in fields():
        paths = [path]
        if node(field.annotation).kind == "mapping":
            held: Any = settings
            for key in path:
                held = getattr(held, str(key))
            paths = [(*path, name) for name in held] or paths
        for each in paths:
            layer = strongest(layers, each)
            origins[dotted(each)] = layer.place(each) if layer.depth(each) == len(each) else DEFAULT
    return origins
