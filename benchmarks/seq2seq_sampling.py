"""Sampling from encoder-decoder models: ``Seq2SeqLM.sample`` beside ``generate`` of transformers, one thread, in turn.

A byte-level T5 of ByT5's kind (gated, a decoder of a third of the encoder's layers), contexts of 50 to 300 bytes, all
actions of exactly 40 tokens. ``distinct`` contexts are as in a proof, where the states of all rows differ; otherwise 4
contexts have equally many samples each. Speeds count new tokens.
Run alone: ``python benchmarks/seq2seq_sampling.py [--repeats 7] [--output seq2seq_sampling.json]``.
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

from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

NEW_TOKENS, SHORTEST, LONGEST, NUM_SHARED = 40, 50, 300, 4
SETTINGS = [(64, 8, True), (128, 8, True), (128, 32, True), (128, 32, False), (128, 100, True), (256, 32, True)]
"""Width, rows, distinct contexts."""


def make_policy(width: int, decoder: str) -> Seq2SeqLM:
    """A policy whose actions all have ``NEW_TOKENS`` tokens."""
    policy = Seq2SeqLM(
        config={
            "model_type": "t5",
            "d_model": width,
            "d_kv": width // 4,
            "d_ff": 2 * width,
            "num_layers": 6,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        max_prompt_tokens=LONGEST + 1,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        decoder=decoder,  # type: ignore[arg-type]
    )
    torch.manual_seed(0)
    policy.build([])
    return policy.eval()


def make_contexts(policy: Seq2SeqLM, rows: int, distinct: bool) -> list[list[int]]:
    """Contexts of many lengths."""
    words = random.Random(0)
    count = rows if distinct else NUM_SHARED
    texts = ["".join(words.choices("abcdefgh ", k=words.randint(SHORTEST, LONGEST))) for _ in range(count)]
    return [policy.encode_prompt(text) for text in texts for _ in range(rows // count)]


def competitors(width: int, rows: int, distinct: bool) -> dict[str, Callable[[], int]]:
    """The ways to sample; each returns how many tokens it made."""
    policies = {decoder: make_policy(width, decoder) for decoder in ("fused", "hugging_face")}
    contexts = make_contexts(policies["fused"], rows, distinct)
    longest = max(map(len, contexts))
    ids = torch.tensor([context + [0] * (longest - len(context)) for context in contexts])
    mask = torch.tensor([[1] * len(context) + [0] * (longest - len(context)) for context in contexts])

    def sampler(policy: Seq2SeqLM) -> Callable[[], int]:
        return lambda: int(policy.sample(contexts, torch.rand(rows, NEW_TOKENS + 1)).action_mask_NT.sum())

    def peer() -> int:
        with torch.no_grad():
            output = policies["fused"].hugging_face.generate(  # type: ignore[operator]
                ids,
                attention_mask=mask,
                do_sample=True,
                top_k=0,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
            )
        return int(output[:, 1:].numel())

    return {**{name: sampler(policy) for name, policy in policies.items()}, "transformers": peer}


def measure(width: int, rows: int, distinct: bool, repeats: int) -> dict[str, Any]:
    """Median tokens a second of each way, runs taken in turn, and the median of the ratios of neighbouring runs."""
    ways = competitors(width, rows, distinct)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            made = way()
            elapsed = time.perf_counter() - start
            if made != rows * NEW_TOKENS:
                raise RuntimeError(f"{name} made {made} tokens instead of {rows * NEW_TOKENS}: the comparison is void")
            if repeat > 0:
                seconds[name].append(elapsed)
    ratios = [peer / ours for ours, peer in zip(seconds["fused"], seconds["transformers"], strict=True)]
    return {
        "width": width,
        "rows": rows,
        "distinct": distinct,
        "tokens_per_second": {name: rows * NEW_TOKENS / statistics.median(values) for name, values in seconds.items()},
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
    rows = [measure(*setting, arguments.repeats) for setting in SETTINGS]
    print("| width | rows | contexts | transformers, tokens/s | hugging_face | fused | ratio (range) |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        speed, (low, high) = row["tokens_per_second"], row["ratio_range"]
        print(
            f"| {row['width']} | {row['rows']} | {'distinct' if row['distinct'] else NUM_SHARED} "
            f"| {speed['transformers']:.0f} | {speed['hugging_face']:.0f} | {speed['fused']:.0f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    text = json.dumps({"torch": torch.__version__, "threads": 1, "rows": rows})
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
