"""A POST that may be sent twice and takes effect once: the header Idempotency-Key.

The record is written in the transaction of the effect, so a crash keeps both or neither: there is no moment
in which something was made and the repetition would make it again. A refused or failed attempt changed
nothing and is not recorded; its repetition is tried afresh. While the first attempt runs, a second is told
to wait (409).

The header follows draft-ietf-httpapi-idempotency-key-header; records are kept for a day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import connection, transaction
from django.http import HttpResponse
from django.utils import timezone
from django.utils.datastructures import MultiValueDict
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.actors import Actor
from marketplace.rest.models import IdempotencyRecord
from marketplace.rest.problems import Problem
from marketplace.rest.renderers import JSONRenderer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
LONGEST_KEY = 200
KEPT_FOR = timedelta(hours=24)
PURGED_AT_ONCE = 100
"""Rows past their time that one recording takes away, so that none needs a schedule."""

Handler = Callable[..., HttpResponse]


def run_once(
    handler: Handler,
    request: Request,
    *args: Any,
    key: str,
    actor: Actor,
    shown_once: Iterable[str] = (),
    **kwargs: Any,
) -> HttpResponse:
    """Calls a POST handler, unless the same request was answered already: then gives that answer again.

    Raises problems: 400 for a key that is not usable, 409 while the first attempt runs, 422 when the key came
    with another body.
    """
    _check(key)
    body_hash = hash_of_body(request.data)
    with transaction.atomic():
        _lock(actor, request, key)
        record = _find(actor, request, key)
        if record is not None:
            return _replay(record, body_hash)
        response = handler(request, *args, **kwargs)
        if response.status_code >= 400:
            transaction.set_rollback(
                True
            )  # a refusal leaves nothing behind, whatever the handler wrote before
        else:
            _keep(actor, request, key, body_hash, response, frozenset(shown_once))
        return response


def hash_of_body(data: Any) -> str:
    """sha256 of what a body says. JSON counts by its value, an uploaded form by its fields and files."""
    digest = hashlib.sha256()
    if isinstance(data, MultiValueDict):
        for name in sorted(data):
            for value in data.getlist(name):
                digest.update(f"{len(name)}:{name}=".encode())
                _feed(digest, value)
    else:
        _feed(digest, data)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, UploadedFile):
        digest.update(f"file {value.size}:{value.name}:".encode())
        for chunk in value.chunks():
            digest.update(chunk)
        value.seek(0)
    elif isinstance(value, bytes):
        digest.update(f"bytes {len(value)}:".encode() + value)
    else:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
        digest.update(f"json {len(text)}:{text}".encode())


def _check(key: str) -> None:
    if not 1 <= len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise Problem(
            status=400,
            type="idempotency-key-invalid",
            title="Unusable Idempotency-Key",
            detail=f"{HEADER} takes 1 to {LONGEST_KEY} printable ASCII characters, for example a UUID.",
        )


def _lock(actor: Actor, request: Request, key: str) -> None:
    """Held until the transaction ends, also when the process dies. Never waits: the customer is told to."""
    name = "\n".join((actor.organization.public_id, str(request.method), request.path, key))
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (taken,) = cursor.fetchone() or (False,)
    if not taken:
        raise Problem(
            status=409,
            type="idempotency-key-in-use",
            title="The first attempt is still running",
            detail=f"A request with the same {HEADER} is being worked on. Send it again in a second.",
            headers={"Retry-After": "1"},
        )


def _find(actor: Actor, request: Request, key: str) -> IdempotencyRecord | None:
    row = IdempotencyRecord.objects.filter(
        organization=actor.organization, method=str(request.method), path=request.path, key=key
    ).first()
    if row is not None and row.created_at < timezone.now() - KEPT_FOR:
        row.delete()
        return None
    return row


def _replay(record: IdempotencyRecord, body_hash: str) -> HttpResponse:
    if record.body_hash != body_hash:
        raise Problem(
            status=422,
            type="idempotency-key-reused",
            title="Idempotency-Key used for another request",
            detail=f"This {HEADER} came with another body before. Use a new key for a new request.",
        )
    headers = {REPLAYED: "true", **record.headers}
    return HttpResponse(record.body, status=record.status, content_type=record.content_type, headers=headers)


def _keep(
    actor: Actor,
    request: Request,
    key: str,
    body_hash: str,
    response: HttpResponse,
    shown_once: frozenset[str],
) -> None:
    if isinstance(response, Response):
        data = response.data
        if shown_once and isinstance(data, dict):
            data = {name: None if name in shown_once else value for name, value in data.items()}
        body = JSONRenderer().render(data).decode()
        content_type = "application/json"
    else:
        body = response.content.decode()
        content_type = response.headers.get("Content-Type", "application/json")
    IdempotencyRecord.objects.create(
        organization=actor.organization,
        method=str(request.method),
        path=request.path,
        key=key,
        body_hash=body_hash,
        status=response.status_code,
        body=body,
        content_type=content_type,
        headers={"Location": response.headers["Location"]} if "Location" in response.headers else {},
    )
    _purge()


def _purge() -> None:
    expired = IdempotencyRecord.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).order_by(
        "created_at"
    )
    # Another purge may be at the same rows: skip what it holds rather than wait for it.
    chosen = list(expired.select_for_update(skip_locked=True).values_list("pk", flat=True)[:PURGED_AT_ONCE])
    if chosen:
        IdempotencyRecord.objects.filter(pk__in=chosen).delete()
