"""The token that opens a workspace: derived whenever it is asked for, stored nowhere.

It is an HMAC of SECRET_KEY over the workspace and the number of the token. The notebook server is told only
its SHA-256, so neither the database nor the cluster holds anything that opens a workspace, and the control
plane needs no right to write secrets. 256 bits cannot be guessed: the hash needs no salt and no slowness.
"""

from __future__ import annotations

import hashlib
import hmac

from django.utils.crypto import salted_hmac

from deployments.workspaces.models import Workspace

_SALT = "deployments.workspaces.tokens"


def derive_token(public_id: str, *, number: int) -> str:
    """The token of a workspace: 64 hexadecimal digits."""
    return salted_hmac(_SALT, f"{public_id} {number}", algorithm="sha256").hexdigest()


def hash_token(token: str) -> str:
    """What the notebook server compares with: 64 hexadecimal digits."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_of(workspace: Workspace) -> str | None:
    """The token that opens it; None if SECRET_KEY was changed since: then only another token helps."""
    token = derive_token(workspace.public_id, number=workspace.token_number)
    return token if hmac.compare_digest(hash_token(token), workspace.token_hash) else None
