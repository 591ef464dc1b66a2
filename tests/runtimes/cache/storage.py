"""A storage with versions, a cache, and the init container as a real process."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from runtimes.contract import CacheEnvironment, WeightsPhase, WeightsProgress, parse_weights

ROOT = Path(__file__).parents[3]
MIB = 2**20
_PROGRAM = """
import os, sys
from runtimes.cache.__main__ import main
code = main()
print(open("/proc/self/io").read())
sys.exit(code)
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one run of the init container ended."""

    code: int
    lines: list[WeightsProgress]
    bytes_read: int
    """All that the kernel gave the process, with Python's own modules."""
    errors: str

    @property
    def phases(self) -> list[WeightsPhase]:
        """In their order, each once."""
        return list(dict.fromkeys(line.phase for line in self.lines))


@dataclass
class Storage:
    """Versions on the storage of a provider, and a node's cache."""

    root: Path
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source.mkdir(parents=True)
        self.cache.mkdir()

    @property
    def source(self) -> Path:
        return self.root / "storage" / "models"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def add(self, **sizes: int) -> str:
        """Stores a version whose files (named in the arguments) have these sizes; returns its digest."""
        digest = hashlib.sha256(f"version {len(self.versions)}".encode()).hexdigest()
        folder = self.source / digest
        folder.mkdir()
        manifest = {}
        for name, size in sizes.items():
            content = os.urandom(min(size, MIB)) * (size // MIB or 1)
            (folder / f"{name}.safetensors").write_bytes(content)
            manifest[f"{name}.safetensors"] = hashlib.sha256(content).hexdigest()
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "config.json").write_text("{}")
        manifest["tokenizer/config.json"] = hashlib.sha256(b"{}").hexdigest()
        self.versions[digest] = manifest
        return digest

    def environment(self, *digests: str, free_share: float = 0.0) -> CacheEnvironment:
        return CacheEnvironment(
            cache_dir=str(self.cache),
            source_dir=str(self.source),
            versions={digest: self.versions[digest] for digest in digests},
            free_share=free_share,
        )

    def start(
        self, *digests: str, free_share: float = 0.0, variables: Mapping[str, str] = MappingProxyType({})
    ) -> subprocess.Popen[str]:
        """The init container of a pod that needs these versions; `variables` change what it is told."""
        told = self.environment(*digests, free_share=free_share).to_environment()
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            cwd=ROOT,
            env={**os.environ, **told, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *digests: str, free_share: float = 0.0) -> Ended:
        return end_of(self.start(*digests, free_share=free_share))

    def cached(self) -> dict[str, dict[str, bytes]]:
        """Digest -> relative path -> content, of all that stands in a version's place."""
        return {
            folder.name: {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file() and not path.name.startswith(".")
            }
            for folder in self.cache.iterdir()
            if not folder.name.startswith(".")
        }

    def stored(self, *digests: str) -> dict[str, dict[str, bytes]]:
        """The same of the storage."""
        return {
            digest: {name: (self.source / digest / name).read_bytes() for name in self.versions[digest]}
            for digest in digests
        }


def end_of(process: subprocess.Popen[str]) -> Ended:
    out, errors = process.communicate(timeout=60)
    read = re.search(r"rchar: (\d+)", out)
    return Ended(
        code=process.returncode,
        lines=[line for text in out.splitlines() if (line := parse_weights(text))],
        bytes_read=int(read.group(1)) if read else 0,
        errors=errors,
    )
