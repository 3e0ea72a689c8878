"""The sampler that a module needs: of completions, or of attempts at theorems."""

from __future__ import annotations

from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.group_sampler import GroupSampler
from lightning_gfn.rollouts.proofs.proof_sampler import EpisodeSampler
from lightning_gfn.rollouts.proofs.proving import Proving


def make_sampler(proving: Proving | None, *, num_samples: int, behaviour: BehaviourMix, seed: int) -> GroupSampler:
    """The sampler of whole proofs if there is an environment, else that of single completions."""
    if proving is None:
        return RolloutSampler(num_samples=num_samples, behaviour=behaviour, seed=seed)
    return EpisodeSampler(proving, num_samples=num_samples, behaviour=behaviour, seed=seed)
