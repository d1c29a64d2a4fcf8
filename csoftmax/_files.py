"""Files that are written whole or not at all.

`result` and `cli` stand on it. It stands alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new file's path beside `path`; it takes the place of `path` when the block ends well, else it goes."""
    target = Path(os.path.realpath(path))  # through a symbolic link, not over it
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path is {os.fspath(path)!r}, and the folder {str(target.parent)!r} does not exist")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
