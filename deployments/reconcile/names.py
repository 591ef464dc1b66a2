"""Names of the Kubernetes objects of a row: always the same for the same row, always valid, never shared.

At most 36 characters, since that is what the shortest-sighted operator takes (Graphcore's IPUJob). A public
id with its underscore read as a hyphen has 30, which leaves room for a revision. Whatever does not fit is
hashed; a hashed name starts with `x-`, which no public id does, so the two can never meet.
"""

from __future__ import annotations

import hashlib
import re

from marketplace.hardware.attachments import Attachment

MAX_LENGTH = 36

_PLAIN = re.compile(r"[a-z]{2,8}_[0-9a-z]{16,26}")
"""A public id as `marketplace.ids` makes them. Its prefix has two letters or more, so never reads `x`."""
_NAMESPACE_SUFFIXES = {Attachment.DEVICE_PLUGIN: "", Attachment.IPUJOB: "-ipu"}


def object_name(public_id: str) -> str:
    """The name of the one object of its kind that belongs to a row: a namespace, a service, a job."""
    if _PLAIN.fullmatch(public_id):
        return public_id.replace("_", "-")
    return _hashed(public_id)


def revision_name(public_id: str, *, revision: int) -> str:
    """The name of what belongs to one revision of a row."""
    name = f"{object_name(public_id)}-r{revision}"
    return name if len(name) <= MAX_LENGTH else _hashed(f"{public_id} r{revision}")


def namespace_name(organization: str, *, attachment: Attachment = Attachment.DEVICE_PLUGIN) -> str:
    """The namespace of an organization's objects whose accelerators are attached in this way.

    Graphcore's operator makes its pods privileged. They get a namespace of their own, so that all others can
    stay in one that admits no such pod.
    """
    suffix = _NAMESPACE_SUFFIXES[attachment]
    name = object_name(organization) + suffix
    return name if len(name) <= MAX_LENGTH else _hashed(f"{organization} {suffix}")


def organization_of(namespace: str) -> str | None:
    """The public id of the organization that a namespace is named after; None where the name does not
    tell."""
    for suffix in _NAMESPACE_SUFFIXES.values():
        public_id = namespace.removesuffix(suffix).replace("-", "_", 1)
        if namespace.endswith(suffix) and _PLAIN.fullmatch(public_id):
            return public_id
    return None


def _hashed(text: str) -> str:
    # 128 bits: two different inputs do not meet in practice.
    return "x-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
