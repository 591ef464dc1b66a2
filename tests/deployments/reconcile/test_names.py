from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.reconcile.names import (
    MAX_LENGTH,
    namespace_name,
    object_name,
    organization_of,
    revision_name,
)
from marketplace.hardware.attachments import Attachment
from marketplace.ids import make_public_id

VALID = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # RFC 1035 label, which a Service needs

ids = st.sampled_from(["dep", "ftj", "org"]).map(make_public_id)
anything = st.text() | ids | st.text(alphabet="depx_-r0123456789", max_size=40)


def test_a_public_id_can_be_read_in_the_name():
    assert object_name("dep_01jz4m8k3v9x2c5n7q0r1s6t8w") == "dep-01jz4m8k3v9x2c5n7q0r1s6t8w"
    assert (
        revision_name("dep_01jz4m8k3v9x2c5n7q0r1s6t8w", revision=12) == "dep-01jz4m8k3v9x2c5n7q0r1s6t8w-r12"
    )


@given(text=anything, revision=st.integers(min_value=1, max_value=2**31))
def test_a_name_is_valid_and_short_whatever_it_is_made_from(text, revision):
    for name in (object_name(text), revision_name(text, revision=revision)):
        assert VALID.fullmatch(name)
        assert len(name) <= MAX_LENGTH


@given(pairs=st.lists(st.tuples(anything, st.integers(min_value=1, max_value=2**31)), unique=True))
def test_different_things_have_different_names(pairs):
    names = {revision_name(text, revision=revision) for text, revision in pairs}
    texts = {text for text, _ in pairs}
    assert len(names) == len(pairs)
    assert len({object_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("attachment", list(Attachment))
def test_a_namespace_tells_whose_it_is(attachment):
    organization = make_public_id("org")
    name = namespace_name(organization, attachment=attachment)
    assert len(name) <= 36
    assert organization_of(name) == organization


def test_namespaces_with_different_privileges_never_meet():
    organization = make_public_id("org")
    assert len({namespace_name(organization, attachment=attachment) for attachment in Attachment}) == 2


@pytest.mark.parametrize("name", ["kube-system", "default", "x-0123456789abcdef0123456789abcdef", "🙂", ""])
def test_a_foreign_namespace_is_nobodys(name):
    assert organization_of(name) is None


@given(text=anything)
def test_whatever_an_organization_is_called_its_namespaces_are_valid(text):
    for attachment in Attachment:
        name = namespace_name(text, attachment=attachment)
        assert VALID.fullmatch(name)
        assert len(name) <= MAX_LENGTH
