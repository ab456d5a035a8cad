"""Several plugins' configs as one, which does for both directions what each plugin did for its own.

Collection rules come from the plugins that serve their direction, exemptions from all of them, and every other key must
say the same wherever it stands: where two plugins contradict each other nothing is guessed.
"""

from typing import Any, Literal

from pydantic import ValidationError

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.keys import KeyPath
from sp_proxy.settings.layers import FileLayer, Layer, merge, scalars
from sp_proxy.settings.masking import found
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.problems import lines, problem

type Side = Literal["server", "client"]

_RULES: KeyPath = ("collectionRules", "http")
_MERGED = ("traffic_direction", "collectionRules", "exemptionRules")


def merge_plugins(configs: list[Layer], name: str) -> FileLayer:
    """One config from several plugins' configs, each of which must be valid in itself. Raises SettingsError."""
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
