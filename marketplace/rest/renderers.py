"""Writes JSON with orjson, which takes a tenth of the time of the standard library for a page of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework import renderers
from rest_framework.utils.encoders import JSONEncoder

# Moments look as REST framework writes them: ISO 8601, and Z for UTC.
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


class Encoder(JSONEncoder):
    """REST framework's, which takes stored JSON too that was not read."""

    def default(self, obj: Any) -> Any:
        if isinstance(obj, orjson.Fragment):
            return json.loads(orjson.dumps(obj))
        return super().default(obj)


_encode_other = Encoder().default


class JSONRenderer(renderers.JSONRenderer):
    """The same documents as REST framework's own renderer."""

    encoder_class = Encoder

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if data is None:
            return b""
        if self.get_indent(accepted_media_type or "", renderer_context or {}) is None:
            try:
                return orjson.dumps(data, default=_encode_other, option=_OPTIONS)
            except TypeError:
                pass  # integers beyond 64 bits and texts that are no Unicode: the library is more patient
        plain: bytes = super().render(data, accepted_media_type, renderer_context)
        return plain
