"""Sampling: ``CausalLM.sample`` beside ``generate`` of transformers at the best of its settings, the same tokens."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import torch

from benchmarks.frame.floors import read_floor
from benchmarks.frame.row import Contest, Options, Row, Target, Way
from benchmarks.peers.generate import generate_ways
from benchmarks.subjects.models import needs_smollm2, small_llama, smollm2
from benchmarks.subjects.passes import random_ids
from lightning_gfn.policies import decoder_factory

PROMPT_TOKENS, NUM_PROMPTS = 32, 4
MODELS = {"small": small_llama, "smollm2": smollm2}
NEW_TOKENS, FEW_TOKENS = 64, 16
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
EXAMPLE_TOKENS, QUESTIONS, ANSWER_TOKENS = 256, 16, 4
LABELS = {"small": "small Llama", "smollm2": "SmolLM2-135M"}


def bytes_read(network: Any, rows: int, new_tokens: int) -> float:
    """Weights once for each token, embeddings aside, and the keys and values of all rows so far."""
    config, itemsize = network.config.get_text_config(), network.dtype.itemsize
    weights = sum(p.numel() for p in network.parameters())
    if not config.tie_word_embeddings:
        weights -= network.get_input_embeddings().weight.numel()
    head_size = config.hidden_size // config.num_attention_heads
    per_position = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size
    positions = sum(PROMPT_TOKENS + done for done in range(new_tokens))
    return float(itemsize * (new_tokens * weights + rows * positions * per_position))


def contest(name: str, rows: int, dtype: str, options: Options) -> Contest:
    """4 prompts of 32 tokens; 64 new tokens, of the real model 16 by default; ``--full`` tries compiling, too."""
    model = MODELS[name]()
    few = name == "smollm2" and not options.full
    new_tokens = FEW_TOKENS if few else NEW_TOKENS
    policy = model.policy(PROMPT_TOKENS, new_tokens, dtype=DTYPES[dtype])
    policy.build([])
    policy.eval()
    contexts = [ids for ids in random_ids(model, NUM_PROMPTS, PROMPT_TOKENS) for _ in range(rows // NUM_PROMPTS)]

    def ours() -> None:
        sampled = policy.sample(contexts, torch.rand(rows, new_tokens + 1))
        if int(sampled.action_mask_NT.sum()) != rows * new_tokens:
            raise RuntimeError("we made another number of tokens: the comparison is void")

    network = policy.hugging_face
    return Contest(
        ours=lambda: Way(ours),
        peers=generate_ways(network, torch.tensor(contexts), new_tokens, compiled=options.full),
        amount=rows * new_tokens,
        unit="tok",
        floor=lambda: read_floor(bytes_read(network, rows, new_tokens)),
    )


def nearly_certain(options: Options) -> Contest:
    """64 rows of 4 prompts at temperature 0.01, beside the same rows decoded each by itself."""
    model, new_tokens = smollm2(), NEW_TOKENS if options.full else FEW_TOKENS
    policy = model.policy(PROMPT_TOKENS, new_tokens)
    policy.build([])
    policy.eval()
    contexts = [ids for ids in random_ids(model, NUM_PROMPTS, PROMPT_TOKENS) for _ in range(16)]
    uniforms = torch.rand(len(contexts), new_tokens + 1, generator=torch.Generator().manual_seed(0))

    def sample() -> None:
        policy.sample(contexts, uniforms, temperature_N=torch.full((len(contexts),), 0.01))

    def each_by_itself() -> None:
        with mock.patch.object(decoder_factory, "MergedRows", lambda inner: inner):
            sample()

    return Contest(
        ours=lambda: Way(sample),
        peers={"ours, each row by itself": lambda: Way(each_by_itself)},
        amount=len(contexts) * new_tokens,
        unit="tok",
    )


def few_shot(options: Options) -> Contest:
    """16 questions of 32 tokens, each behind the same examples of 256, with answers of 4; ``--full`` tries SmolLM2."""
    model = smollm2() if options.full else small_llama()
    policy = model.policy(EXAMPLE_TOKENS + PROMPT_TOKENS, ANSWER_TOKENS)
    policy.build([])
    policy.eval()
    examples = random_ids(model, 1, EXAMPLE_TOKENS, 2)[0]
    contexts = [examples + question for question in random_ids(model, QUESTIONS, PROMPT_TOKENS)]
    uniforms = torch.rand(QUESTIONS, ANSWER_TOKENS + 1, generator=torch.Generator().manual_seed(0))
    return Contest(
        ours=lambda: Way(lambda: policy.sample(contexts, uniforms)),
        peers=generate_ways(policy.hugging_face, torch.tensor(contexts), ANSWER_TOKENS, compiled=options.full),
        amount=QUESTIONS,
        unit="answers",
    )


ROWS = [
    Row(
        name=f"sampling_{name}_{rows}_{dtype}",
        what=f"sampling, {LABELS[name]}, {rows} rows, {dtype}",
        build=partial(contest, name, rows, dtype),
        target=Target(ratio=3.0, share=0.6 if rows == 16 else None),
        rounds=3 if name == "small" else 2 - (dtype == "fp32"),
        needs=[needs_smollm2] if name == "smollm2" else [],
        by_name_only=(name, rows, dtype) == ("smollm2", 64, "fp32"),  # minutes
    )
    for name in MODELS
    for rows in (16, 64)
    for dtype in DTYPES
] + [
    Row(
        name="sampling_nearly_certain",
        what="sampling, SmolLM2-135M: 64 rows of 4 prompts at temperature 0.01",
        build=nearly_certain,
        target=Target(ratio=2.0),
        rounds=2,
        needs=[needs_smollm2],
    ),
    Row(
        name="sampling_few_shot",
        what="sampling, small Llama: 16 questions behind the same 256 tokens of examples",
        build=few_shot,
        target=Target(ratio=4.0),
    ),
]
