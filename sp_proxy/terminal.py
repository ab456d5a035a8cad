"""Captured text on a terminal: no character of it may be an instruction to the terminal, nor hide what stands beside it."""


def safe(text: str, *, lines: bool = False) -> str:
    """The text with what is no visible character written as its code; line ends and tabs stay where it has ``lines``."""
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(each if each.isprintable() or each in kept else _code(ord(each)) for each in text)


def _code(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
