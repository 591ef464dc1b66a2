"""The Hugging Face hub, or a mirror of it (HF_ENDPOINT). The only module that imports huggingface_hub.

Four questions: what does a repository hold (`inspect`, which downloads no weights), what is in its
safetensors headers (`count_parameters`), the next stretch of one file (`fetch`), and whether our token is
good (`check_token`). Errors of the library end here: they become `HubRefused`, which somebody must mend, or
`HubUnavailable`, which passes.

Files are streamed with the library's session and addresses, not with its `hf_hub_download`: since 2.x that
starts a file anew whenever it is called again, and sleeps through rate limits. An import must continue where
a killed worker stopped, and give its place back while it waits.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from django.conf import settings
from huggingface_hub import HfApi, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)
from huggingface_hub.utils import build_hf_headers, parse_ratelimit_headers  # type: ignore[attr-defined]

from marketplace.catalog.tensors import PRECISIONS

CHUNK_BYTES = 2**20
LARGEST_CONFIG = 2**20
TIMEOUT = httpx2.Timeout(20.0)
"""Seconds for each of: connecting, one read, one write. A download may take as long as it moves."""


class HubError(Exception):
    """The hub did not give what was asked. `retryable`: whether asking again later can help."""

    retryable = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the hub asks to wait; None = it did not say."""


class HubRefused(HubError):
    """Theirs to mend: no such model, terms not accepted, token not good enough."""


class HubUnavailable(HubError):
    """Ours or the hub's: rate limits, server errors, cut connections, damaged transfers."""

    retryable = True


@dataclass(frozen=True, kw_only=True)
class HubFile:
    path: str
    bytes: int
    sha256: str = ""
    """Lower-case hex, for large files (LFS)."""
    blob_id: str = ""
    """Git's id of a small file: sha1 of "blob <bytes>\\0" and the content."""


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """What the hub says of one commit of a repository."""

    repository: str
    revision: str
    """The commit, 40 hex digits."""
    files: tuple[HubFile, ...]
    license: str = ""
    gated: bool = False
    task: str = ""
    tags: tuple[str, ...] = ()
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Values by safetensors type, as far as the hub has counted them."""


def inspect(repository: str, *, revision: str = "") -> HubModel:
    """Resolves a branch, tag or commit (default: main) and reads the metadata. Raises HubError."""
    with _translated(repository):
        info = _api().model_info(
            repository, revision=revision or None, files_metadata=True, timeout=TIMEOUT.read
        )
    if not info.sha:
        raise HubUnavailable(f"{repository}: the hub gave no commit id")
    counted = (info.safetensors.parameters if info.safetensors else None) or {}
    return HubModel(
        repository=repository,
        revision=info.sha,
        files=tuple(
            HubFile(
                path=row.rfilename,
                bytes=(row.lfs.size if row.lfs else row.size) or 0,
                sha256=row.lfs.sha256 if row.lfs else "",
                blob_id=row.blob_id or "",
            )
            for row in info.siblings or []
        ),
        license=_license_of(info),
        gated=bool(info.gated),
        task=info.pipeline_tag or "",
        tags=tuple(info.tags or ()),
        parameters={dtype: count for dtype, count in counted.items() if dtype in PRECISIONS},
    )


def count_parameters(model: HubModel) -> Mapping[str, int]:
    """Values by safetensors type: the hub's own count, else summed over the headers. Raises HubError."""
    if model.parameters:
        return model.parameters
    counts: dict[str, int] = {}
    for file in model.files:
        if not file.path.endswith(".safetensors"):
            continue
        with _translated(model.repository):
            header = _api().parse_safetensors_file_metadata(
                model.repository, file.path, revision=model.revision, timeout=TIMEOUT.read
            )
        for dtype, values in header.parameter_count.items():
            if dtype in PRECISIONS:
                counts[dtype] = counts.get(dtype, 0) + values
    return counts


def check_token() -> None:
    """Asks who HF_TOKEN belongs to. Raises HubRefused when the hub does not accept it, else HubUnavailable.

    Does nothing when no token is set.
    """
    if settings.HF_TOKEN:
        with _translated("HF_TOKEN"):
            _api().whoami()


def read_config(model: HubModel) -> Mapping[str, Any]:
    """config.json of the commit; empty when there is none. Raises HubError."""
    listed = next((file for file in model.files if file.path == "config.json"), None)
    if listed is None or listed.bytes > LARGEST_CONFIG:
        return {}
    with _translated(model.repository):
        response = get_session().get(
            _url(model.repository, "config.json", model.revision), headers=_headers(), timeout=TIMEOUT
        )
        hf_raise_for_status(response)
    try:
        config = json.loads(response.content)
    except ValueError as error:
        raise HubRefused(f"{model.repository}: config.json is not JSON") from error
    return config if isinstance(config, dict) else {}


