"""A bounded memory of answers already worked out."""

from collections.abc import Hashable


class Memo[K: Hashable, V](dict[K, V]):
    """A dict that is emptied when it is full, and keeps nothing heavy.

    Emptied at once, not entry by entry: keeping an order of use would cost at every hit, and what repeats is soon
    worked out again. The weight limit bounds the memory, as keys come from the network.
    """

    def __init__(self, max_entries: int, max_weight: int) -> None:
        super().__init__()
        self.max_entries = max_entries
        self.max_weight = max_weight

    def keep(self, key: K, value: V, weight: int) -> V:
        """Remember the answer unless it is too heavy; ``weight`` is about the bytes of key and value."""
        if weight <= self.max_weight:
            if len(self) >= self.max_entries:
                self.clear()
            self[key] = value
        return value
