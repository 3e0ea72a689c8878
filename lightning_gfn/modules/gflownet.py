"""GFlowNet fine-tuning: sample in proportion to a reward, from trajectories of any origin."""

from __future__ import annotations

from typing import Any, ClassVar

from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.settings import refuse
from lightning_gfn.objectives.regimes import GFLOWNET


class GFlowNetModule(RolloutModule):
    """Trains a policy q so that q(trajectory) is proportional to R(trajectory), on- and off-policy.

    Args:
        policy: the language model.
        objective: a balance objective (modified SubTB, VarGrad, TB, detailed balance, SubTB).
        reward: turns trajectories into log rewards.
        settings: arguments of ``RolloutModule``, all but ``kl``, ``entropy``, ``solution_classes`` and ``resample``.

    Raises:
        TypeError: an argument is ``PolicyGradientModule``'s.
    """

    served: ClassVar[frozenset[str]] = frozenset({GFLOWNET})

    def __init__(self, policy: Policy, objective: Objective, reward: Reward, **settings: Any) -> None:
        rewarded = ("kl", "entropy", "solution_classes", "resample")
        refuse(settings, rewarded, "GFlowNetModule", instead="PolicyGradientModule")
        super().__init__(
            policy, objective, reward, kl=None, entropy=None, solution_classes=None, resample=None, **settings
        )
