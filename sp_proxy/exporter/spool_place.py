"""Where spools are: a directory of its own for each destination, under one that an unprivileged user may write to.

The name of a destination's directory holds a digest of where it sends to: what was meant for one backend is never sent
to another one, which took its name in a later life.
"""

import os
from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path

SYSTEM_PLACE = Path("/var/lib/sp-proxy")
STATE_NAME = "sp-proxy"


def spool_root(directory: str, environ: Mapping[str, str], system_place: Path = SYSTEM_PLACE) -> Path | None:
    """The directory of all spools; None when there is no place that can be written. Makes nothing.

    ``directory`` is the setting, which is taken as it is; HOME may be missing, as for many users of containers.
    """
    if directory:
        return Path(directory)
    places = [system_place]
    if state := environ.get("XDG_STATE_HOME", ""):
        places.append(Path(state) / STATE_NAME)
    if home := environ.get("HOME", ""):
        places.append(Path(home) / ".local" / "state" / STATE_NAME)
    return next((place for place in places if place.is_absolute() and can_be_made(place)), None)


def can_be_made(directory: Path) -> bool:
    """Whether a directory is there and can be written, or could be made."""
    for place in (directory, *directory.parents):
        try:
            exists = place.exists()
        except OSError:
            return False
        if exists:
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False


def spool_directory(root: Path, name: str, target: str) -> Path:
    """The directory of one destination's spool; ``target`` tells destinations of one name apart."""
    return root / f"{name}-{blake2s(target.encode(), digest_size=4).hexdigest()}"
