"""Weights of the KL penalty and of the entropy bonus, which may follow what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.settings import EntropyControl, KLControl
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.functional.stop_action import append_stop
from lightning_gfn.types import Scores

WORDS = {"kl_coefficient": ("KL penalty", "kl"), "entropy_coefficient": ("entropy bonus", "entropy_bonus")}


class LossWeights:
    """The present weights by the name of their column.

    Args:
        kl: of the KL penalty; None if there is none.
        entropy: of the entropy bonus; None if there is none.
    """

    def __init__(self, kl: KLControl | None, entropy: EntropyControl | None) -> None:
        controls: dict[str, KLControl | EntropyControl | None] = {"kl_coefficient": kl, "entropy_coefficient": entropy}
        self.controls = {name: control for name, control in controls.items() if control is not None}
        self.values = {name: control.coefficient for name, control in self.controls.items()}

    def check(self, objective: Objective) -> None:
        """Refuse weights that the objective does not read.

        Raises:
            ValueError: names the objective and both settings.
        """
        for name in self.controls.keys() - objective.requires:
            what, switch = WORDS[name]
            raise ValueError(
                f"objective {type(objective).__name__} has no {what}: set objective.{switch} or remove "
                f"model.{name.removesuffix('_coefficient')}"
            )

    def use(self, name: str, measured: float) -> float:
        """The weight for this rollout batch, after which it follows what was measured."""
        control, present = self.controls[name], self.values[name]
        self.values[name] = control.adapted(present, measured)
        return control.applied(present, measured)

    def state_dict(self) -> dict[str, float]:
        """The present weights."""
        return dict(self.values)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over those weights of a state that this run has as well."""
        self.values |= {name: float(state[name]) for name in self.values if name in state}


def entropy_of_actions(scores: Scores, layout: JoinedLayout, max_new_tokens: int) -> Tensor:
    """Sum of the entropy of the distributions that the actions are drawn from, and the number of actions, (2,), nats.

    Args:
        scores: hold entropies.
        layout: of the same rollouts.
        max_new_tokens: length of an action that forces its stop, tokens.
    """
    assert scores.entropy_NT1 is not None
    forced_B = layout.lengths_N[layout.last_step_B] >= max_new_tokens
    log_pf_BT, log_pstop_BT1 = layout.log_pf(scores), layout.log_pstop(scores)
    actions_BT1 = append_stop(log_pf_BT, log_pstop_BT1, layout.mask_BT, forced_B)[1]
    entropy_BT1 = layout.prefixes(scores.entropy_NT1).detach()
    return torch.stack([torch.where(actions_BT1, entropy_BT1, 0.0).sum(), actions_BT1.sum().to(entropy_BT1.dtype)])
