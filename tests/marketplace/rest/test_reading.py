"""Documents read straight from the columns, and JSON written quickly: as REST framework would have both."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework import renderers, serializers

from deployments.serving.models import Deployment
from deployments.serving.serializers import DeploymentSerializer
from marketplace.rest.reading import ReadSerializer
from marketplace.rest.renderers import JSONRenderer
from tests.market import Market
from tests.people import Person


class Shelf(ReadSerializer[Any]):
    id = serializers.CharField(source="public_id")
    owner = serializers.CharField(source="owner.name")
    color = serializers.CharField(source="paint.color", default=None)
    filled_at = serializers.DateTimeField()
    books = serializers.SerializerMethodField()
    method_columns: ClassVar[tuple[str, ...]] = ("count",)

    def get_books(self, shelf: Any) -> str:
        return f"{shelf.count} books"


def test_a_document_has_the_values_of_its_sources() -> None:
    two_hours_east = timezone(timedelta(hours=2))
    shelf = SimpleNamespace(
        public_id="she_1",
        owner=SimpleNamespace(name="Alice"),
        paint={"color": "red"},
        filled_at=datetime(2026, 1, 1, 12, tzinfo=two_hours_east),
        count=3,
    )
    assert Shelf(shelf).data == {
        "id": "she_1",
        "owner": "Alice",
        "color": "red",
        "filled_at": "2026-01-01T10:00:00Z",
        "books": "3 books",
    }


@pytest.mark.parametrize("paint", [None, {}, SimpleNamespace()])
def test_a_default_stands_for_what_is_missing_on_the_way(paint: Any) -> None:
    shelf = SimpleNamespace(
        public_id="she_1", owner=SimpleNamespace(name="Alice"), paint=paint, filled_at=None, count=0
    )
    assert (Shelf(shelf).data["color"], Shelf(shelf).data["filled_at"]) == (None, None)


def test_a_list_shows_the_same_as_the_object_itself(alice: Person, market: Market) -> None:
    made = alice.api.post(
        "/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"}
    ).json()
    (listed,) = alice.api.get("/api/v1/deployments/").json()["items"]
    assert listed == alice.api.get(f"/api/v1/deployments/{made['id']}/").json() == made
    assert list(listed) == list(DeploymentSerializer().fields)


def test_a_list_can_be_asked_for_indented(alice: Person, market: Market) -> None:
    alice.api.post("/api/v1/deployments/", {"name": "bot", "model": "tests/chatter", "flavor": "test-small"})
    why = {"reason": "Waiting", "numbers": [{"need": 2**70, "text": "größer"}]}
    Deployment.objects.update(explanation=why, conditions=[why], degradations=[])
    plain = alice.api.get("/api/v1/deployments/").json()
    indented = alice.api.get("/api/v1/deployments/", headers={"Accept": "application/json; indent=2"})
    assert indented.content.startswith(b"{\n  ")
    assert indented.json() == plain
    (listed,) = plain["items"]
    assert (listed["explanation"], listed["conditions"]) == ({**why, "actions": []}, [why])


def test_a_page_takes_two_queries_however_many_rows_it_has(alice: Person, market: Market) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert alice.api.get("/api/v1/deployments/").status_code == 200
        return len(captured)

    def create(name: str) -> None:
        ask = {"name": name, "model": "tests/chatter", "flavor": "test-small"}
        assert alice.api.post("/api/v1/deployments/", ask).status_code == 201

    create("first")
    alice.api.get("/api/v1/deployments/")  # notes the use of the key, once a minute
    one = queries()
    for number in range(5):
        create(f"more-{number}")
    assert (one, queries()) == (2, 2)
    assert Deployment.objects.count() == 6


@pytest.mark.parametrize(
    "data",
    [
        {"text": "größer 🙂", "number": 1, "share": 0.1, "none": None, "yes": True},
        {"moment": datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC), "amount": Decimal("0.10")},
        {"id": UUID(int=7), 1: "a key that is a number", "span": timedelta(seconds=90)},
        [{"nested": ({"deep": [1, 2]},)}],
        {"beyond 64 bits": 2**70},
        {"elsewhere": datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))},
        {"moments": [datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1).date()]},
    ],
)
def test_json_is_what_rest_framework_would_write(data: Any) -> None:
    assert JSONRenderer().render(data) == renderers.JSONRenderer().render(data)


def test_nothing_renders_as_nothing() -> None:
    assert JSONRenderer().render(None) == b""
