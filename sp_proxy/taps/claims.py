"""Which hosts flow scripts claim: whose connections are the mitm worker's for that reason."""

from sp_proxy.core.memo import Memo
from sp_proxy.core.rules import Compile, standard, without_port


class Claims:
    """Compiled patterns, searched in names without regard to case. Raises ValueError for a bad pattern."""

    def __init__(self, hosts: tuple[str, ...], engine: Compile = standard) -> None:
        try:
            self._hosts = tuple(engine(f"(?i){pattern}") for pattern in hosts)
        except ValueError as error:
            raise ValueError(f"not a regular expression: {error}") from error
        self._known: Memo[str, bool] = Memo(1024, 256)

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def covers(self, authority: str) -> bool:
        """Whether a host is claimed, named with its port or without."""
        known = self._known.get(authority)
        if known is not None:
            return known
        name = without_port(authority)
        covers = any(search(name) for search in self._hosts)
        return self._known.keep(authority, covers, len(authority))

    def covers_fields(self, fields: bytes) -> bool:
        """Whether the ``Host`` in a block of fields with a leading CRLF is claimed."""
        at = fields.lower().find(b"\r\nhost:")
        if at < 0 or not self._hosts:
            return False
        return self.covers(fields[at + 7 : fields.find(b"\r\n", at + 7)].strip(b" \t").decode("latin-1"))
