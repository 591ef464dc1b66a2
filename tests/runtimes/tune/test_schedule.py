import pytest

from runtimes.tune.schedule import hold_out, learning_rate_at, plan_steps

LENGTHS = [30, 70, 20, 50, 90, 10, 40, 200]


def test_each_epoch_has_every_example_once_within_the_limits() -> None:
    steps = plan_steps(LENGTHS, epochs=3, batch_tokens=120, row_tokens=60, seed=1)
    seen = [index for step in steps for row in step.rows for index in row]
    assert sorted(seen) == sorted(list(range(8)) * 3)
    assert sum(step.tokens for step in steps) == 3 * sum(LENGTHS)
    for step in steps:
        assert step.tokens == sum(LENGTHS[index] for row in step.rows for index in row)
        assert step.tokens <= 120 or step.examples == 1
        assert all(len(row) == 1 or sum(LENGTHS[index] for index in row) <= 60 for row in step.rows)


def test_the_plan_follows_from_the_seed() -> None:
    first, again, other = (
        plan_steps(LENGTHS, epochs=2, batch_tokens=120, row_tokens=60, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_epochs_differ_in_their_order() -> None:
    steps = plan_steps(LENGTHS, epochs=2, batch_tokens=1, row_tokens=1, seed=1)
    order = [step.rows[0][0] for step in steps]
    assert sorted(order[:8]) == sorted(order[8:])
    assert order[:8] != order[8:]


def test_the_learning_rate_warms_up_and_falls_to_a_tenth() -> None:
    rates = [learning_rate_at(step, total_steps=20, peak=1.0) for step in range(1, 21)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_run_of_few_steps_learns_in_each(total: int) -> None:
    assert all(learning_rate_at(step, total_steps=total, peak=1.0) > 0 for step in range(1, total + 1))


@pytest.mark.parametrize(
    ("count", "share", "held"), [(20, 0.1, 2), (3, 0.1, 1), (2, 0.9, 1), (1, 0.5, 0), (20, 0.0, 0)]
)
def test_a_share_is_held_out_and_never_all(count: int, share: float, held: int) -> None:
    train, validation = hold_out(count, share=share, seed=3)
    assert (len(validation), sorted(train + validation)) == (held, list(range(count)))
    assert (train, validation) == hold_out(count, share=share, seed=3)
