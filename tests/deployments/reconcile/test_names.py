from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from deployments.reconcile.names import MAX_LENGTH, object_name, revision_name
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
