"""Sampling from encoder-decoder models: ``Seq2SeqLM.sample`` beside ``generate`` of transformers.

A byte-level T5 of ByT5's kind (gated, a decoder of a third of the encoder's layers), contexts of 50 to 300 bytes, all
actions of exactly 40 tokens. The contexts of 32 rows all differ, as the states of a proof do, or are 4 with 8 samples
each.
"""

from __future__ import annotations

import random
from functools import partial

import torch

from benchmarks.frame.row import Contest, Options, Row, Way
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

NEW_TOKENS, SHORTEST, LONGEST, NUM_SHARED, NUM_ROWS, WIDTH = 40, 50, 300, 4, 32, 128


def make_policy() -> Seq2SeqLM:
    """A policy whose actions all have ``NEW_TOKENS`` tokens."""
    policy = Seq2SeqLM(
        config={
            "model_type": "t5",
            "d_model": WIDTH,
            "d_kv": WIDTH // 4,
            "d_ff": 2 * WIDTH,
            "num_layers": 6,
            "num_decoder_layers": 2,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        max_prompt_tokens=LONGEST + 1,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
    )
    policy.build([])
    return policy.eval()


def make_contexts(policy: Seq2SeqLM, distinct: bool) -> list[list[int]]:
    """Contexts of many lengths."""
    words = random.Random(0)
    count = NUM_ROWS if distinct else NUM_SHARED
    texts = ["".join(words.choices("abcdefgh ", k=words.randint(SHORTEST, LONGEST))) for _ in range(count)]
    return [policy.encode_prompt(text) for text in texts for _ in range(NUM_ROWS // count)]


def peer(policy: Seq2SeqLM, contexts: list[list[int]]) -> Way:
    """``generate`` on padded contexts."""
    longest = max(map(len, contexts))
    ids = torch.tensor([context + [0] * (longest - len(context)) for context in contexts])
    mask = torch.tensor([[1] * len(context) + [0] * (longest - len(context)) for context in contexts])

    def run() -> None:
        with torch.no_grad():
            output = policy.hugging_face.generate(  # type: ignore[operator]
                ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
            )  # fmt: skip
        if output[:, 1:].numel() != NUM_ROWS * NEW_TOKENS:
            raise RuntimeError("generate made another number of tokens: the comparison is void")

    return Way(run)


def contest(distinct: bool, options: Options) -> Contest:
    """32 rows of 40 new tokens."""
    policy = make_policy()
    contexts = make_contexts(policy, distinct)
    return Contest(
        ours=lambda: Way(lambda: policy.sample(contexts, torch.rand(NUM_ROWS, NEW_TOKENS + 1))),
        peers={"generate": lambda: peer(policy, contexts)},
        amount=NUM_ROWS * NEW_TOKENS,
        unit="tok",
    )


ROWS = [
    Row(
        name=f"sampling_t5_{'distinct' if distinct else 'shared'}",
        what=f"sampling, small T5, {NUM_ROWS if distinct else NUM_SHARED} contexts, 32 rows, fp32",
        build=partial(contest, distinct),
    )
    for distinct in (True, False)
]
