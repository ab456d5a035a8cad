"""A configuration file's layer: a bare config, or the filter's ``WasmPlugin`` manifests as they are published.

Contract section 1: of a manifest ``spec.pluginConfig`` is read; other Kubernetes objects in the same file are skipped;
several plugins become one config which does for both directions what each did for its own. Where that is not possible
(two values for one key) nothing is guessed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from sp_proxy.settings.document import Document, parse, read
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath
from sp_proxy.settings.layers import Layer, merge, scalars, without_nothing
from sp_proxy.settings.masking import found
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.problems import lines, problem

type Side = Literal["server", "client"]

UNUSED = (
    "cache_ttl_seconds",
    "max_cache_size_mb",
    "bypass_cache",
    "force_cache_miss",
    "debug_headers",
    "enable_inject",
    "async_timeout_ms",
    "max_concurrent_requests",
    "enable_detailed_logging",
)
"""Keys of published manifests which no version of the filter implements: accepted with a warning."""
_OURS = "debug_headers"
"""The one of them which is a setting of ours in a bare config; in a manifest it has the filter's meaning, none."""
_RULES: KeyPath = ("collectionRules", "http")
_MERGED = ("traffic_direction", "collectionRules", "exemptionRules")


@dataclass(frozen=True, slots=True)
class FileLayer:
    """What a file says, and what is worth a warning in it."""

    layer: Layer
    warnings: list[str]


def file_layer(path: Path) -> FileLayer:
    """Read a configuration file. Raises SettingsError."""
    name = str(path)
    documents = [document for document in parse(read(path), name) if document.value is not None]
    if not any(_is_kubernetes(document.value) for document in documents):
        return _bare(documents, name)
    objects = [item for document in documents for item in _objects(document)]
    strangers = [item for item in objects if not _is_kubernetes(item.value)]
    if strangers:
        raise SettingsError(
            [f"{_at(strangers[0], (), name)}: a bare config among manifests; allowed: one or the other"]
        )
    plugins = [item for item in objects if item.value["kind"] == "WasmPlugin"]
    if not plugins:
        kinds = ", ".join(dict.fromkeys(found(item.value["kind"], ("kind",)) for item in objects))
        raise SettingsError([f"{name}: found no WasmPlugin among its Kubernetes objects ({kinds})"])
    return _plugins(plugins, name)


