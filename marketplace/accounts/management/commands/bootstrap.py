"""`manage.py bootstrap`: makes the first staff user, organization, owner and API key, and prints them
once.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from marketplace.accounts.bootstrap import bootstrap


class Command(BaseCommand):
    help = "Makes the first staff user, organization, owner and API key. Prints as JSON what it made."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--admin-email", default="admin@example.com")
        parser.add_argument("--user-email", default="demo@example.com")
        parser.add_argument("--organization", default="demo", help="slug")
        parser.add_argument("--reset", action="store_true", help="new passwords and a new API key")

    def handle(self, *args: Any, **options: Any) -> None:
        credentials = bootstrap(
            admin_email=options["admin_email"],
            user_email=options["user_email"],
            organization=options["organization"],
            reset=options["reset"],
        )
        self.stdout.write(json.dumps(asdict(credentials), indent=2))
        if None in asdict(credentials).values():
            self.stderr.write(
                "What is null was there before and cannot be shown again; --reset makes it anew."
            )
