"""GPT-2, Gemma and T5: training passes and sampling beside transformers, random weights, vocabulary 4096.

A training pass reads 16 answers of 16 to 64 tokens, four to each of four prompts of 96 tokens, as a training step on
samples does; sampling gives 64 tokens to 16 rows of four prompts.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import torch

from benchmarks.frame.row import Contest, Options, Row, Target, Way
from benchmarks.peers import family_passes
from benchmarks.peers.generate import generate_ways
from benchmarks.subjects.models import VOCABULARY
from benchmarks.subjects.passes import pass_way
from benchmarks.subjects.training import best_precision
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

PROMPTS, SAMPLES, PROMPT_TOKENS, SHORTEST, LONGEST = 4, 4, 96, 16, 64
BYTES = 256
"""Tokens that texts of bytes may hold."""
GEMMA = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 1088,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 1088,
    },
    "gemma": {"model_type": "gemma", **GEMMA},
    "gemma2": {"model_type": "gemma2", **GEMMA},
    "gemma3": {"model_type": "gemma3_text", **GEMMA},
    "t5": {
        "model_type": "t5", "vocab_size": VOCABULARY, "d_model": 256, "d_kv": 64, "d_ff": 688, "num_layers": 4,
        "num_heads": 4, "feed_forward_proj": "gated-gelu",
    },
}  # fmt: skip


def make_policy(name: str, min_new_tokens: int) -> CausalLM | Seq2SeqLM:
    """A policy with weights, without dropout."""
    kind = Seq2SeqLM if name == "t5" else CausalLM
    torch.manual_seed(0)
    policy = kind(
        config=CONFIGS[name], max_prompt_tokens=PROMPT_TOKENS, max_new_tokens=LONGEST, min_new_tokens=min_new_tokens
    )
    policy.build([])
    policy.set_dropout(False)
    return policy


def random_tokens(draw: random.Random, length: int) -> list[int]:
    """Tokens that stand for bytes."""
    return [draw.randrange(3, BYTES) for _ in range(length)]


def training(name: str, options: Options) -> Contest:
    """Forward and backward over the answers."""
    draw, policy = random.Random(0), make_policy(name, 0).train()
    prompts = [random_tokens(draw, PROMPT_TOKENS) for _ in range(PROMPTS)]
    answers = [random_tokens(draw, draw.randint(SHORTEST, LONGEST)) for _ in range(PROMPTS * SAMPLES)]
    steps = pad_steps([prompt for prompt in prompts for _ in range(SAMPLES)], answers, "cpu")
    precisions = ("fp32", "bf16 autocast") if cpu_has_bfloat16() else ("fp32",)
    return Contest(
        ours=lambda: pass_way(policy, steps, best_precision()),
        peers=family_passes.pass_ways(policy.hugging_face, steps, precisions),
        amount=float(steps.action_mask_NT.sum() + steps.context_mask_NC.sum()),
        unit="tok",
    )


def sampling(name: str, options: Options) -> Contest:
    """64 new tokens for each row."""
    draw, policy = random.Random(0), make_policy(name, LONGEST).eval()
    prompts = [random_tokens(draw, PROMPT_TOKENS) for _ in range(PROMPTS)]
    contexts = [prompt for prompt in prompts for _ in range(SAMPLES)]
    rows = len(contexts)

    def ours() -> None:
        sampled = policy.sample(contexts, torch.rand(rows, LONGEST + 1))
        if int(sampled.action_mask_NT.sum()) != rows * LONGEST:
            raise RuntimeError("we made another number of tokens: the comparison is void")

    return Contest(
        ours=lambda: Way(ours),
        peers=generate_ways(policy.hugging_face, torch.tensor(contexts), LONGEST, compiled=False),
        amount=rows * LONGEST,
        unit="tok",
    )


ROWS = [
    Row(
        name=f"training_pass_{name}",
        what=f"forward + backward, small {name}: 4 prompts of 96 tokens, 4 answers of 16 to 64 to each",
        build=partial(training, name),
        target=Target(ratio=1.0),
        rounds=3,
    )
    for name in CONFIGS
] + [
    Row(
        name=f"sampling_{name}",
        what=f"sampling, small {name}, 16 rows of 96 + 64 tokens, fp32",
        build=partial(sampling, name),
        target=Target(ratio=1.0),
        rounds=3,
    )
    for name in CONFIGS
    if name != "t5"  # sampling_t5_* are in seq2seq_sampling
]
