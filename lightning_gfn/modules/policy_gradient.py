"""Reward maximisation from on-policy trajectories."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import refuse
from lightning_gfn.objectives.regimes import POLICY_GRADIENT
from lightning_gfn.rollouts.behaviour import BehaviourMix


class PolicyGradientModule(RolloutModule):
    """Trains a policy to maximise the expected reward r := log R; every trajectory comes from the present policy.

    Args:
        policy: the language model.
        objective: a policy-gradient objective (PPO, GRPO and its relatives).
        reward: turns trajectories into scalar rewards; prefix values are not used.
        settings: arguments of ``RolloutModule``, all but ``behaviour``, ``buffer``, ``selection`` and ``separator``.

    Raises:
        TypeError: an argument is ``GFlowNetModule``'s.
    """

    served: ClassVar[frozenset[str]] = frozenset({POLICY_GRADIENT})
    reward_word: ClassVar[str] = "reward"

    def __init__(self, policy: Policy, objective: Objective, reward: Reward, **settings: Any) -> None:
        off_policy = ("behaviour", "buffer", "seed_buffer", "selection", "separator")
        refuse(settings, off_policy, "PolicyGradientModule", instead="GFlowNetModule")
        on_policy = BehaviourMix(on_policy=1.0, tempered=0.0, replay=0.0, reference=0.0)
        super().__init__(
            policy,
            objective,
            reward,
            behaviour=on_policy,
            buffer=None,
            seed_buffer=False,
            selection=None,
            separator=None,
            **settings,
        )
