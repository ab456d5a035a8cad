"""What was found, as values: a verdict, a line, and what to do about it. Pure."""

import json
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from sp_proxy import __version__


class Verdict(StrEnum):
    """From good to bad; ``SKIP`` says nothing either way."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "FAIL"


_BADNESS = list(Verdict)


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    area: str
    verdict: Verdict
    text: str
    advice: str = ""
    """What to do; empty only where there is nothing to do."""


class Area(Struct, frozen=True):
    """Makes findings of one area."""

    name: str

    def ok(self, text: str) -> Finding:
        """As it should be."""
        return Finding(self.name, Verdict.OK, text)

    def skip(self, text: str, advice: str) -> Finding:
        """Could not be looked at."""
        return Finding(self.name, Verdict.SKIP, text, advice)

    def warn(self, text: str, advice: str) -> Finding:
        """Works, but not as well as it could, or not for long."""
        return Finding(self.name, Verdict.WARN, text, advice)

    def fail(self, text: str, advice: str) -> Finding:
        """Does not work."""
        return Finding(self.name, Verdict.FAIL, text, advice)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict on all of it."""
    return max((finding.verdict for finding in findings), key=_BADNESS.index, default=Verdict.OK)


def lines(finding: Finding, width: int) -> list[str]:
    """For a person: one line, and one with the advice. ``width``: of the column of areas."""
    first = f"{finding.verdict:4}  {finding.area:{width}}  {finding.text}"
    return [first, *([f"{'':4}  {'':{width}}  → {finding.advice}"] if finding.advice else [])]


def document(findings: list[Finding]) -> str:
    """For a machine: JSON. Verdicts are in lower case."""
    found = [
        {
            "area": finding.area,
            "verdict": finding.verdict.lower(),
            "text": finding.text,
            "advice": finding.advice,
        }
        for finding in findings
    ]
    whole = {"version": __version__, "verdict": worst(findings).lower(), "findings": found}
    return json.dumps(whole, indent=2, ensure_ascii=False)
