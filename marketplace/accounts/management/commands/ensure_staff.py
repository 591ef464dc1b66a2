"""`manage.py ensure_staff`: makes a member of staff from a mounted Secret, unless that address has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from marketplace.accounts.bootstrap import ensure_staff


class Command(BaseCommand):
    help = (
        "Makes a staff account, unless the e-mail address has one: that keeps its password. "
        "Reads the files `username` (the e-mail address) and `password`, as a Secret of type "
        "kubernetes.io/basic-auth is mounted."
    )

    requires_system_checks = ()  # the tables are all it needs

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--folder", type=Path, required=True, help="folder with both files")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        email, password = _read(folder / "username"), _read(folder / "password")
        try:
            validate_email(email)
            validate_password(password)
        except ValidationError as error:
            raise CommandError(f"{folder}: {' '.join(error.messages)}") from error
        made = ensure_staff(email=email, password=password)
        self.stdout.write(f"{email}: {'made' if made else 'was there, left as it is'}")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CommandError(
            f"{file}: {error.strerror}; a Secret of type kubernetes.io/basic-auth has it"
        ) from error
