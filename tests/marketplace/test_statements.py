from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import DateTimeField, F, Model, QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.keys import issue_key
from marketplace.accounts.models import ApiKey, Organization
from marketplace.billing.models import Price
from marketplace.hardware.models import Flavor, NodePool
from marketplace.statements import Given, Statement
from tests.market import Market
from tests.people import Person

pytestmark = pytest.mark.django_db


def all_of(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_it_reads_the_objects_that_django_reads(alice: Person, bob: Person) -> None:
    def keys(organization: Any) -> QuerySet[ApiKey]:
        rows = ApiKey.objects.select_related("organization", "created_by")
        return rows.filter(organization=organization).order_by("pk")

    for person in (alice, alice, bob):
        issue_key(organization=person.organization, name="ci", scopes=["read"], created_by=person.user)
    statement = Statement(lambda: keys(Given("organization")))
    with CaptureQueriesContext(connection) as captured:
        found = statement.objects(organization=alice.organization.pk)
        related = [(all_of(key.organization), key.created_by) for key in found]
    assert len(captured) == 1
    assert [all_of(key) for key in found] == [all_of(key) for key in keys(alice.organization)]
    assert related == [(all_of(alice.organization), user) for user in (alice.user, alice.user, bob.user)]


def test_what_is_not_there_is_none_and_not_an_object_without_values(alice: Person) -> None:
    key, _ = issue_key(organization=alice.organization, name="ci", scopes=["read"])
    statement = Statement(lambda: ApiKey.objects.select_related("created_by").filter(pk=Given("key")))
    assert [row.created_by for row in statement.objects(key=key.pk)] == [None]
    assert statement.objects(key=0) == []


def test_it_reads_the_rows_that_django_reads_converted_likewise(market: Market) -> None:
    columns = ("node_selector", "taints", "flavor__vcpus", "cluster__region__slug")
    NodePool.objects.update(node_selector={"gpu": "a b"}, taints=[{"key": "k", "effect": "NoSchedule"}])
    statement = Statement(lambda: NodePool.objects.order_by("pk").values_list(*columns))
    assert statement.rows() == list(NodePool.objects.order_by("pk").values_list(*columns))


def test_values_may_be_given_to_filters_of_ranges(market: Market) -> None:
    at = Given("at", output_field=DateTimeField())
    statement = Statement(lambda: Price.objects.filter(valid__contains=at).values_list("pk", "per_second"))
    now = timezone.now()
    assert statement.rows(at=now) == list(
        Price.objects.filter(valid__contains=now).values_list("pk", "per_second")
    )


def test_a_union_is_read_like_its_first_query(market: Market) -> None:
    def sizes(query: QuerySet[Flavor]) -> QuerySet[Flavor, Any]:
        return query.values_list("slug", F("vcpus") * 2)

    small = Flavor.objects.filter(slug=Given("slug"))
    statement = Statement(lambda: sizes(small).union(sizes(Flavor.objects.exclude(slug=Given("slug")))))
    expected = set(sizes(Flavor.objects.all()))
    assert set(statement.rows(slug=market.flavor.slug)) == expected


def test_its_sql_is_made_once_and_its_answer_never_remembered(alice: Person) -> None:
    made = []

    def make() -> QuerySet[Organization, Any]:
        made.append(1)
        return Organization.objects.filter(pk=Given("pk")).values_list("name")

    statement = Statement(make)
    assert statement.rows(pk=alice.organization.pk) == [(alice.organization.name,)]
    Organization.objects.update(name="Renamed")
    assert statement.rows(pk=alice.organization.pk) == [("Renamed",)]
    assert made == [1]


def test_a_value_that_is_not_given_is_named() -> None:
    statement = Statement(lambda: Organization.objects.filter(slug=Given("slug")))
    with pytest.raises(KeyError, match="slug"):
        statement.objects()
