"""`manage.py seed`: the catalog, hardware and price book that ship with the marketplace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from marketplace.billing.seeds import seed_prices
from marketplace.catalog.packages import ConversionFailed, PackageMissing
from marketplace.catalog.safety import UnsafeModel
from marketplace.catalog.seeds import packaged_models, publish_package, seed_catalog
from marketplace.hardware.places import read_places
from marketplace.hardware.seeds import seed_hardware
from marketplace.seeds import SeedCount, SeedError


class Command(BaseCommand):
    help = (
        "Makes the rows that are missing: licenses, accelerators, flavors, regions, the local cluster, "
        "prices, frameworks and models; publishes the models that installed packages carry. May be repeated."
    )

    # Checks load every URL, and with it every library; seeding needs neither and is run at every start.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--update",
            action="store_true",
            help="Give existing rows the data files' values again (not prices).",
        )
        parser.add_argument(
            "--places",
            type=Path,
            metavar="FILE",
            help="TOML file with regions, clusters, node pools and prices of your own, instead of the local "
            "cluster; its rows are made to be as written (prices are only added). Its shape is described in "
            "marketplace/hardware/places.py.",
        )
        parser.add_argument("--no-weights", action="store_true", help="Leave the packaged models out.")

    def handle(
        self, *args: Any, update: bool, no_weights: bool, places: Path | None = None, **options: Any
    ) -> None:
        try:
            own = read_places(places) if places else None
        except SeedError as error:
            raise CommandError(str(error)) from error
        try:
            with transaction.atomic():
                counts = {
                    **seed_hardware(places=own, update=update),
                    "prices": seed_prices(own),
                    **seed_catalog(update=update),
                }
        except SeedError as error:
            raise CommandError(f"{places}: {error}" if places else str(error)) from error
        total = sum(counts.values(), start=SeedCount())
        for name, count in counts.items():
            if count.created or count.updated:
                self.stdout.write(f"{name}: {count.created} created, {count.updated} updated")
        self.stdout.write(f"{total.created} created, {total.updated} updated, {total.kept} kept")
        if not no_weights:
            self._publish_packages()

    def _publish_packages(self) -> None:
        failed = []
        for name, model in packaged_models().items():
            try:
                version, new = publish_package(name, model)
            except PackageMissing as error:
                self.stdout.write(f"{model}: left out, {error}")
            except (ConversionFailed, UnsafeModel) as error:
                failed.append(f"{model}: {error}")
            else:
                self.stdout.write(f"{version}: {'published' if new else 'in storage'}")
        if failed:
            raise CommandError("\n".join(failed))
