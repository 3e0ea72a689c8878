"""A GRPO step of a small Llama (sample, reward, loss, update) beside TRL's GRPOTrainer, and as lengths double."""

from __future__ import annotations

from functools import partial

from benchmarks.frame.floors import fast_dtype, linear_shapes, product_seconds, training_products
from benchmarks.frame.row import Contest, Floor, Options, Row, Target, Way, time_at_most
from benchmarks.peers import trl_trainers
from benchmarks.subjects.models import Model, small_llama
from benchmarks.subjects.training import best_precision, grpo_way

SHAPE, DOUBLING_SHAPE, PROMPT_TOKENS = (4, 4), (1, 4), 32
TARGETS = {"TRL, defaults": 4.0, "TRL, bf16 weights": 2.5, "TRL, fp32": 2.5}


def step_floor(model: Model, rows: int, lengths: tuple[int, int], *, frozen: bool = False) -> Floor:
    """The matrix products of a step: one per layer and new token with all rows, then a training pass."""
    from transformers import AutoModelForCausalLM

    network, dtype = AutoModelForCausalLM.from_pretrained(model.folder), fast_dtype()
    decode = sum(n * product_seconds(rows, a, b, dtype) for (a, b), n in linear_shapes(network).items())
    training = training_products(network, rows * sum(lengths), dtype, frozen=frozen)
    return Floor(f"matrix products {1e3 * (lengths[1] * decode + training):.0f} ms", lengths[1] * decode + training)


def against_trl(setting: str, new_tokens: int, options: Options) -> Contest:
    """Ours in float32 beside TRL in float32, else in the faster precision."""
    model, lengths = small_llama(), (PROMPT_TOKENS, new_tokens)
    precision = "32-true" if setting == "TRL, fp32" else best_precision()
    settings = trl_trainers.SETTINGS[setting]
    return Contest(
        ours=lambda: grpo_way(model, SHAPE, lengths, precision, threads=options.threads),
        peers={setting: lambda: trl_trainers.grpo_way(model, SHAPE, lengths, settings, threads=options.threads)},
        floor=lambda: step_floor(model, SHAPE[0] * SHAPE[1], lengths),
    )


def doubled(new_tokens: int, options: Options) -> Contest:
    """Our step with twice the new tokens beside our step."""
    model = small_llama()

    def way(length: int) -> Way:
        return grpo_way(model, DOUBLING_SHAPE, (PROMPT_TOKENS, length), best_precision(), threads=options.threads)

    return Contest(ours=lambda: way(2 * new_tokens), peers={f"{new_tokens} tokens": lambda: way(new_tokens)})


ROWS = [
    Row(
        name=f"grpo_small_{tokens}_{setting.removeprefix('TRL, ').replace(' ', '_')}",
        what=f"GRPO step, small Llama, {tokens} new tokens",
        build=partial(against_trl, setting, tokens),
        target=Target(ratio=least),
        needs=[trl_trainers.NEEDS_TRL],
    )
    for setting, least in TARGETS.items()
    for tokens in (64, 128)
]
DOUBLING_ROWS = [
    Row(
        name=f"step_doubling_{2 * tokens}",
        what=f"GRPO step, small Llama, {2 * tokens} new tokens beside {tokens}",
        build=partial(doubled, tokens),
        target=time_at_most(2.3),
        rounds=2,
    )
    for tokens in (64, 128, 256, 512)
]
