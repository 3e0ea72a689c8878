"""Training passes: a real model beside transformers, a prompt that many answers share, and answers of many lengths."""

from __future__ import annotations

import random
from functools import partial

import torch

from benchmarks.frame.floors import training_floor
from benchmarks.frame.row import Contest, Options, Row, Target
from benchmarks.peers import transformers_passes
from benchmarks.subjects.models import needs_smollm2, small_llama, smollm2
from benchmarks.subjects.passes import built, pass_way, random_ids
from benchmarks.subjects.training import best_precision
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16

CONTEXT_TOKENS, ACTION_TOKENS = 32, 96
SHARED_PROMPT, SHARED_ROWS, SHORT_ANSWER = 256, 64, 4
ALIKE_PROMPT, ALIKE_ROWS = 64, 256
MEAN_LENGTH, LONGEST, SIGMA, LENGTH_ROWS = 64, 256, 1.0, 32


def real_model(lora: bool, options: Options) -> Contest:
    """Rows of 128 tokens, of which 96 are scored: 8 of them, by default 4."""
    model, rows = smollm2(), 8 if options.full else 4
    ids = random_ids(model, rows, CONTEXT_TOKENS + ACTION_TOKENS)
    policy = built(model, CONTEXT_TOKENS, ACTION_TOKENS, lora=lora)
    steps = pad_steps([row[:CONTEXT_TOKENS] for row in ids], [row[CONTEXT_TOKENS:] for row in ids], "cpu")
    tokens = rows * (CONTEXT_TOKENS + ACTION_TOKENS)
    narrow = cpu_has_bfloat16() and not options.full
    tried = ("bf16 autocast", "bf16 weights") if narrow else transformers_passes.PRECISIONS
    return Contest(
        ours=lambda: pass_way(policy, steps, best_precision()),
        peers=transformers_passes.pass_ways(model, torch.tensor(ids), ACTION_TOKENS, lora=lora, precisions=tried),
        amount=tokens,
        unit="tok",
        floor=lambda: training_floor(policy.hugging_face, tokens, frozen=lora),
    )


def shared_prompt(options: Options) -> Contest:
    """64 answers of 4 tokens after one prompt of 256, beside a pass over the prompt for each answer.

    Ours makes such a pass if the prompts differ, so that nothing can be shared; ``--full`` tries transformers as well.
    """
    model = smollm2() if options.full else small_llama()
    policy = built(model, SHARED_PROMPT, SHORT_ANSWER)
    prompts, answers = random_ids(model, SHARED_ROWS, SHARED_PROMPT), random_ids(model, SHARED_ROWS, SHORT_ANSWER, 2)
    shared, apart = pad_steps(prompts[:1] * SHARED_ROWS, answers, "cpu"), pad_steps(prompts, answers, "cpu")
    ids_BS = torch.cat([shared.context_ids_NC, shared.action_ids_NT], 1)
    peers = {"ours, prompts that differ": lambda: pass_way(policy, apart, best_precision())}
    if options.full:
        peers |= transformers_passes.pass_ways(model, ids_BS, SHORT_ANSWER, attentions=("sdpa",))
    return Contest(
        ours=lambda: pass_way(policy, shared, best_precision()),
        peers=peers,
    )


def alike_answers(options: Options) -> Contest:
    """256 numbers of one to three digits after one prompt of 64, beside answers of these lengths that share nothing."""
    model = smollm2() if options.full else small_llama()
    policy = built(model, ALIKE_PROMPT, 3)
    prompt, digits = random_ids(model, 1, ALIKE_PROMPT), [ids[0] for ids in random_ids(model, 10, 1, 2)]
    generator = random.Random(0)
    alike = [[digits[int(digit)] for digit in str(generator.randint(0, 100))] for _ in range(ALIKE_ROWS)]
    others = random_ids(model, ALIKE_ROWS, 3, 3)
    apart = [other[: len(answer)] for other, answer in zip(others, alike, strict=True)]
    steps, distinct = (pad_steps(prompt * ALIKE_ROWS, answers, "cpu") for answers in (alike, apart))
    return Contest(
        ours=lambda: pass_way(policy, steps, best_precision()),
        peers={"ours, answers that differ": lambda: pass_way(policy, distinct, best_precision())},
    )


def lengths(rows: int) -> list[int]:
    """Log-normal lengths with mean 64, at most 256; one of them is 256."""
    generator = random.Random(0)
    mu = torch.tensor(float(MEAN_LENGTH)).log().item() - 0.5 * SIGMA**2
    drawn = [min(LONGEST, max(1, round(generator.lognormvariate(mu, SIGMA)))) for _ in range(rows - 1)]
    return [LONGEST, *drawn]


def variable_lengths(options: Options) -> Contest:
    """Answers of many lengths beside the same ones filled up to the longest."""
    model = smollm2() if options.full else small_llama()
    policy = built(model, CONTEXT_TOKENS, LONGEST)
    prompts, answers = random_ids(model, LENGTH_ROWS, CONTEXT_TOKENS), random_ids(model, LENGTH_ROWS, LONGEST, 2)
    cut = [answer[:length] for answer, length in zip(answers, lengths(LENGTH_ROWS), strict=True)]
    ragged, padded = pad_steps(prompts, cut, "cpu"), pad_steps(prompts, answers, "cpu")
    tokens = int(ragged.context_mask_NC.sum() + ragged.action_mask_NT.sum())
    return Contest(
        ours=lambda: pass_way(policy, ragged, best_precision()),
        peers={"ours, all as long as the longest": lambda: pass_way(policy, padded, best_precision())},
        amount=tokens,
        unit="real tok",
        floor=lambda: training_floor(policy.hugging_face, tokens),
    )


ROWS = [
    Row(
        name=f"training_pass_smollm2_{'lora' if lora else 'full'}",
        what=f"forward + backward, SmolLM2-135M{', LoRA rank 16' if lora else ''}, rows of 128 tokens",
        build=partial(real_model, lora),
        target=Target(ratio=2.0, share=0.45),
        rounds=2,
        needs=[needs_smollm2],
    )
    for lora in (False, True)
] + [
    Row(
        name="shared_prompt",
        what="forward + backward, small Llama: 64 answers of 4 tokens after one prompt of 256",
        build=shared_prompt,
        target=Target(ratio=8.0),
    ),
    Row(
        name="alike_answers",
        what="forward + backward, small Llama: 256 numbers of up to three digits after one prompt of 64",
        build=alike_answers,
        target=Target(ratio=2.0),
    ),
    Row(
        name="variable_lengths",
        what="forward + backward, small Llama: 32 answers, log-normal lengths, mean 64, longest 256",
        build=variable_lengths,
        target=Target(ratio=1.7),
    ),
]
