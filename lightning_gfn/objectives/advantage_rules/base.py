"""What turns the rewards of a group into advantages where samples of one problem are not judged one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from torch import Tensor

from lightning_gfn.objectives.functional.advantages import in_mixed_group
from lightning_gfn.objectives.functional.checks import check_shapes

PlainAdvantages = Callable[[Tensor], Tensor]
"""From rewards (B,) to group-relative advantages (B,) with the scale and baseline of the objective."""


class AdvantageRule(ABC):
    """Advantages of the GRPO family that ask a group of samples for more than a high mean reward.

    Rules are frozen dataclasses that YAML names in the field ``advantage`` of an objective. A completion counts as
    correct where its reward, before the objective's penalties, is above 0.
    """

    replaces_scale: ClassVar[bool] = False
    """True if the rule has its own baseline and scale: those of the objective are not used."""

    @property
    def requires(self) -> frozenset[str]:
        """Names from ``COLUMNS`` that the rule reads beside ``log_reward_B`` and ``group_B``."""
        return frozenset()

    @property
    def min_samples(self) -> int:
        """Fewest samples of a problem for which the rule is defined."""
        return 2

    @abstractmethod
    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """The advantages of a rollout batch.

        Args:
            reward_B: (B,) rewards, penalties of the objective included; constant.
            columns: ``log_reward_B`` (rewards before penalties), ``group_B`` and what ``requires`` names.
            plain: the objective's own advantages of any rewards.

        Returns:
            (B,), without gradient.
        """

    def teaching(self, columns: Mapping[str, Tensor]) -> Tensor:
        """bool (B,), True in groups that a filter of equal groups keeps: those whose rewards differ."""
        return in_mixed_group(columns["log_reward_B"].detach(), columns["group_B"])


def classes_of(columns: Mapping[str, Tensor]) -> Tensor:
    """The column ``class_B``, (B,) int64.

    Raises:
        ValueError: its shape is not that of ``group_B``.
    """
    check_shapes(class_B=(columns["class_B"], tuple(columns["group_B"].shape)))
    return columns["class_B"]


def groups(group_B: Tensor) -> list[Tensor]:
    """Row numbers of each group, (G,) int64, in the order of its id."""
    return [(group_B == group).nonzero().squeeze(1) for group in group_B.unique()]
