"""Sampling: ``CausalLM.sample`` beside ``generate`` of transformers, the same tokens, one thread, interleaved.

16 completions (4 prompts × 4) of exactly 64 and 128 tokens after prompts of 32, a Llama with 4 layers, width 256 and
4096 tokens. Run alone: ``python benchmarks/sampling.py [--repeats 7] [--output sampling.json]``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

VOCAB_SIZE, NUM_PROMPTS, NUM_SAMPLES, PROMPT_TOKENS = 4096, 4, 4, 32
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def make_policy(dtype: str, new_tokens: int) -> CausalLM:
    """A policy whose actions all have ``new_tokens`` tokens."""
    policy = CausalLM(
        config=LLAMA,
        tokenizer=TokenizerSettings(kind="bpe", vocab_size=VOCAB_SIZE),
        max_prompt_tokens=PROMPT_TOKENS,
        max_new_tokens=new_tokens,
        min_new_tokens=new_tokens,
        dtype=dtype,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    words = random.Random(0)
    policy.build([" ".join("".join(words.choices("abcdefgh", k=6)) for _ in range(200)) for _ in range(100)])
    if len(policy.tokenizer) != VOCAB_SIZE:
        raise RuntimeError(f"the tokenizer has {len(policy.tokenizer)} tokens instead of {VOCAB_SIZE}")
    return policy.eval()


def competitors(policy: CausalLM, new_tokens: int) -> dict[str, Callable[[], int]]:
    """The two ways to sample; each returns how many tokens it made."""
    prompts = torch.randint(3, VOCAB_SIZE, (NUM_PROMPTS, PROMPT_TOKENS)).repeat_interleave(NUM_SAMPLES, dim=0)
    contexts = prompts.tolist()

    def ours() -> int:
        sampled = policy.sample(contexts, torch.rand(len(contexts), new_tokens + 1))
        return int(sampled.action_mask_NT.sum())

    def peer() -> int:
        output = policy.hugging_face.generate(  # type: ignore[operator]
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=True,
            top_k=0,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
        )
        return int(output[:, PROMPT_TOKENS:].numel())

    return {"lightning_gfn": ours, "transformers": peer}


def measure(dtype: str, new_tokens: int, repeats: int) -> dict[str, Any]:
    """Median seconds of each way, runs taken in turn, and the median of the ratios of neighbouring runs."""
    ways = competitors(make_policy(dtype, new_tokens), new_tokens)
    expected = NUM_PROMPTS * NUM_SAMPLES * new_tokens
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            made = way()
            elapsed = time.perf_counter() - start
            if made != expected:
                raise RuntimeError(f"{name} made {made} tokens instead of {expected}: the comparison is void")
            if repeat > 0:
                seconds[name].append(elapsed)
    ratios = [peer / ours for ours, peer in zip(seconds["lightning_gfn"], seconds["transformers"], strict=True)]
    return {
        "dtype": dtype,
        "new_tokens": new_tokens,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    """Measure every setting; print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each way, after one warm-up")
    parser.add_argument("--output", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(dtype, n, arguments.repeats) for dtype in ("float32", "bfloat16") for n in (64, 128)]
    print("| dtype | new tokens | transformers, s | lightning_gfn, s | ratio (range) |\n|---|---|---|---|---|")
    for row in rows:
        seconds, (low, high) = row["seconds"], row["ratio_range"]
        print(
            f"| {row['dtype']} | {row['new_tokens']} | {seconds['transformers']:.3f} | {seconds['lightning_gfn']:.3f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    text = json.dumps({"torch": torch.__version__, "threads": 1, "rows": rows})
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
