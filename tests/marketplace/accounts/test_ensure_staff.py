"""The first member of staff, from a mounted Secret."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from marketplace.accounts.models import User

pytestmark = pytest.mark.django_db


def run(folder: Path) -> str:
    out = StringIO()
    call_command("ensure_staff", folder=folder, stdout=out)
    return out.getvalue()


def secret(
    folder: Path, *, username: str = "Staff@Example.com", password: str = "a long enough one 7"
) -> Path:
    (folder / "username").write_text(f"{username}\n")
    (folder / "password").write_text(f"{password}\n")
    return folder


def test_it_makes_an_account_that_may_do_everything(tmp_path: Path) -> None:
    assert run(secret(tmp_path)) == "Staff@Example.com: made\n"
    user = User.objects.get()
    assert (user.email, user.is_staff, user.is_superuser) == ("staff@example.com", True, True)
    assert user.check_password("a long enough one 7")


def test_it_leaves_a_changed_password_alone(tmp_path: Path) -> None:
    run(secret(tmp_path))
    user = User.objects.get()
    user.set_password("changed since")
    user.save()
    assert run(tmp_path) == "Staff@Example.com: was there, left as it is\n"
    assert User.objects.get().check_password("changed since")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"username": "staff"}, "valid email"),
        ({"password": "12345678"}, "too common"),
        ({"password": "a"}, "too short"),
    ],
)
def test_it_refuses_what_nobody_could_sign_in_with(tmp_path: Path, given: dict[str, str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        run(secret(tmp_path, **given))
    assert not User.objects.exists()


def test_it_names_the_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"username: No such file.*basic-auth"):
        run(tmp_path)
