"""Jupyter's configuration: where it listens, and who may enter. Read by Jupyter, which gives `get_config`."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User


class HashedToken(IdentityProvider):  # type: ignore[misc, unused-ignore]  # typed in later versions only
    """Lets in whoever brings the token. As the base class, but that it knows only the token's SHA-256."""

    token_hash = os.environ["WORKSPACE_TOKEN_SHA256"]

    async def get_user_token(self, handler: Any) -> User | None:
        """The user of a request with the token in its query or its Authorization header."""
        if not self._opens(self.get_token(handler)):
            return None
        user: Any = self.get_user_cookie(handler)
        if hasattr(user, "__await__"):
            user = await user
        return user or self.generate_anonymous_user(handler)

    def process_login_form(self, handler: Any) -> User | None:
        """The user who typed the token into the page that asks for it."""
        if not self._opens(handler.get_argument("password", default="")):
            return None
        return self.generate_anonymous_user(handler)

    def cookie_secret_hook(self, h: Any) -> Any:
        """Another token ends every session that an earlier one began."""
        h.update(self.token_hash.encode())
        return h

    def _opens(self, token: str | None) -> bool:
        if not token:
            return False
        found = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        return hmac.compare_digest(found, self.token_hash)


c = get_config()  # type: ignore[name-defined]  # noqa: F821 - Jupyter puts it there

c.ServerApp.ip = os.environ["WORKSPACE_HOST"]
c.ServerApp.port = int(os.environ["WORKSPACE_PORT"])
c.ServerApp.port_retries = 0  # on another port nobody would find it
c.ServerApp.base_url = os.environ["WORKSPACE_PATH"]
c.ServerApp.root_dir = os.environ["WORKSPACE_FOLDER"]
c.ServerApp.open_browser = False
# A pod never runs as root: its manifest says so. The local cluster runs as whoever started it.
c.ServerApp.allow_root = True
# Who may call is decided by the gateway, the network policy and the token; the name by which they call is the
# gateway's.
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True
c.ServerApp.identity_provider_class = HashedToken
# The base class would make up a token of its own.
c.IdentityProvider.token = ""
c.HashedToken.token = ""
# The gateway passes on no other cookies.
c.IdentityProvider.cookie_name = "workspace-" + os.environ["WORKSPACE_ID"]
