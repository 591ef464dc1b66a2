from __future__ import annotations

from dataclasses import replace

from runtimes.cache.plan import GRACE_SECONDS, Kept, Room, removal_order

GIB = 2**30
NOW = 100_000.0
ROOM = Room(total=100 * GIB, free=40 * GIB, reserved=0, needed=20 * GIB, free_share=0.15)


def kept(digest: str, *, hours: float) -> Kept:
    return Kept(digest=digest, bytes=GIB, last_used=NOW - hours * 3600)


def test_the_least_recently_used_goes_first_and_what_is_needed_or_fresh_stays():
    versions = [
        kept("new", hours=1),
        kept("old", hours=9),
        kept("ours", hours=20),
        kept("older", hours=10),
        Kept(digest="fresh", bytes=GIB, last_used=NOW - GRACE_SECONDS),
        Kept(digest="of another clock", bytes=GIB, last_used=NOW + 3600),
    ]
    order = removal_order(versions, needed={"ours"}, now=NOW)
    assert [it.digest for it in order] == ["older", "old", "new"]


def test_room_is_missing_when_the_goal_would_not_hold_afterwards():
    assert ROOM.missing == 0
    assert replace(ROOM, needed=26 * GIB).missing == GIB
    assert replace(ROOM, reserved=8 * GIB).missing == 3 * GIB
    assert replace(ROOM, free_share=0.0, needed=40 * GIB).missing == 0


def test_the_numbers_are_told():
    assert str(replace(ROOM, reserved=8 * GIB)) == (
        "20.00 GiB are needed and 15.00 GiB (15% of 100.00 GiB) have to stay free, but 40.00 GiB are free, "
        "8.00 GiB of it promised to versions on their way"
    )
