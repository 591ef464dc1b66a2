"""Static files by WhiteNoise, for a server that speaks ASGI."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # the library has no types
    """WhiteNoise, answering with whole files.

    It streams them by a synchronous iterator, which Django under ASGI reads to the end before sending, with a
    warning. The files are a few hundred kB, so that they are read here in the first place.
    """

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        content = b""
        if found.file is not None:
            with found.file as file:
                content = file.read()
        response = HttpResponse(content, status=int(found.status))
        del response.headers["Content-Type"]  # WhiteNoise has its own, and none for an unchanged file
        for name, value in found.headers:
            response.headers[name] = value
        return response
