import json
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings

from deployments.tuning.models import Dataset, DatasetVersion
from tests.people import Person

DATASETS = "/api/v1/datasets/"


def lines(count: int = 8, *, word: str = "Answer") -> list[bytes]:
    return [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Question {number}?"},
                    {"role": "assistant", "content": f"{word} {number}."},
                ]
            }
        ).encode()
        for number in range(count)
    ]


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Settings) -> Path:
    settings.STORAGE_ROOT = tmp_path
    return tmp_path


def upload(person: Person, content: bytes, *, name: str = "support") -> Any:
    file = SimpleUploadedFile("support.jsonl", content)
    return person.api.post(DATASETS, {"name": name, "file": file}, format="multipart")


def stored(storage: Path) -> list[str]:
    return sorted(path.name for path in storage.rglob("*") if path.is_file())


def test_an_accepted_file_is_stored_by_its_digest_and_reported(alice: Person, storage: Path) -> None:
    response = upload(alice, b"\n".join(lines()))
    document = response.json()
    assert response.status_code == 201, document
    assert document["name"] == "support"
    assert document["report"]["examples"] == 8
    assert stored(storage) == [f"{document['version']['digest']}.jsonl"]
    version = DatasetVersion.objects.get()
    assert (storage / version.storage_path).read_bytes() == b"\n".join(lines())


def test_a_bad_line_7_is_named_and_nothing_is_kept(alice: Person, storage: Path) -> None:
    content = lines()
    content[6] = b'{"messages": [{"role": "robot", "content": "x"}]}'
    response = upload(alice, b"\n".join(content))
    problem = response.json()
    assert response.status_code == 400
    assert problem["type"] == "/problems/dataset-invalid"
    assert problem["detail"].startswith("Line 7, messages.0.role: 'robot' is no role")
    assert problem["lines"] == [
        {
            "line": 7,
            "field": "messages.0.role",
            "code": "unrecognized_role",
            "message": "'robot' is no role; there are: system, user, assistant.",
        }
    ]
    assert stored(storage) == []
    assert not Dataset.objects.exists()


def test_the_same_file_again_is_the_same_version(alice: Person, storage: Path) -> None:
    answers = [upload(alice, b"\n".join(lines())).json() for _ in range(2)]
    assert answers[0]["version"] == answers[1]["version"]
    assert DatasetVersion.objects.count() == 1


def test_another_file_under_the_name_is_the_next_version(alice: Person, storage: Path) -> None:
    first = upload(alice, b"\n".join(lines())).json()
    second = upload(alice, b"\n".join(lines(word="Reply"))).json()
    assert first["id"] == second["id"]
    assert first["version"]["id"] != second["version"]["id"]
    assert len(stored(storage)) == 2


def test_an_earlier_file_again_is_its_version_again_and_the_newest(alice: Person, storage: Path) -> None:
    first = upload(alice, b"\n".join(lines())).json()
    upload(alice, b"\n".join(lines(9, word="Reply")))
    again = upload(alice, b"\n".join(lines())).json()
    assert (again["version"], again["report"]) == (first["version"], first["report"])
    assert alice.api.get(f"{DATASETS}{first['id']}/").json() == again


def test_an_empty_file_and_a_missing_one_are_told_apart(alice: Person, storage: Path) -> None:
    empty = upload(alice, b"").json()
    missing = alice.api.post(DATASETS, {"name": "x"}, format="multipart").json()
    assert empty["lines"][0]["code"] == "too_few_examples"
    assert missing["errors"] == [{"field": "file", "message": "No file was submitted."}]


def test_a_deleted_dataset_is_gone_from_lists_and_its_name_is_free(alice: Person, storage: Path) -> None:
    document = upload(alice, b"\n".join(lines())).json()
    assert alice.api.delete(f"{DATASETS}{document['id']}/").status_code == 204
    assert alice.api.get(DATASETS).json()["items"] == []
    assert upload(alice, b"\n".join(lines())).json()["id"] != document["id"]


def test_a_stranger_neither_sees_nor_deletes_it(alice: Person, charlie: Person, storage: Path) -> None:
    document = upload(alice, b"\n".join(lines())).json()
    path = f"{DATASETS}{document['id']}/"
    assert [charlie.api.get(path).status_code, charlie.api.delete(path).status_code] == [404, 404]
    assert upload(charlie, b"\n".join(lines())).json()["id"] != document["id"]


def test_a_viewer_may_not_upload(bob: Person, storage: Path) -> None:
    assert upload(bob, b"\n".join(lines())).status_code == 403
