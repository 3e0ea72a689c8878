"""Methods that ``init`` can write down: their module, objective, and what they need of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_gfn.commands.asking.columns import Kind

Needs = Literal["verdicts", "solutions", "pairs", "labels"]
OBJECTIVES = "lightning_gfn.objectives"
GFLOWNET = "lightning_gfn.modules.gflownet.GFlowNetModule"
POLICY_GRADIENT = "lightning_gfn.modules.policy_gradient.PolicyGradientModule"
SFT = "lightning_gfn.modules.sft.SFTModule"
PREFERENCE = "lightning_gfn.modules.preference.PreferenceModule"


@dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        summary: what it does, in a few words.
        module: class of the module.
        needs: what the data must have.
        objective: class and arguments; None where the module has its own.
        more: further arguments of the module.
        tempered: its reward is the reference's likelihood times the answer's; else the answer alone.
        prefixes: it needs a reward of every prefix, which neither a reward function nor proofs have by themselves.
    """

    summary: str
    module: str
    needs: Needs = "verdicts"
    objective: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    tempered: bool = False
    prefixes: bool = False

    @property
    def samples(self) -> bool:
        """It samples completions while it trains."""
        return self.needs == "verdicts"


def objective(name: str, **arguments: Any) -> dict[str, Any]:
    """The node of an objective."""
    return {"class_path": f"{OBJECTIVES}.{name}", **({"init_args": arguments} if arguments else {})}


VALUE_HEAD = {"class_path": "lightning_gfn.policies.heads.ValueHead"}
LOG_Z = {"class_path": "lightning_gfn.policies.heads.LogZHead"}
METHODS: dict[str, Method] = {
    "vargrad": Method(
        "VarGrad: samples in proportion to the reward, log Z is the group's mean",
        GFLOWNET,
        objective=objective("vargrad.VarGrad"),
        tempered=True,
    ),
    "subtb": Method(
        "modified sub-trajectory balance at the ends of reasoning steps",
        GFLOWNET,
        objective=objective("subtb.ModifiedSubTB", level="step"),
        tempered=True,
        prefixes=True,
    ),
    "tb": Method(
        "trajectory balance, log Z is learned from the prompt",
        GFLOWNET,
        objective=objective("trajectory_balance.TrajectoryBalance"),
        more={"head": LOG_Z},
        tempered=True,
    ),
    "grpo": Method("GRPO: maximises the reward", POLICY_GRADIENT, objective=objective("grpo.GRPO")),
    "dr_grpo": Method(
        "Dr. GRPO: GRPO without its two normalisations",
        POLICY_GRADIENT,
        objective=objective("grpo.GRPO", advantage_scale="none", aggregation="constant"),
    ),
    "rloo": Method(
        "RLOO: the other samples' mean is the baseline",
        POLICY_GRADIENT,
        objective=objective(
            "grpo.GRPO", ratio="none", baseline="leave_one_out", advantage_scale="none", aggregation="sum", kl="reward"
        ),
        more={"kl": {"coefficient": 0.05}},
    ),
    "ppo": Method(
        "PPO with a value head and a KL penalty",
        POLICY_GRADIENT,
        objective=objective("ppo.PPO", lam=0.95, value_coefficient=0.1),
        more={"head": VALUE_HEAD, "kl": {"coefficient": 0.05}},
    ),
    "sft": Method("supervised fine-tuning on the solutions", SFT, needs="solutions"),
    "dpo": Method("DPO on pairs", PREFERENCE, needs="pairs", objective=objective("preference.DPO", beta=0.1)),
    "ipo": Method(
        "IPO on pairs", PREFERENCE, needs="pairs", objective=objective("preference.IPO", beta=0.1, per_action=False)
    ),
    "kto": Method(
        "KTO on completions with a label, or on halves of pairs",
        PREFERENCE,
        needs="labels",
        objective=objective("preference.KTO", beta=0.1),
    ),
}


def default_method(kind: Kind, *, answered: bool, solved: bool, reward: bool) -> str:
    """The method for a file where the user names none."""
    if kind == "preferences":
        return "dpo"
    if kind == "labels":
        return "kto"
    return "sft" if solved and not answered and not reward and kind != "theorems" else "vargrad"


def check_method(
    name: str, kind: Kind, columns: Sequence[str] = (), *, answered: bool, solved: bool, reward: bool
) -> None:
    """Refuse a method that the data cannot feed.

    Args:
        name: of the method.
        kind: of the data.
        columns: all that the rows have.
        answered: some rows have a reference answer.
        solved: some rows have a solution.
        reward: the user has a reward function.

    Raises:
        ValueError: says what is missing, and what would do.
    """
    fault = unfit(name, kind, reward) or lacking(name, kind, answered=answered, solved=solved, reward=reward)
    if fault is not None:
        there = f" (columns here: {', '.join(map(repr, columns))})" if columns and "--columns" in fault else ""
        raise ValueError(fault + there)


def unfit(name: str, kind: Kind, reward: bool) -> str | None:
    """Why a method cannot use rows of a kind; None if it can."""
    method = METHODS[name]
    pairs = kind in ("preferences", "labels")
    if method.needs in ("pairs", "labels") and not pairs:
        return (
            f"--method {name} trains on rows with prompt, chosen, rejected (or completion, label), and the file has "
            "none: lightning-gfn pairs makes them of samples; or take --method vargrad, grpo or sft"
        )
    if method.needs == "pairs" and kind == "labels":
        return f"--method {name} trains on pairs, and the file has single completions with a label: --method kto"
    if method.needs in ("verdicts", "solutions") and pairs:
        return (
            f"--method {name} wants questions with answers or solutions, and the file holds {kind}: --method dpo or kto"
        )
    if kind == "theorems" and not method.samples:
        return f"--method {name} needs traced tactics, and the file holds statements: --method vargrad, tb or grpo"
    if kind == "theorems" and (reward or method.prefixes):
        return (
            f"--method {name}: proofs are judged by Lean, at their end: --method vargrad, tb or grpo, and no --reward"
        )
    return None


def lacking(name: str, kind: Kind, *, answered: bool, solved: bool, reward: bool) -> str | None:
    """What a method needs and the rows do not have; None if nothing."""
    needs = METHODS[name].needs
    if needs == "verdicts" and kind != "theorems" and not answered and not reward:
        return (
            f"method {name} needs to know which completions are right, and no answer was found: name its column "
            "(--columns answer=COLUMN), a reward function (--reward file.py:function)"
            + (", or take --method sft" if solved else "")
        )
    if needs == "solutions" and not solved:
        return f"--method {name} trains on solutions, and the file has none: --columns solution=COLUMN names them"
    return None
