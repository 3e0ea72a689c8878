"""Steps of SmolLM2-135M beside TRL's GRPOTrainer at the best of its settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.frame.row import Contest, Options, Row, Target, Way
from benchmarks.peers import trl_trainers
from benchmarks.rows.grpo import step_floor
from benchmarks.subjects.models import needs_smollm2, smollm2
from benchmarks.subjects.training import best_precision, grpo_way, subtb_way
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16

WAYS = {"grpo": grpo_way, "subtb": subtb_way}


def settings_tried(options: Options) -> tuple[str, ...]:
    """All three with ``--full``; by default those that can be the best on this processor."""
    narrow = ("TRL, bf16 weights", "TRL, bf16 autocast")
    if options.full:
        return (*narrow, "TRL, fp32")
    return narrow if cpu_has_bfloat16() else ("TRL, fp32",)


def contest(method: str, lora: bool, options: Options) -> Contest:
    """8 prompts × 8 with 96 new tokens; by default 2 × 4 with 32."""
    model = smollm2()
    shape, lengths = ((8, 8), (64, 96)) if options.full else ((2, 4), (64, 32))

    def peer(setting: str) -> Callable[[], Way]:
        settings = trl_trainers.SETTINGS[setting]
        return lambda: trl_trainers.grpo_way(model, shape, lengths, settings, threads=options.threads, lora=lora)

    return Contest(
        ours=lambda: WAYS[method](model, shape, lengths, best_precision(), threads=options.threads, lora=lora),
        peers={setting: peer(setting) for setting in settings_tried(options)},
        floor=lambda: step_floor(model, shape[0] * shape[1], lengths, frozen=lora),
        settings_of=f"TRL's GRPOTrainer, SmolLM2-135M, lora={lora}",
    )


ROWS = [
    Row(
        name=f"{method}_smollm2_{'lora' if lora else 'full'}",
        what=f"{label} step, SmolLM2-135M{', LoRA rank 16' if lora else ''}, prompt 64",
        build=partial(contest, method, lora),
        target=Target(ratio=4.0),
        rounds=2 if method == "grpo" else 1,
        needs=[needs_smollm2, trl_trainers.NEEDS_TRL],
    )
    for lora in (False, True)
    for method, label in (("grpo", "GRPO"), ("subtb", "SubTB"))
]
