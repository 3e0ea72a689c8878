"""SubTB beside the peers' way: a step in time and memory, and the loss alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.frame.meters import no_peak_memory
from benchmarks.frame.row import Contest, Options, Row, Target, Way, time_at_most
from benchmarks.peers.token_loop import step_way, subtb_loop
from benchmarks.subjects.models import small_llama
from benchmarks.subjects.training import LR, best_precision, subtb_way
from lightning_gfn.objectives.subtb import modified_subtb_loss

SHAPE, PROMPT_TOKENS = (4, 4), 32
LOSS_ROWS, CALLS = 16, 4


def step(new_tokens: int, options: Options) -> Contest:
    """16 trajectories of exactly so many tokens."""
    model, lengths, rows = small_llama(), (PROMPT_TOKENS, new_tokens), SHAPE[0] * SHAPE[1]

    def peer(precision: str) -> Callable[[], Way]:
        return lambda: step_way(model, rows, lengths, precision, LR)

    tried = ("fp32", "bf16 autocast") if options.full else ("fp32",)  # autocast casts all weights anew for each token
    return Contest(
        ours=lambda: subtb_way(model, SHAPE, lengths, best_precision(), threads=options.threads),
        peers={f"token loop, {precision}": peer(precision) for precision in tried},
        settings_of="token loop",
    )


def columns(length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random log-probabilities and rewards of rows of this length."""
    generator = torch.Generator().manual_seed(0)
    log_pf_BT = -torch.rand(LOSS_ROWS, length, generator=generator).requires_grad_()
    log_pstop_BT1 = -torch.rand(LOSS_ROWS, length + 1, generator=generator).requires_grad_()
    log_reward_BT1 = -torch.rand(LOSS_ROWS, length + 1, generator=generator)
    return log_pf_BT, log_pstop_BT1, log_reward_BT1, torch.ones(LOSS_ROWS, length, dtype=torch.bool)


def our_loss(length: int, calls: int) -> Way:
    """Loss and gradient, so many times."""
    given = columns(length)

    def run() -> None:
        for _ in range(calls):
            output = modified_subtb_loss(*given)
            torch.autograd.grad(output.sum / output.weight, given[:2])

    return Way(run)


def written_loss(length: int) -> Way:
    """Loss and gradient by the loop over lengths, once."""
    log_pf_BT, log_pstop_BT1, log_reward_BT1, _ = columns(length)
    return Way(
        lambda: torch.autograd.grad(subtb_loop(log_pf_BT, log_pstop_BT1, log_reward_BT1), (log_pf_BT, log_pstop_BT1))
    )


def check_equal(length: int) -> None:
    """Refuse a comparison of two different losses."""
    given = columns(length)
    ours, peer = modified_subtb_loss(*given), subtb_loop(*given[:3])
    if not torch.allclose(ours.sum / ours.weight, peer, rtol=1e-4):
        raise RuntimeError(f"the losses differ at {length} tokens: the comparison is void")


def loss(length: int, options: Options) -> Contest:
    """16 rows; one turn of ours is one call, as of the loop."""
    check_equal(length)
    return Contest(ours=lambda: our_loss(length, 1), peers={"written loop": lambda: written_loss(length)})


def loss_doubled(length: int, options: Options) -> Contest:
    """Ours at twice the length."""
    return Contest(
        ours=lambda: our_loss(2 * length, CALLS), peers={f"{length} tokens": lambda: our_loss(length, CALLS)}
    )


STEP_ROWS = [
    Row(
        name=f"subtb_step_{tokens}",
        what=f"SubTB step, small Llama, {tokens} tokens",
        build=partial(step, tokens),
        target=Target(ratio=least),
        rounds=2,
    )
    for tokens, least in ((128, 5.0), (256, 6.0))
]
MEMORY_ROWS = [
    Row(
        name=f"subtb_memory_{tokens}",
        what=f"memory added by a SubTB step, small Llama, {tokens} tokens",
        build=partial(step, tokens),
        target=Target(ratio=6.0, words="memory ≤ 1/6"),
        meter="added_bytes",
        rounds=1,
        needs=[no_peak_memory],
        by_name_only=tokens == 128,
    )
    for tokens in (128, 256)
]
LOSS_TABLE = [
    Row(
        name=f"subtb_loss_{tokens}",
        what=f"SubTB loss and gradient alone, 16 rows of {tokens}",
        build=partial(loss, tokens),
        target=Target(ratio=100.0) if tokens == 2048 else Target(),
        rounds=3 if tokens < 2048 else 1,
    )
    for tokens in (64, 256, 1024, 2048, 4096)
] + [
    Row(
        name="subtb_loss_doubling_4096",
        what="SubTB loss and gradient alone, 4096 tokens beside 2048",
        build=partial(loss_doubled, 2048),
        target=time_at_most(2.3),
        rounds=7,
    )
]
ROWS = [*STEP_ROWS, *MEMORY_ROWS, *LOSS_TABLE]
