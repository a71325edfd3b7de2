"""Content hashes of files, remembered between runs.

The fingerprint of a corpus is made of its content, so that it is the same on every machine; hashing a large corpus at
each start would be slow, so a hash is kept for as long as the file's size and time of change stay the same.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path


class FileDigests:
    """SHA-256 of files, cached in ``digests.json`` under the cache folder."""

    def __init__(self, cache_dir: Path) -> None:
        self._path = cache_dir / "digests.json"
        self._known: dict[str, list] = {}
        self._changed = False
        try:
            known = json.loads(self._path.read_text())
            self._known = known if isinstance(known, dict) else {}
        except (OSError, ValueError):
            pass  # no cache yet, or one cut short: it is rebuilt

    def __call__(self, path: Path) -> str:
        """The hex digest of the file's bytes."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self._known.get(str(path.absolute()))
        if isinstance(entry, list) and len(entry) == 3 and entry[:2] == stamp:
            return entry[2]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self._known[str(path.absolute())] = [*stamp, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        """Stores the cache; another process that saves at the same time costs only its news."""
        if not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix="digests-")
            with os.fdopen(handle, "w") as file:
                json.dump(self._known, file)
            os.replace(name, self._path)
        except OSError:
            pass  # a cache folder that may only be read still serves prepared sets
        self._changed = False


def fingerprint(value) -> str:
    """A short stable hash of any JSON value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
