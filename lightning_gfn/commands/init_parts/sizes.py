"""Lengths measured in the model's tokens, and batches that fit this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_gfn.commands.doctor_parts.machine import GIB, Device, products_per_second
from lightning_gfn.commands.init_parts.data_facts import DataFacts
from lightning_gfn.commands.init_parts.model_facts import ModelFacts

MEASURED = 20_000
"""Texts that are encoded at most."""
STEP = 16
"""Lengths are rounded up to multiples of it."""
DEFAULT_NEW_TOKENS = 256
THEOREM_PROMPT, TACTIC = 640, 64
"""Tokens of a state as ``ProofPrompt`` cuts it (bytes at worst), and of a tactic."""
ROOM = 1.25
"""Completions that are sampled may be so much longer than reference solutions."""
LEAST_STEPS, MOST_STEPS = 5, 200
"""Optimiser steps of a first try."""
REACHED = 0.5
"""Share of the measured speed that a model reaches."""
FIRST_TRY_SECONDS = 600
"""What the steps of a first try may take, roughly."""
LEAST_SAMPLED = 128
"""Tokens that a model may always use to answer in its own words."""
LARGE = 50_000_000
"""Parameters from which a processor is slow enough to take few rows and steps."""
BYTES_PER_PARAMETER = 24
"""Weights, gradients and two moments of AdamW in float32, the frozen reference, and the copy that samples."""
BYTES_WITH_LORA = 6
"""A frozen base in bfloat16, and the copy that samples."""
ACTIVATIONS = 80
"""Bytes that a layer keeps for a token and a unit of its width, for the backward pass."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and completions.

    Args:
        max_prompt: longest prompt that is taken.
        max_new: longest completion.
        prompt_note: where the first number comes from.
        new_note: where the second comes from.
    """

    max_prompt: int
    max_new: int
    prompt_note: str
    new_note: str


@dataclass(frozen=True)
class Sizes:
    """What fits the machine.

    Args:
        batch_size: problems of a training batch.
        num_samples: completions of each.
        max_steps: optimiser steps of a first try.
        max_test: problems of the test.
        lora: only an adapter is trained.
        seconds: rough estimate of an optimiser step; None if nothing was measured.
        note: what the sizes rest on.
    """

    batch_size: int
    num_samples: int
    max_steps: int
    max_test: int
    lora: bool
    seconds: float | None
    note: str


def quantile(values: Sequence[int], share: float) -> int:
    """The smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def rounded(value: float) -> int:
    """Up to a multiple of 16."""
    return max(STEP, math.ceil(value / STEP) * STEP)


def measured_speed(device: Device) -> float | None:
    """Floating-point operations a second of a processor in float32; None for GPUs, which are not waited for."""
    import torch

    return products_per_second(torch.float32) * torch.get_num_threads() if device.kind == "cpu" else None


def measure_lengths(model: ModelFacts, facts: DataFacts, *, samples: bool) -> Lengths:
    """Lengths by quantiles of the file, within the positions of the model.

    Every prompt of the file is to fit; of reference solutions nearly all.

    Args:
        model: whose tokens are counted.
        facts: of the data.
        samples: completions are sampled, and may be longer than solutions.

    Raises:
        ValueError: the longest prompt leaves the model no room to answer.
    """
    if facts.guessed.kind == "theorems":
        return theorem_lengths(model)
    prompts = [one.prompt for one in (*facts.train, *facts.test, *facts.examples)]
    lengths = [len(model.codec.encode_prompt(prompt)) for prompt in prompts[:MEASURED]]
    longest = max(lengths)
    max_prompt = rounded(longest)
    prompt_note = (
        f"the longest of {len(prompts)} prompts has {longest} tokens, half have at most {quantile(lengths, 0.5)}"
    )
    max_new, new_note = new_tokens(model, facts.solutions, samples=samples)
    if model.positions is not None and not model.is_seq2seq and max_prompt + max_new > model.positions:
        max_new = model.positions - max_prompt
        new_note = f"what the {model.positions} positions of the model leave"
        if max_new < STEP:
            raise ValueError(
                f"a prompt has {longest} tokens, and the model only {model.positions} positions: shorten it"
            )
    return Lengths(max_prompt, max_new, prompt_note, new_note)


