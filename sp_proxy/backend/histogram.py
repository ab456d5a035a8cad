"""Durations as a histogram with exponential buckets, which can be added up, and percentiles out of it (pure).

Bucket N holds the durations from 2^(N/4) to 2^((N+1)/4) µs; what is told of a value is the middle of its bucket, at most
9 % off. Buckets have integer numbers, 0 for all below 1.2 µs.
"""

import math
from collections.abc import Mapping

PER_OCTAVE = 4


def bucket(duration_ns: int) -> int:
    """The bucket of a duration."""
    return int(PER_OCTAVE * math.log2(duration_ns / 1000)) if duration_ns > 1000 else 0


def percentile(counts: Mapping[int, int], part: float) -> int:
    """The duration in nanoseconds which this part of all (0 to 1) does not exceed; 0 of nothing."""
    total = sum(count for count in counts.values() if count > 0)
    reached = 0
    for number in sorted(counts):
        reached += max(0, counts[number])
        if reached and reached >= part * total:
            return int(1000 * 2 ** ((number + 0.5) / PER_OCTAVE))
    return 0
