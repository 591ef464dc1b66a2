from dataclasses import replace
from typing import Any

from deployments.planning.memory import (
    INCOMPLETE,
    MEASURED,
    MemoryEstimate,
    ModelFacts,
    ServingShape,
    estimate_serving,
    fits,
    kv_bytes,
    kv_bytes_per_token,
    longest_context,
    most_concurrency,
    spread,
)

GIB = 2**30

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


LLAMA_70B = ModelFacts(
    parameters=70_553_706_496,
    layers=80,
    hidden_size=8192,
    attention_heads=64,
    kv_heads=8,
    head_size=128,
    vocabulary=128_256,
)


def estimate(
    facts: ModelFacts = SMOLLM2, *, context_length: int = 2048, concurrency: int = 4, **shape: Any
) -> MemoryEstimate:
    values: dict[str, Any] = {"precision": "float32", "family": "cpu", **shape}
    return estimate_serving(
        ServingShape(facts=facts, **values), context_length=context_length, concurrency=concurrency
    )


def test_an_estimate_names_its_parts() -> None:
    found = estimate()
    assert found.weights == 538_060_032
    assert found.kv_cache == 46_080 * 2048 * 4
    assert found.expected == found.weights + found.kv_cache + found.activations + found.framework
    assert found.low < found.expected < found.high
    assert (found.unknown, found.band) == ((), MEASURED)


def test_half_precision_halves_weights_and_cache() -> None:
    full, half = (estimate(precision=precision, family="cuda") for precision in ("float32", "bfloat16"))
    assert (half.weights, half.kv_cache) == (full.weights // 2, full.kv_cache // 2)


def test_quantized_weights_leave_the_cache_in_16_bits() -> None:
    half, int4 = (estimate(precision=precision, family="cuda") for precision in ("bfloat16", "int4"))
    assert (int4.weights, int4.kv_cache) == (half.weights // 4, half.kv_cache)


def test_a_model_that_does_not_generate_keeps_no_cache() -> None:
    encoder = ModelFacts(parameters=22_713_216, hidden_size=384, generates=False)
    found = estimate(encoder, context_length=256, concurrency=8)
    assert (found.kv_cache, found.unknown) == (0, ())


def test_missing_figures_are_said_not_guessed_and_widen_the_band() -> None:
    found = estimate(ModelFacts(parameters=7_000_000_000), precision="float16", family="cuda")
    assert (found.unknown, found.band) == (("KV cache", "activations"), INCOMPLETE)


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    mistral = replace(SMOLLM2, window=1024, window_layers=20)
    per_layer = kv_bytes_per_token(SMOLLM2, precision="float32") // 30
    assert kv_bytes(mistral, precision="float32", context_length=4096, concurrency=1) == per_layer * (
        10 * 4096 + 20 * 1024
    )
    # Before the window is full it saves nothing.
    assert kv_bytes(mistral, precision="float32", context_length=512, concurrency=1) == per_layer * 30 * 512


def test_latent_attention_keeps_its_latent_alone() -> None:
    deepseek = ModelFacts(parameters=1, layers=61, kv_heads=128, head_size=56, latent_size=512 + 64)
    assert kv_bytes_per_token(deepseek, precision="bfloat16") == 576 * 2 * 61


def test_a_model_is_spread_over_as_many_devices_as_its_heads_divide_by() -> None:
    assert [spread(LLAMA_70B, devices=devices) for devices in (1, 2, 3, 8)] == [1, 2, 2, 8]
    assert spread(ModelFacts(parameters=1), devices=8) == 8


def test_every_device_has_to_hold_its_share_and_what_all_of_them_need() -> None:
    one = estimate(LLAMA_70B, precision="bfloat16", family="cuda", concurrency=1)
    four = estimate(LLAMA_70B, precision="bfloat16", family="cuda", concurrency=1, devices=4)
    assert (four.weights, four.kv_cache) == (one.weights, one.kv_cache)
    assert (four.framework, four.activations) == (4 * one.framework, 4 * one.activations)
    # The sum of four 40 GiB cards would hold 147 GiB with the band, one of them does not hold a quarter.
    assert not fits(four, device_bytes=40 * GIB)
    assert fits(four, device_bytes=45 * GIB)
    assert not fits(one, device_bytes=80 * GIB)


def test_devices_beyond_the_key_value_heads_hold_copies() -> None:
    eight, sixteen = (
        estimate(LLAMA_70B, precision="bfloat16", family="cuda", devices=devices) for devices in (8, 16)
    )
    assert (eight.kv_devices, sixteen.kv_devices) == (8, 8)
    assert sixteen.kv_cache == 2 * eight.kv_cache


def test_a_recipes_own_bound_counts_when_it_is_higher() -> None:
    assert fits(estimate(), device_bytes=3 * GIB)
    assert not fits(estimate(), device_bytes=3 * GIB, min_bytes=3 * GIB + 1)


def test_the_longest_context_and_the_most_requests_just_fit() -> None:
    shape = ServingShape(facts=SMOLLM2, precision="float32", family="cpu")
    context = longest_context(shape, concurrency=64, device_bytes=4 * GIB, below=8192)
    assert context == 768
    assert fits(estimate(context_length=context, concurrency=64), device_bytes=4 * GIB)
    assert not fits(estimate(context_length=context + 256, concurrency=64), device_bytes=4 * GIB)
    requests = most_concurrency(shape, context_length=8192, device_bytes=4 * GIB, below=64)
    assert fits(estimate(context_length=8192, concurrency=requests), device_bytes=4 * GIB)
    assert not fits(estimate(context_length=8192, concurrency=requests + 1), device_bytes=4 * GIB)


def test_no_context_helps_where_the_weights_alone_are_too_large() -> None:
    shape = ServingShape(facts=LLAMA_70B, precision="bfloat16", family="cuda")
    assert longest_context(shape, concurrency=1, device_bytes=80 * GIB, below=8192) == 0


def test_a_model_that_hears_is_sized_by_windows_of_sound():
    whisper_base = ModelFacts(
        parameters=72_593_920,
        layers=6,
        hidden_size=512,
        attention_heads=8,
        kv_heads=8,
        head_size=64,
        vocabulary=51_865,
        context_length=448,
        generates=False,
        hears=True,
    )
    shape = ServingShape(facts=whisper_base, precision="int8", family="cpu")
    estimate = estimate_serving(shape, context_length=448, concurrency=8)
    # The peak of a server that heard eight whole windows at once.
    assert estimate.low <= 1427 * 2**20 <= estimate.high
    assert estimate == estimate_serving(shape, context_length=448, concurrency=64)
