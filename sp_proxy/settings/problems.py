"""What pydantic has to say, as one line a mistake: place, key, what was found, what is allowed, the nearest key."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sp_proxy.settings.keys import KeyPath, dotted, names_in, nearest, part, resolve
from sp_proxy.settings.masking import found

_ALLOWED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_unicode": "text",
    "string_too_short": "text that is not empty",
    "too_short": "text that is not empty",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def lines(error: ValidationError, place: Callable[[KeyPath], str]) -> list[str]:
    """One line for each mistake; ``place`` says where a key path stands (file and line, variable, flag)."""
    return [_line(details, place) for details in error.errors(include_url=False)]


def problem(place: str, path: KeyPath, text: str) -> str:
    """A line about a key, in the form that all of them have."""
    return f"{place}: {dotted(path)}: {text}"


def _line(details: ErrorDetails, place: Callable[[KeyPath], str]) -> str:
    path: KeyPath = tuple(key for key in details["loc"] if key != "[key]")
    where = place(path)
    if details["type"] == "extra_forbidden":
        allowed = ", ".join(names_in(path[:-1]))
        return problem(where, path, f"unknown key; nearest known key: {nearest(path)} (allowed here: {allowed})")
    if details["type"] == "missing":
        return problem(where, path, f"missing; needed: {_description(path)}")
    if "[key]" in details["loc"]:
        return problem(where, path, f"found the name {part(str(path[-1]))}; allowed: {_allowed(details)}")
    return problem(where, path, f"found {found(details['input'], path)}; allowed: {_allowed(details)}")


def _description(path: KeyPath) -> str:
    around = resolve(path[:-1])
    if around is None or around.kind != "section":
        return "a value"
    text: str | None = around.item.model_fields[str(path[-1])].description
    return (text or "a value").rstrip(".")


def _allowed(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return str(context["expected"]).replace("'", "")
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{words} {context[bound]:g}" if isinstance(context[bound], float) else f"{words} {context[bound]}"
    text = _ALLOWED.get(kind, details["msg"])
    return text + _quoting(details["input"]) if kind == "string_type" else text


def _quoting(value: Any) -> str:
    if isinstance(value, bool):
        return " (YAML reads on, off, yes and no as true and false: put it in quotes)"
    return " (put it in quotes)" if isinstance(value, (int, float)) else ""
