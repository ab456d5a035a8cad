"""The section ``redaction``: what never leaves this machine, beside what the contract never sends."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from sp_proxy.core.redact import json_paths
from sp_proxy.core.redact.config import REPLACEMENT
from sp_proxy.regex import finder
from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Line

Action = Literal["replace", "hash", "drop"]


def _off(value: Any) -> Any:
    return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


DetectorAction = Annotated[Literal["replace", "hash", "drop", "off"], BeforeValidator(_off)]

MIN_SALT: Final = 16
"""Characters. With less, a hash can be undone by trying salts."""


def _linear(pattern: str) -> str:
    try:
        finder(pattern)
    except ValueError as error:
        raise ValueError(f"a regular expression in RE2's syntax ({error})") from error
    return pattern


LinearPattern = Annotated[str, Field(min_length=1), AfterValidator(_linear)]
"""A regular expression for RE2, which has no look-around and no back-references, and never hangs."""


def _json_path(text: str) -> str:
    json_paths.parse(text)
    return text


JsonPath = Annotated[str, AfterValidator(_json_path)]


def _name(text: str) -> str:
    if not text:
        raise ValueError("a name, with * for any text")
    return text


Name = Annotated[Line, AfterValidator(_name)]
"""A name in which ``*`` stands for any text."""


def _replacement(text: str) -> str:
    if not text.isprintable() or not text.isascii() or set(text) & set('"\\&;,<>'):
        raise ValueError('printable ASCII without any of " \\ & ; , < > (it stands in JSON, in forms and in headers)')
    return text


Replacement = Annotated[str, AfterValidator(_replacement)]


class RedactionRule(Section):
    """Names values, wherever they stand, and what becomes of them. The first rule that names a value decides."""

    headers: list[Name] = Field(
        [], description="Names of header and trailer fields, in any case, `*` for any text: `x-secret-*`."
    )
    header_patterns: list[LinearPattern] = Field(
        [], description="Regular expressions searched in the lower-case names of header and trailer fields."
    )
    query: list[Name] = Field(
        [], description="Names of URL parameters, in any case, in the request target and in URLs in headers."
    )
    form: list[Name] = Field([], description="Names of form fields, in any case (URL-encoded and multipart).")
    json_paths: list[JsonPath] = Field(
        [], description="JSON paths: `$.user.password`, `items[*].card`, `$..token`. Keys in their own case."
    )
    cookies: list[Name] = Field([], description="Names of cookies, in any case; they are sent at all only by setting.")
    text: list[LinearPattern] = Field(
        [], description="Regular expressions searched in text bodies; of one with a group, the first group is redacted."
    )
    action: Action = Field(
        "replace",
        description="`replace` by a text, `hash` with `redaction.salt` (equal values stay equal), or `drop` the body or "
        "header field that holds it (in a URL or cookie it is replaced).",
    )
    replacement: Replacement = Field("", description="Text for `replace`; empty means `redaction.replacement`.")


class Detectors(Section):
    """What looks like a secret is redacted wherever it stands: headers, URLs, bodies, trailers."""

    payment_card: DetectorAction = Field(
        "replace", description="Payment card numbers: an issuer's digits and length, and the right check digit (Luhn)."
    )
    bearer_token: DetectorAction = Field("replace", description="What follows the word `Bearer`.")
    jwt: DetectorAction = Field("replace", description="JSON Web Tokens.")
    aws_key: DetectorAction = Field(
        "replace", description="AWS access key ids, secret access keys, signatures and security tokens."
    )
    email: DetectorAction = Field("off", description="E-mail addresses.")


class Redaction(Section):
    """What is taken out of exchanges before they are encoded, so before anything reaches a disk or the network."""

    rules: list[RedactionRule] = Field([], description="Rules, the first that names a value decides.")
    detectors: Detectors = Field(Detectors(), description="Detectors.")
    replacement: Replacement = Field(REPLACEMENT, description="What stands in the place of a value.")
    salt: SecretStr = Field(
        SecretStr(""),
        description=f"Key of the hashes (HMAC-SHA256), {MIN_SALT} characters or more. Required by the action `hash`; "
        "the same for all daemons whose hashes are to be compared.",
    )
    binary_bodies: Literal["keep", "drop"] = Field(
        "keep",
        description="`drop`: send no bodies that are not text (gRPC messages, images). Detectors see what stands in "
        "them in plain ASCII only, and then take the whole body.",
    )
    send_cookies: bool = Field(
        False, description="Send `cookie` and `set-cookie`, redacted, which are otherwise never sent."
    )
