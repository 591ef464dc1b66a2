from decimal import Decimal

import pytest

from deployments.tuning.estimates import START_SECONDS, Load, Speed, estimate_tuning

LOAD = Load(parameters=100_000_000, tokens_per_epoch=5000, epochs=3, batch_tokens=1000)


def test_time_is_operations_over_speed_and_cost_follows() -> None:
    estimate = estimate_tuning(LOAD, Speed(operations_per_second=4.2e10), per_second=Decimal("0.001"))
    # 15,000 tokens at 4.2 × 1e8 operations each are 150 s at 4.2e10 a second.
    assert estimate.tokens == 15_000
    assert estimate.steps == 15
    assert estimate.seconds == pytest.approx(START_SECONDS + 150)
    assert estimate.cost == Decimal("0.170000")
    assert estimate.seconds_low < estimate.seconds < estimate.seconds_high
    assert estimate.measured == 0


def test_measured_runs_replace_the_prior_and_narrow_the_band() -> None:
    prior = estimate_tuning(LOAD, Speed(operations_per_second=4.2e10), per_second=Decimal(1))
    measured = estimate_tuning(
        LOAD,
        Speed(operations_per_second=1.0, measured_tokens_per_second=[90.0, 100.0, 5000.0]),
        per_second=Decimal(1),
    )
    assert measured.seconds == pytest.approx(START_SECONDS + 150)
    assert measured.measured == 3
    assert measured.seconds_high - measured.seconds_low < prior.seconds_high - prior.seconds_low


def test_the_last_step_may_be_partly_filled() -> None:
    load = Load(parameters=1, tokens_per_epoch=1001, epochs=2, batch_tokens=1000)
    assert estimate_tuning(load, Speed(operations_per_second=1e9), per_second=Decimal(0)).steps == 4