def fetch(
    repository: str,
    file: HubFile,
    *,
    revision: str,
    part: Path,
    stop_at: float,
    progress: Callable[[int], None] = lambda _: None,
) -> bool:
    """Appends to `part` what is missing of a file, until done or `time.monotonic()` reaches `stop_at`.

    Returns whether the file is complete. `progress` is called with the size of `part` after each chunk.
    Whatever arrived stays in `part`, whichever way this ends. Raises HubError; `verify` the finished file.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    if have > file.bytes:
        part.unlink()
        have = 0
    if have < file.bytes or not part.exists():
        with part.open("ab") as target, _translated(repository):
            for chunk in _stream(repository, file, revision=revision, target=target, start=have):
                target.write(chunk)
                progress(target.tell())
                if time.monotonic() >= stop_at:
                    break
    have = part.stat().st_size
    if have > file.bytes:
        part.unlink()
        raise HubUnavailable(f"{repository}: {file.path} came with more than its {file.bytes} bytes")
    return have == file.bytes


def _stream(repository: str, file: HubFile, *, revision: str, target: Any, start: int) -> Iterator[bytes]:
    # Compressed transfer would make byte ranges mean something else.
    headers = {**_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    url = _url(repository, file.path, revision)
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        if start and response.status_code != 206:
            target.truncate(0)  # the server sends the file from its start
            target.seek(0)
        # Pieces as they arrive: gathered to a fixed size, the last ones before a cut would be lost.
        yield from response.iter_bytes()


def verify(
    repository: str, file: HubFile, part: Path, *, on_chunk: Callable[[], object] = lambda: None
) -> str:
    """The sha256 of a complete file; calls `on_chunk` after every chunk.

    When it is not the one listed, removes the file and raises HubUnavailable.
    """
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)
    with part.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            sha256.update(chunk)
            git.update(chunk)
            on_chunk()
    found, listed = sha256.hexdigest(), file.sha256
    if not listed:
        # git's ids of small files: 40 digits of sha1, unless the repository is one of sha256.
        found, listed = (git.hexdigest(), file.blob_id) if len(file.blob_id) == 40 else ("", "")
    if found != listed:
        part.unlink()
        raise HubUnavailable(
            f"{repository}: {file.path} arrived with the checksum {found}, the hub lists {listed}; "
            "it is fetched anew"
        )
    return sha256.hexdigest()


def _api() -> HfApi:
    return HfApi(endpoint=settings.HF_ENDPOINT, token=settings.HF_TOKEN or False)


def _headers() -> dict[str, str]:
    return dict(build_hf_headers(token=settings.HF_TOKEN or False, library_name="genai-marketplace"))


def _url(repository: str, path: str, revision: str) -> str:
    return hf_hub_url(repository, path, revision=revision, endpoint=settings.HF_ENDPOINT)


def _license_of(info: Any) -> str:
    listed = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
    return listed[0] if listed else ""


@contextmanager
def _translated(repository: str) -> Iterator[None]:
    """Turns the library's errors into ours, with what to do about them."""
    try:
        yield
    except GatedRepoError as error:  # before RepositoryNotFoundError, which it is a kind of
        raise HubRefused(
            f"{repository} is gated: accept its terms on the hub with the account of HF_TOKEN, "
            "then start the import again"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubRefused(
            f"{repository} is not on the hub, or is private and HF_TOKEN does not open it"
        ) from error
    except RevisionNotFoundError as error:
        raise HubRefused(f"{repository} has no such branch, tag or commit") from error
    except (EntryNotFoundError, NotASafetensorsRepoError, SafetensorsParsingError) as error:
        raise HubRefused(f"{repository}: {_first_line(error)}") from error
    except HFValidationError as error:
        raise HubRefused(f"{repository!r} is not a repository's name: write owner/name") from error
    except OfflineModeIsEnabled as error:
        raise HubRefused(f"{repository}: HF_HUB_OFFLINE is set, so the hub is not asked") from error
    except HfHubHTTPError as error:
        raise _error_of_status(repository, error) from error
    except (httpx2.HTTPError, httpx2.StreamError, ConnectionError) as error:
        raise HubUnavailable(f"{repository}: the connection failed ({_first_line(error)})") from error


def _error_of_status(repository: str, error: HfHubHTTPError) -> HubError:
    response = error.response
    match response.status_code:
        case 401:
            return HubRefused(f"{repository}: the hub does not accept HF_TOKEN; set a valid one")
        case 403:
            return HubRefused(f"{repository}: HF_TOKEN may not read it; use a token with read permission")
        case 408 | 429:
            wait = _retry_after(response.headers)
            return HubUnavailable(f"{repository}: the hub limits our requests", retry_after=wait)
        case status if status >= 500:
            wait = _retry_after(response.headers)
            return HubUnavailable(f"{repository}: the hub answers {status}", retry_after=wait)
        case status:
            return HubRefused(f"{repository}: the hub answers {status} ({_first_line(error)})")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = headers.get("Retry-After", "").strip()
    return float(text) if text.isdigit() else None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
