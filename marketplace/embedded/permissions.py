"""Folders that a server running as another system user can reach.

PostgreSQL refuses to run as root, so when we are root it runs as a user of its own, who must be able to walk
to the data, the sockets and the wheel. We add the right to walk through a folder, never the right to
read it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class UnsafeFolder(Exception):
    """A folder that we would trust belongs to somebody else."""


def make_private_folder(path: Path) -> None:
    """Makes the folder for us alone. Raises UnsafeFolder when it exists and is somebody else's.

    Matters where the path is known to others, as in the temporary folder.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.lstat().st_uid
    if path.is_symlink() or owner not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise UnsafeFolder(f"{path} belongs to user {owner}: remove it, or set MARKETPLACE_HOME elsewhere")


def let_others_walk_to(path: Path) -> None:
    """Adds the execute bit for others to the folder and to every folder above it that lacks it."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def let_others_execute(installation: Path) -> None:
    """Lets others read and execute an installed program's files.

    Only when others cannot already: pip installs under the umask, and a strict one shuts others out.
    """
    if installation.stat().st_mode & stat.S_IROTH:
        return
    for path in (installation, *installation.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            continue
        may_execute = stat.S_IXOTH if mode & stat.S_IXUSR else 0
        path.chmod(mode | stat.S_IROTH | may_execute)
