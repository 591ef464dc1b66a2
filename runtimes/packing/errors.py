"""What packing cannot do."""

from __future__ import annotations


class PackingUnsupported(Exception):
    """This model or this back end cannot compute packed sequences; the message says why."""
