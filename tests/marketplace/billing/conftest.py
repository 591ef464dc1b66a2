from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from marketplace.accounts.models import Organization
from marketplace.billing.models import Price
from marketplace.billing.prices import set_price
from marketplace.hardware.models import Accelerator, AcceleratorFamily, Flavor, MachineClass, Region

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def acme(db: None) -> Organization:
    return Organization.objects.create(slug="acme", name="Acme")


@pytest.fixture
def stranger(db: None) -> Organization:
    return Organization.objects.create(slug="stranger", name="Stranger")


@pytest.fixture
def region(db: None) -> Region:
    return Region.objects.create(slug="lux-1", name="Luxembourg 1", country="LU")


@pytest.fixture
def flavor(db: None) -> Flavor:
    accelerator = Accelerator.objects.create(
        slug="some-cpu", name="Some CPU", vendor="Some", family=AcceleratorFamily.CPU, memory_bytes=0
    )
    return Flavor.objects.create(
        slug="cpu-2",
        name="2 vCPU",
        accelerator=accelerator,
        accelerator_count=0,
        vcpus=2,
        memory_bytes=4 * 2**30,
        machine_class=MachineClass.VIRTUAL,
    )


@pytest.fixture
def price(flavor: Flavor, region: Region) -> Price:
    """One cent a second, for everyone, since the beginning of 2026."""
    return set_price(
        flavor=flavor, region=region, per_second=Decimal("0.01"), currency="EUR", since=BEGINNING
    )
