"""A replay buffer that begins with the reference solutions of the training problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_gfn.interfaces import Buffer
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.rollouts.distributed import gather_all

if TYPE_CHECKING:
    from lightning_gfn.modules.rollout import RolloutModule


def fill_buffer(module: RolloutModule, buffer: Buffer) -> None:
    """Put the reference solutions of the training problems into a buffer, each rank working out a part of them.

    Raises:
        ValueError: there is none that the policy could produce.
    """
    problems = getattr(module.trainer, "datamodule").problems("train")  # noqa: B009
    buffer.rank_by(module.reward, module.global_step)
    with module.whole_weights(), evaluation_mode(module):
        share = problems[module.global_rank :: module.trainer.world_size]
        own = module.collector.references(module.policy, share, optimizer_step=module.global_step, device=module.device)
        seeds = gather_all(own)
    if not buffer.add(seeds):
        raise ValueError("model.seed_buffer: the policy can write no reference solution of the training problems")
