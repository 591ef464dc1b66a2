"""The folder that is the local cluster's memory, and the only module that knows its layout.

    objects/<kind>@<namespace>@<name>.json   what is wanted: written by any process, under `objects.lock`
    pods/<uid>.json                          facts of one pod: written by the node alone
    attempts/<uid>/<n>.{json,start,exit}     runs of its container: see `attempts`
    volumes/<uid>/                           its home, temporary folder and emptyDir volumes
    claims/<uid>/                            files of a PersistentVolumeClaim, as long as it is there
    logs/<resource>/<created>-<uid>.log      its output, kept after it is gone
    changes/<resource>                       touched when something of the resource changed: see `rings`
    node.json                                what the node offers
    node.lock                                held by the running node

A record is replaced by renaming a whole new file over it, on disk before it is renamed, so that neither a
reader nor a power loss leaves half of one. Should a file system still lose one, the record counts as not
there, with a warning: who wanted an object applies it again, and the owner of a pod makes another.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments.clusters.local.pods import Pod
from deployments.clusters.port import ObjectRef

logger = logging.getLogger(__name__)

Record = dict[str, Any]
RACY_NANOSECONDS = 50_000_000
"""A file changed less than this before it was read is read again the next time: the clock of a file system
is coarse, and a second change within one tick could leave time, size and inode as they were."""


class Records:
    """A folder of JSON files, parsed again only when they changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[str, tuple[tuple[int, int, int], Record]] = {}
        self._unreadable: dict[str, tuple[int, int, int]] = {}  # warned of already

    def read_all(self) -> list[Record]:
        """Every record, in the order of the file names; one pass over the folder."""
        seen = {}
        found = []
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".json"))
        except FileNotFoundError:
            return []
        for name in names:
            read = self._read(name)
            if read is None:
                continue
            stamp, record, cacheable = read
            found.append(record)
            if cacheable:
                seen[name] = (stamp, record)
        self._seen = seen
        return found

    def _read(self, name: str) -> tuple[tuple[int, int, int], Record, bool] | None:
        try:
            stat = os.stat(self.folder / name)
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            known = self._seen.get(name)
            if known is not None and known[0] == stamp:
                return stamp, known[1], True
            if self._unreadable.get(name) == stamp:
                return None
            record = read_json(self.folder / name)
        except FileNotFoundError:  # removed since the folder was listed
            return None
        if record is None:
            self._unreadable[name] = stamp
            return None
        return stamp, record, time.time_ns() - stat.st_mtime_ns > RACY_NANOSECONDS


class Store:
    """Reads and writes the folder. Cheap to make; creates the folder on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = Records(root / "objects")
        self.pods = Records(root / "pods")

    def prepare(self) -> None:
        """Makes the folders. Only the owner may read them: secrets are among the objects."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("objects", "pods", "attempts", "volumes", "claims", "logs", "changes"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)

    # --- Objects -------------------------------------------------------------------------------------------

    @contextmanager
    def changing_objects(self) -> Iterator[None]:
        """Makes read, decide and write of objects one step among all processes."""
        self.prepare()
        with open(self.root / "objects.lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read_object(self, ref: ObjectRef) -> Record | None:
        return read_json(self._object_path(ref))

    def write_object(self, record: Mapping[str, Any]) -> None:
        write_json(self._object_path(ObjectRef.of(record)), record)

    def remove_object(self, ref: ObjectRef) -> None:
        self._object_path(ref).unlink(missing_ok=True)

    def _object_path(self, ref: ObjectRef) -> Path:
        return self.objects.folder / f"{ref.kind}@{ref.namespace}@{ref.name}.json"

    def claim(self, uid: str) -> Path:
        """The folder that a PersistentVolumeClaim stands for."""
        return self.root / "claims" / uid

    # --- Pods ----------------------------------------------------------------------------------------------

    def read_pods(self) -> list[Pod]:
        return [Pod.from_json(record) for record in self.pods.read_all()]

    def write_pod(self, pod: Pod) -> None:
        write_json(self.pods.folder / f"{pod.uid}.json", pod.to_json())

    def remove_pod(self, pod: Pod) -> None:
        """Forgets a pod whose container is gone; its log stays."""
        shutil.rmtree(self.volumes(pod.uid), ignore_errors=True)
        shutil.rmtree(self.attempts(pod.uid), ignore_errors=True)
        # Last: a pod is found, and finished, again if we die before this line.
        (self.pods.folder / f"{pod.uid}.json").unlink(missing_ok=True)

    def attempts(self, uid: str) -> Path:
        return self.root / "attempts" / uid

    def volumes(self, uid: str) -> Path:
        return self.root / "volumes" / uid

    def logs(self, resource: str) -> Path:
        return self.root / "logs" / (resource or "-")

    def log(self, pod: Pod) -> Path:
        """The file with the output of all runs of the pod's container. Names sort by creation."""
        return self.logs(pod.resource) / f"{int(pod.created_at.timestamp() * 1e6):017d}-{pod.uid}.log"

    # --- The node ------------------------------------------------------------------------------------------

    @property
    def node_lock(self) -> Path:
        return self.root / "node.lock"

    def read_node(self) -> Record | None:
        return read_json(self.root / "node.json")

    def write_node(self, record: Mapping[str, Any]) -> None:
        if self.read_node() != record:
            write_json(self.root / "node.json", record)

    # --- Changes -------------------------------------------------------------------------------------------

    @property
    def changes(self) -> Path:
        return self.root / "changes"

    def ring(self, resource: str) -> None:
        """Says that something of the resource changed. Watchers see the closing of a file opened to write."""
        if resource:
            with open(self.changes / resource, "w"):
                pass

    def forget_bells(self, keep: frozenset[str]) -> None:
        """Removes the bells of resources that are no more."""
        for bell in self.changes.iterdir():
            if bell.name not in keep:
                bell.unlink(missing_ok=True)


def read_json(path: Path) -> Record | None:
    """The record in the file; None when there is no such file, or, with a warning, none in it."""
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s is skipped: it cannot be read (%s)", path, error)
        return None
    if not isinstance(record, dict):
        logger.warning("%s is skipped: it holds no record", path)
        return None
    return record


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Replaces the file by the record, whole or not at all."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        json.dump(record, file, separators=(",", ":"), sort_keys=True)
        file.flush()
        os.fsync(file.fileno())  # or the new name may reach the disk before the content
    os.rename(new, path)