def _is_kubernetes(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return False
    return "apiVersion" in value or value["kind"] == "WasmPlugin"


def _objects(document: Document) -> list[Document]:
    """The object, or those in a ``List`` as kubectl prints one."""
    value = document.value
    if not _is_kubernetes(value) or value["kind"] != "List" or not isinstance(value.get("items"), list):
        return [document]
    return [_below(document, ("items", index)) for index in range(len(value["items"]))]


def _below(document: Document, path: KeyPath) -> Document:
    value = document.value
    for key in path:
        value = value[key]
    inner = {key[len(path) :]: line for key, line in document.lines.items() if key[: len(path)] == path}
    return Document(value, inner)


def _at(document: Document, path: KeyPath, name: str) -> str:
    for end in range(len(path), -1, -1):
        if path[:end] in document.lines:
            return f"{name}:{document.lines[path[:end]]}"
    return f"{name}:{min(document.lines.values())}" if document.lines else name


def _layer(document: Document, name: str, values: dict[str, Any]) -> Layer:
    return Layer(name, values, {path: f"{name}:{line}" for path, line in document.lines.items() if path})


def _bare(documents: list[Document], name: str) -> FileLayer:
    if len(documents) > 1:
        raise SettingsError([f"{_at(documents[1], (), name)}: found a second document; allowed: one config a file"])
    if not documents:
        return FileLayer(Layer(name), [])
    document = documents[0]
    if not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else "a single value"  # which may be a secret
        raise SettingsError([f"{_at(document, (), name)}: found {kind}; allowed: a mapping of settings"])
    values, warnings = _used(document, name, tuple(key for key in UNUSED if key != _OURS))
    return FileLayer(_layer(document, name, values), warnings)


def _used(document: Document, name: str, unused: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    warnings = [
        f"{_at(document, (key,), name)}: {key}: has no effect, as in the filter"
        for key in document.value
        if key in unused
    ]
    values = {key: value for key, value in document.value.items() if key not in unused}
    return without_nothing(values), warnings


def _plugins(plugins: list[Document], name: str) -> FileLayer:
    problems: list[str] = []
    warnings: dict[str, str] = {}
    configs: list[Layer] = []
    for plugin in plugins:
        spec = plugin.value.get("spec")
        config = spec.get("pluginConfig") if isinstance(spec, dict) else None
        if (spec is not None and not isinstance(spec, dict)) or (config is not None and not isinstance(config, dict)):
            path = ("spec",) if not isinstance(spec, dict) else ("spec", "pluginConfig")
            kind = "a list" if isinstance(spec if len(path) == 1 else config, list) else "a single value"
            problems.append(problem(_at(plugin, path, name), path, f"found {kind}; allowed: a mapping"))
            continue
        inner = _below(plugin, ("spec", "pluginConfig")) if config is not None else Document({})
        values, told = _used(inner, name, UNUSED)
        for warning in told:
            warnings.setdefault(warning.split(": ")[1], warning)  # one for a key, not one for a plugin
        configs.append(_layer(inner, name, values))
    if problems:
        raise SettingsError(problems)
    if len(configs) == 1:
        return FileLayer(configs[0], list(warnings.values()))
    merged = _merge(configs, name)
    return FileLayer(merged.layer, [*warnings.values(), *merged.warnings])


def _merge(configs: list[Layer], name: str) -> FileLayer:
    """One config from several, each of which is valid in itself."""
    problems: list[str] = []
    models: list[SettingsModel] = []
    for config in configs:
        try:
            models.append(SettingsModel.model_validate(config.values))
        except ValidationError as error:
            problems += lines(error, config.place)
    problems = problems or _contradictions(configs)
    if problems:
        raise SettingsError(problems)
    values: dict[str, Any] = {}
    places: dict[KeyPath, str] = {}
    for config in configs:
        merge(values, {key: value for key, value in config.values.items() if key not in _MERGED})
        for path, place in config.places.items():
            places.setdefault(path, place)
    sides = _sides(models)
    values["traffic_direction"] = "both" if len(sides) == 2 else next(iter(sides))
    rules = _rules(configs, models, places)
    if rules is not None:
        values["collectionRules"] = {"http": rules}
    exemptions, warning = _exemptions(configs, models, name)
    if exemptions is not None:
        values["exemptionRules"] = exemptions
    return FileLayer(Layer(name, values, places), warning)


def _sides(models: list[SettingsModel]) -> set[Side]:
    return {side for model in models for side in _sides_of(model)}


def _sides_of(model: SettingsModel) -> tuple[Side, ...]:
    return ("server", "client") if model.traffic_direction == "both" else (model.traffic_direction,)


def _contradictions(configs: list[Layer]) -> list[str]:
    problems: list[str] = []
    seen: dict[KeyPath, tuple[Any, Layer]] = {}
    for config in configs:
        for path, value in scalars(config.values):
            if path[0] in _MERGED:
                continue
            first, other = seen.setdefault(path, (value, config))
            if first != value:
                text = f"found {found(value, path)}, but {found(first, path)} in {other.place(path)}"
                problems.append(problem(config.place(path), path, f"{text}; allowed: one value for all plugins"))
    return problems


def _rules(configs: list[Layer], models: list[SettingsModel], places: dict[KeyPath, str]) -> dict[str, Any] | None:
    """The rules of each direction, from the plugins that serve it; None when no plugin has any.

    What a plugin does without a rule for its direction must be said in a rule, or the rules of the other plugin would
    change it: without any rule it collects everything, with rules for the other direction only it collects nothing.
    """
    if not any(model.collectionRules.http.server or model.collectionRules.http.client for model in models):
        return None
    rules: dict[str, Any] = {}
    for side in _sides(models):
        entries: list[Any] = []
        served: list[str] = []
        for config, model in zip(configs, models, strict=True):
            if side not in _sides_of(model):
                continue
            own, source = getattr(model.collectionRules.http, side), (*_RULES, side)
            if own:
                for index, entry in enumerate(config.values["collectionRules"]["http"][side]):
                    _move(config, (*source, index), (*source, len(entries)), places)
                    entries.append(entry)
                served.append(config.place(source))
            elif not (model.collectionRules.http.server or model.collectionRules.http.client):
                entries.append({})  # all given parts match: there are none
        places[*_RULES, side] = served[0] if served else configs[0].name
        rules[side] = entries
    if not any(rules.values()):
        rules[min(rules)] = [{"exclude": True}]
    return rules


def _move(config: Layer, source: KeyPath, target: KeyPath, places: dict[KeyPath, str]) -> None:
    for path, place in config.places.items():
        if path[: len(source)] == source:
            places[*target, *path[len(source) :]] = place


def _exemptions(configs: list[Layer], models: list[SettingsModel], name: str) -> tuple[list[Any] | None, list[str]]:
    """The exemptions of all plugins; None when no plugin has its own."""
    if not any("exemptionRules" in config.values for config in configs):
        return None, []
    joined: list[Any] = []
    for config in configs:
        for entry in config.values.get("exemptionRules", [{}]):  # the rule that holds by default
            if entry not in joined:
                joined.append(entry)
    if all(model.exemptionRules == models[0].exemptionRules for model in models):
        return joined, []
    return joined, [f"{name}: exemptionRules: the rules of {len(configs)} plugins hold in both directions"]