def new_tokens(model: ModelFacts, solutions: Sequence[str], *, samples: bool) -> tuple[int, str]:
    """Tokens of the longest completion, and where the number comes from."""
    if not solutions:
        return DEFAULT_NEW_TOKENS, "the file has no solutions to measure; raise it if many samples are cut"
    sizes = [len(model.codec.encode_completion(text)) for text in solutions[:MEASURED]]
    share, room = (0.95, ROOM) if samples else (1.0, 1.0)
    reached = quantile(sizes, share)
    covered = f"{share:.0%} of {len(solutions)} solutions have at most {reached} tokens"
    most = max(rounded(reached * room + 1), LEAST_SAMPLED if samples else 0)
    return most, covered + ("; a model's own words may take a quarter more, and 128" if samples else "")


def theorem_lengths(model: ModelFacts) -> Lengths:
    """Lengths of states and tactics."""
    longest = THEOREM_PROMPT
    if model.positions is not None and not model.is_seq2seq:
        longest = min(longest, model.positions - TACTIC)
    note = "a state is cut at 400 characters, the tactics so far at 200"
    return Lengths(longest, TACTIC, note, "of one tactic; a proof has up to proving.max_steps of them")


def step_seconds(model: ModelFacts, lengths: Lengths, rows: int, speed: float, *, samples: bool) -> float:
    """Rough time of an optimiser step: 2 operations a parameter and token to read, 6 to learn, and decoding one token
    at a time at a quarter of the speed.

    Args:
        model: its size.
        lengths: of prompts and completions.
        rows: of a training batch.
        speed: floating-point operations a second.
        samples: the method samples and scores under a reference.
    """
    tokens = lengths.max_prompt + lengths.max_new
    work = 6 * tokens + (2 * tokens + 2 * 4 * lengths.max_new if samples else 0)
    return rows * work * model.parameters / (REACHED * speed)


def fitting_sizes(
    model: ModelFacts, device: Device, lengths: Lengths, rows: int, *, samples: bool, speed: float | None
) -> Sizes:
    """Batches and steps for a first try on a machine.

    Args:
        model: its size.
        device: its memory.
        lengths: of prompts and completions.
        rows: training rows.
        samples: the method draws several completions of each problem.
        speed: floating-point operations a second; None if nobody measured.
    """
    count, memory = model.parameters, 0.8 * device.memory
    lora = count * BYTES_PER_PARAMETER > memory
    static = count * (BYTES_WITH_LORA if lora else BYTES_PER_PARAMETER)
    tokens = lengths.max_prompt + lengths.max_new
    of_row = tokens * (model.layers * model.width * ACTIVATIONS + 8 * min(model.vocabulary, 2**25 // tokens))
    fitting = max(1, int((memory - static) / of_row))
    slow = device.kind == "cpu" and count > LARGE
    wanted = 8 if slow else 64 if device.kind != "cpu" else 32
    num_samples = (4 if slow else 8) if samples else 1
    total = min(fitting, wanted)
    num_samples = max(2, min(num_samples, total)) if samples else 1
    batch_size = max(1, min(total // num_samples, rows))
    taken = batch_size * num_samples
    seconds = step_seconds(model, lengths, taken, speed, samples=samples) if speed is not None else None
    how = "an adapter (LoRA) on a bfloat16 base" if lora else "all weights are trained"
    note = (
        f"{count / 1e6:.3g} million parameters, {device.memory / GIB:.0f} GiB free ({device.kind}, {device.name}): "
        f"{how}; about {fitting} rows of {tokens} tokens fit, {taken} are taken."
        + ("" if static < memory else " It is unlikely to fit: take a smaller model, or a GPU.")
        + (f" A step may take about {max(1.0, seconds):.0f} s here." if seconds is not None else "")
    )
    steps = MOST_STEPS if seconds is None else int(min(MOST_STEPS, max(LEAST_STEPS, FIRST_TRY_SECONDS / seconds)))
    return Sizes(batch_size, num_samples, steps, 16 if slow else 128, lora, seconds, note)


def learning_rate(model: ModelFacts, sizes: Sizes, method: str) -> float:
    """A careful learning rate: larger for adapters, for supervised training and for small models."""
    if model.parameters < LARGE // 5:
        return 1e-3 if method == "sft" else 5e-4
    if sizes.lora:
        return 1e-4 if method == "sft" else 1e-5
    return 3e-5 if method == "sft" else 5e-6
