"""Two owners who leave in the same moment: one of them stays."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from marketplace.accounts.members import remove_member
from marketplace.accounts.models import Membership, Organization, Role
from marketplace.rest.problems import Problem
from tests.people import Person, add_person


@pytest.mark.django_db(transaction=True)
def test_one_of_two_owners_who_leave_at_once_stays(alice: Person, acme: Organization) -> None:
    dora = add_person("dora", organization=acme, role=Role.OWNER)
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def leave(person: Person) -> None:
        start.wait()
        try:
            remove_member(actor=person.actor, membership=person.membership)
            outcomes.append("left")
        except Problem as problem:
            outcomes.append(problem.type)
        finally:
            connection.close()

    people = [threading.Thread(target=leave, args=(person,)) for person in (alice, dora)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert sorted(outcomes) == ["last-owner", "left"]
    assert Membership.objects.filter(organization=acme, role=Role.OWNER).count() == 1
