"""Reward maximisation from on-policy trajectories."""

from __future__ import annotations

from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import EvaluationSettings, KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.policies.heads import Head
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings
from lightning_gfn.rollouts.proofs.proving import Proving


class PolicyGradientModule(RolloutModule):
    """Trains a policy to maximise the expected reward r := log R; every trajectory comes from the present policy.

    Args:
        policy: the language model.
        objective: a policy-gradient objective (PPO, GRPO and its relatives).
        reward: turns trajectories into scalar rewards; prefix values are not used.
        num_samples: trajectories per problem and step.
        updates: how often a rollout batch is used; once if None.
        kl: weight of the KL penalty towards the policy at the start of the stage; needed by objectives that have one.
        head: value head or critic; needed by objectives with a value (PPO).
        optimizer: AdamW settings.
        evaluation: how completions are drawn in validation, test and prediction.
        seed: key of the sampling uniforms.
        log_entropy: also compute the policy's entropy in the scoring pass.
        method: the name under which results are compared; the class of the objective if None.
        resample: draw groups of equal rewards again (DAPO's dynamic sampling); never if None.
        proving: environment and prompt, where problems are theorems.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        reward: Reward,
        *,
        num_samples: int = 8,
        updates: UpdateSettings | None = None,
        kl: KLControl | None = None,
        head: Head | None = None,
        optimizer: OptimizerSettings | None = None,
        evaluation: EvaluationSettings | None = None,
        seed: int = 0,
        log_entropy: bool = True,
        method: str | None = None,
        resample: ResampleSettings | None = None,
        proving: Proving | None = None,
    ) -> None:
        super().__init__(
            policy,
            objective,
            reward,
            num_samples=num_samples,
            behaviour=BehaviourMix(on_policy=1.0, tempered=0.0, replay=0.0, reference=0.0),
            buffer=None,
            head=head,
            optimizer=optimizer,
            evaluation=evaluation,
            seed=seed,
            log_entropy=log_entropy,
            method=method,
            updates=updates,
            kl=kl,
            resample=resample,
            proving=proving,
        )
