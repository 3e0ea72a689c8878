"""GFlowNet fine-tuning: sample in proportion to a reward, from trajectories of any origin."""

from __future__ import annotations

from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings, UpdateSettings
from lightning_gfn.policies.heads import Head
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.proofs.proving import Proving


class GFlowNetModule(RolloutModule):
    """Trains a policy q so that q(trajectory) is proportional to R(trajectory), on- and off-policy.

    Args:
        policy: the language model.
        objective: a balance objective (modified SubTB, VarGrad, TB, detailed balance, SubTB).
        reward: turns trajectories into log rewards.
        num_samples: trajectories per problem and step.
        behaviour: shares of on-policy, tempered, replayed and reference trajectories.
        buffer: replay buffer; needed if the behaviour replays.
        head: log Z or flow head; needed by objectives that learn one.
        optimizer: AdamW settings; ``head_lr`` is the head's own learning rate.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms.
        log_entropy: also compute the policy's entropy in the scoring pass.
        method: the name under which results are compared; the class of the objective if None.
        updates: how often a rollout batch is used; once if None.
        proving: environment and prompt, where problems are theorems.
        separator: what ends a reasoning step, for objectives of level step; the reward's if None, else a line break.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        reward: Reward,
        *,
        num_samples: int = 8,
        behaviour: BehaviourMix | None = None,
        buffer: Buffer | None = None,
        head: Head | None = None,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        seed: int = 0,
        log_entropy: bool = True,
        method: str | None = None,
        updates: UpdateSettings | None = None,
        proving: Proving | None = None,
        separator: str | None = None,
    ) -> None:
        mix = behaviour if behaviour is not None else BehaviourMix()
        if mix.replay > 0 and buffer is None:
            raise ValueError(
                f"model.behaviour.replay is {mix.replay} but there is no buffer: set model.buffer "
                "(lightning_gfn.buffers.replay.ReplayBuffer) or model.behaviour.replay to 0"
            )
        super().__init__(
            policy,
            objective,
            reward,
            num_samples=num_samples,
            behaviour=mix,
            buffer=buffer,
            head=head,
            optimizer=optimizer,
            evaluation=evaluation,
            seed=seed,
            log_entropy=log_entropy,
            method=method,
            updates=updates,
            proving=proving,
            separator=separator,
        )
