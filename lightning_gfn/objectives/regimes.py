"""Which module gives an objective the data that it is meant for."""

from __future__ import annotations

from collections.abc import Collection

from lightning_gfn.interfaces import Objective

GFLOWNET = "lightning_gfn.modules.gflownet.GFlowNetModule"
POLICY_GRADIENT = "lightning_gfn.modules.policy_gradient.PolicyGradientModule"
SFT = "lightning_gfn.modules.sft.SFTModule"
PREFERENCE = "lightning_gfn.modules.preference.PreferenceModule"
DISTILLATION = "lightning_gfn.modules.distillation.DistillationModule"
REWARD_MODEL = "lightning_gfn.modules.reward_model.RewardModelModule"
SERVED_BY = {
    "likelihood": SFT,
    "preference": PREFERENCE,
    "distillation": DISTILLATION,
    "reward_model": REWARD_MODEL,
    "grpo": POLICY_GRADIENT,
    "ppo": POLICY_GRADIENT,
    **dict.fromkeys(("vargrad", "trajectory_balance", "subtb", "detailed_balance", "flowrl", "gflowrl"), GFLOWNET),
}
"""Files of ``lightning_gfn.objectives`` and the class path of the module that serves what they hold."""


def served_by(objective: Objective) -> str | None:
    """Class path of the module that an objective is meant for; None for an objective that derives from none of ours."""
    package = f"{__package__}."
    for kind in type(objective).__mro__:
        if kind.__module__.startswith(package) and (found := SERVED_BY.get(kind.__module__.removeprefix(package))):
            return found
    return None


def check_regime(objective: Objective, served: Collection[str], module: str) -> None:
    """Refuse an objective that the columns of a module would fit, but whose meaning they would not.

    Args:
        objective: the loss.
        served: class paths of the modules whose objectives this one takes.
        module: name of this module.

    Raises:
        ValueError: names the objective and the module that serves it.
    """
    meant = served_by(objective)
    if meant is not None and meant not in served:
        own = " or ".join(path.rsplit(".", 1)[-1] for path in sorted(served))
        raise ValueError(
            f"objective {type(objective).__name__} cannot train in {module}, which serves objectives of {own}: set "
            f"model.class_path to {meant}, or choose another model.objective"
        )
