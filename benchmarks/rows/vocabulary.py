"""Log-probabilities under a vocabulary of 128,256 words, width 1,024, 2,048 positions, beside full logits."""

from __future__ import annotations

from functools import cache, partial

import torch

from benchmarks.frame.floors import fast_dtype
from benchmarks.frame.meters import no_peak_memory
from benchmarks.frame.row import Contest, Options, Row, Target, Way, time_at_most
from benchmarks.peers.transformers_passes import token_log_probs
from benchmarks.subjects.models import Model, new_folder, write_llama
from benchmarks.subjects.passes import built, pass_way
from lightning_gfn.padding import pad_steps

VOCABULARY, WIDTH, NUM_ROWS, LENGTH, FIRST_WORD = 128_256, 1024, 8, 256, 3


@cache
def wide_llama() -> Model:
    """One layer with a small feed-forward part, so that the output layer is nearly all the work."""
    folder = new_folder()
    write_llama(
        folder, vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=8, tie_word_embeddings=True,
    )  # fmt: skip
    return Model("one layer, 128,256 words", folder, tuple(f"w{i}" for i in range(FIRST_WORD, 1000)))


def contest(frozen: bool, options: Options) -> Contest:
    """8 rows of 256 positions, weights in the processor's fastest type, the output layer trained or frozen."""
    dtype = str(fast_dtype()).removeprefix("torch.")
    policy = built(wide_llama(), 1, LENGTH, dtype=dtype)
    network = policy.hugging_face
    network.get_input_embeddings().weight.requires_grad_(not frozen)  # tied: the output layer as well
    generator = torch.Generator().manual_seed(0)
    ids_BS = torch.randint(FIRST_WORD, VOCABULARY, (NUM_ROWS, 1 + LENGTH), generator=generator)
    steps = pad_steps(ids_BS[:, :1].tolist(), ids_BS[:, 1:].tolist(), "cpu")
    mask_BS = torch.ones_like(ids_BS)

    def full_logits() -> None:
        (-token_log_probs(network, ids_BS, mask_BS, LENGTH).mean()).backward()
        network.zero_grad(set_to_none=True)

    return Contest(
        ours=lambda: pass_way(policy, steps, "32-true"),
        peers={"log-softmax of full logits": lambda: Way(full_logits)},
    )


ROWS = [
    Row(
        name="vocabulary_time",
        what="forward + backward, 128,256 words, 2,048 positions",
        build=partial(contest, False),
        target=time_at_most(1.4),
        rounds=1,
        warm_up=False,
    ),
    Row(
        name="vocabulary_memory",
        what="memory added by forward + backward, 128,256 words, 2,048 positions, output layer frozen",
        build=partial(contest, True),
        target=Target(ratio=8.0, words="memory ≤ 1/8"),
        meter="added_bytes",
        rounds=1,
        warm_up=False,
        needs=[no_peak_memory],
    ),
]
