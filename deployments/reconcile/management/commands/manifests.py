"""`manage.py manifests`: what would be applied to a cluster for the samples, as YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser

from deployments.samples.reading import PLACES, SampleError, build_samples
from marketplace.seeds import SeedError


class _Dumper(yaml.SafeDumper):
    """Writes every value where it belongs: nobody reads manifests with anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Command(BaseCommand):
    help = (
        "Print, for every sample in deployments/samples, the Kubernetes objects that would be applied. "
        "Needs no database and no cluster; may be piped into `kubectl apply --dry-run=server -f -`."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="Samples to print; all without a name.")
        parser.add_argument(
            "--places",
            type=Path,
            default=PLACES,
            metavar="FILE",
            help="Your own places, of the shape that `seed --places` reads.",
        )

    def handle(self, *args: Any, names: Sequence[str], places: Path, **options: Any) -> None:
        try:
            samples = {sample.name: sample for sample in build_samples(places=places)}
        except (SampleError, SeedError) as error:
            raise CommandError(str(error)) from error
        if unknown := set(names) - samples.keys():
            missing, known = ", ".join(sorted(unknown)), ", ".join(samples)
            raise CommandError(f"There is no sample {missing}; there are {known}")
        for name in names or samples:
            sample = samples[name]
            objects = [*sample.shared, *sample.own]
            text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=110)
            self.stdout.write(f"# {name}: {sample.description}\n{text}")
