from deployments.planning.memory import ModelFacts, estimate_serving, kv_bytes_per_token

SMOLLM2 = ModelFacts(
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    kv_heads=3,
    head_size=64,
    vocabulary=49_152,
    context_length=8192,
)


def test_keys_and_values_of_one_token_take_what_was_measured() -> None:
    assert kv_bytes_per_token(SMOLLM2, precision="float32") == 46_080


def test_an_estimate_names_its_parts() -> None:
    estimate = estimate_serving(
        SMOLLM2, precision="float32", family="cpu", context_length=2048, concurrency=4
    )
    assert estimate.weights == 538_060_032
    assert estimate.kv_cache == 46_080 * 2048 * 4
    assert estimate.expected == (
        estimate.weights + estimate.kv_cache + estimate.activations + estimate.framework
    )
    assert estimate.low < estimate.expected < estimate.high
    assert estimate.unknown == ()


def test_half_precision_halves_weights_and_cache() -> None:
    full = estimate_serving(SMOLLM2, precision="float32", family="cuda", context_length=512, concurrency=2)
    half = estimate_serving(SMOLLM2, precision="bfloat16", family="cuda", context_length=512, concurrency=2)
    assert (half.weights, half.kv_cache) == (full.weights // 2, full.kv_cache // 2)


def test_a_model_that_does_not_generate_keeps_no_cache() -> None:
    encoder = ModelFacts(parameters=22_713_216, hidden_size=384, generates=False)
    estimate = estimate_serving(encoder, precision="float32", family="cpu", context_length=256, concurrency=8)
    assert estimate.kv_cache == 0
    assert estimate.unknown == ()


def test_missing_figures_are_said_not_guessed() -> None:
    estimate = estimate_serving(
        ModelFacts(parameters=7_000_000_000),
        precision="float16",
        family="cuda",
        context_length=4096,
        concurrency=1,
    )
    assert estimate.unknown == ("KV cache", "activations")
