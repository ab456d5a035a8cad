"""A configuration file's layer: a bare config, or the filter's ``WasmPlugin`` manifests as they are published.

Contract section 1: of a manifest ``spec.pluginConfig`` is read, and other Kubernetes objects in the same file are skipped.
Several plugins become one config (``merging.py``).
"""

from pathlib import Path
from typing import Any

from sp_proxy.settings.document import Document, parse, read
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath
from sp_proxy.settings.layers import FileLayer, Layer, without_nothing
from sp_proxy.settings.masking import found
from sp_proxy.settings.merging import merge_plugins
from sp_proxy.settings.problems import problem

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
    merged = merge_plugins(configs, name)
    return FileLayer(merged.layer, [*warnings.values(), *merged.warnings])
