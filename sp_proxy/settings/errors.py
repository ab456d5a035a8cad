"""The one exception of this room."""

MAX_PROBLEMS = 50
"""More lines help nobody: the first ones are read, the rest is counted."""


class SettingsError(Exception):
    """The configuration cannot be used. ``problems`` has one line for each mistake, secrets masked."""

    def __init__(self, problems: list[str]) -> None:
        shown = problems[:MAX_PROBLEMS]
        if len(problems) > MAX_PROBLEMS:
            shown.append(f"and {len(problems) - MAX_PROBLEMS} more problems")
        super().__init__("; ".join(shown))
        self.problems: list[str] = shown
