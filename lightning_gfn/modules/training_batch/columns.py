"""From scores and rewards to the columns that objectives read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_gfn.answers.steps import StepEnds, check_separator
from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.functional.importance import BEHAVIOUR_COLUMNS
from lightning_gfn.prompts.question_template import known_template
from lightning_gfn.rewards.learned import LearnedReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import LogReward, Rollouts, Scores

SCORE_COLUMNS = frozenset(
    {
        "log_pf_BT", "log_pstop_BT1", "log_pf_B", "mask_BT", "stop_mask_BT1", "step_mask_BT1", "group_B",
        "forced_stop_B", "max_length", "old_log_pf_BT", "old_log_pstop_BT1", "entropy_BT1",
    }
)  # fmt: skip
REFERENCE_COLUMNS = frozenset({"ref_log_pf_BT", "ref_log_pstop_BT1", "ref_log_pf_B"})
HEADS = {"log_z_B": "LogZScalar or LogZHead", "log_f_BT1": "FlowHead", "value_BT1": "ValueHead"}


def check_columns(
    objective: Objective,
    reward: Reward | None,
    head_provides: frozenset[str] | None,
    *,
    given: frozenset[str] = frozenset(),
) -> None:
    """Refuse an objective whose columns nobody gives, and a head that no objective reads.

    Args:
        objective: the loss.
        reward: gives log rewards; None if the module has none.
        head_provides: columns of the head; None if there is none.
        given: further columns that the module itself gives.

    Raises:
        ValueError: names the objective, the missing column and what would provide it.
    """
    name = type(objective).__name__
    reward_columns = reward.provides if reward is not None else frozenset()
    heads = head_provides or frozenset()
    if "value_BT1" in heads:
        heads |= {"old_value_BT1"}
    missing = objective.requires - SCORE_COLUMNS - reward_columns - heads - given
    for column, head in HEADS.items():
        if column in missing:
            raise ValueError(f"objective {name} needs {column}: set model.head to lightning_gfn.policies.heads.{head}")
    if "log_reward_BT1" in missing:
        raise ValueError(
            f"objective {name} needs log_reward_BT1 (a log reward for stopping at every prefix), but reward "
            f"{type(reward).__name__} gives only {sorted(reward_columns)}: choose a reward with prefix values "
            "(ReferenceLikelihood, AnswerMatch, or SumReward over such), or an objective of finished trajectories "
            "(VarGrad, TrajectoryBalance)"
        )
    if "kl_coefficient" in missing:
        raise ValueError(f"objective {name} needs kl_coefficient: set model.kl.coefficient, or objective.kl to none")
    if "entropy_coefficient" in missing:
        raise ValueError(
            f"objective {name} needs entropy_coefficient: set model.entropy.coefficient, or objective.entropy_bonus to "
            "false"
        )
    if "class_B" in missing:
        raise ValueError(
            f"objective {name} needs class_B, the ways in which samples solve a problem: set model.solution_classes "
            "(lightning_gfn.solution_classes.equations.EquationClasses, or KnownPaths where solutions are known)"
        )
    if missing:
        raise ValueError(
            f"objective {name} needs {sorted(missing)}, which neither this module nor its reward gives: choose a "
            "module of the objective's data regime"
        )
    if head_provides is not None and not head_provides & objective.requires:
        raise ValueError(
            f"objective {name} does not read {sorted(head_provides)}: remove model.head, it would never train"
        )


def check_groups(objective: Objective, num_samples: int, *, classes: bool) -> None:
    """Refuse groups too small for an objective, and classes that it does not read.

    Args:
        objective: compares trajectories of one problem, or does not.
        num_samples: trajectories of each problem.
        classes: the module is given classes of solutions.

    Raises:
        ValueError: names the objective and the setting.
    """
    name = type(objective).__name__
    if num_samples < objective.min_samples:
        raise ValueError(
            f"objective {name} compares trajectories of one problem: "
            f"set model.num_samples to {objective.min_samples} or more"
        )
    if classes and "class_B" not in objective.requires:
        raise ValueError(
            f"objective {name} reads no classes: remove model.solution_classes, or set objective.advantage to a rule "
            "that does (Uniqueness, SetObjective, MarginalDiversity)"
        )


def trajectory_sum(values_N: Tensor, rollouts: Rollouts) -> Tensor:
    """Sum of step values within each trajectory, (B,)."""
    return values_N.new_zeros(rollouts.num_trajectories).index_add(0, rollouts.trajectory_index_N, values_N)


def trajectory_log_prob(scores: Scores, rollouts: Rollouts) -> Tensor:
    """log q of each whole trajectory, all tokens and final stops, (B,), nats."""
    return trajectory_sum(scores.log_prob_N(rollouts.action_mask_NT), rollouts)


def step_separator(separator: str | None, objective: Objective, reward: Reward) -> str:
    """What ends a reasoning step in this run: the module's setting, else the reward's, else a line break.

    Args:
        separator: ``model.separator``; None if it is not set.
        objective: must read steps if the module's setting is given.
        reward: its own separator counts if it judges steps.

    Raises:
        ValueError: module and reward differ, the separator is empty, or nothing reads it.
    """
    if separator is not None:
        check_separator(separator, "model.separator")
        if "step_mask_BT1" not in objective.requires:
            raise ValueError(
                f"objective {type(objective).__name__} reads no ends of steps: set its level to step, or remove "
                "model.separator"
            )
    judged = reward.separator
    if None not in (separator, judged) and judged != separator:
        raise ValueError(
            f"model.separator is {separator!r}, but model.reward ({type(reward).__name__}) judges steps that end in "
            f"{judged!r}: the objective would use prefixes that were never judged. Remove model.separator, then the "
            "reward's holds for both, or set the reward's separator to the same text"
        )
    return separator or judged or "\n"


def check_reward_template(reward: Reward, data: object) -> None:
    """Refuse data whose prompts are not those that a reward network was trained on, where both are known.

    Args:
        reward: may hold a reward network.
        data: a datamodule.

    Raises:
        ValueError: the prompts differ.
    """
    asked = known_template(data)
    for part in reward.parts():
        learned = part.network.prompt_template if isinstance(part, LearnedReward) else None
        if None not in (asked, learned) and asked != learned:
            raise ValueError(
                f"data.prompt_template ({type(data).__name__}) is {asked!r}, but the network of model.reward was "
                f"trained on prompts {learned!r}: set data.init_args.prompt_template to that one, or train the reward "
                "network on this one"
            )


def sampling_mismatch(scores: Scores, rollouts: Rollouts) -> dict[str, float]:
    """How far the sampler and the scoring pass of one policy disagree about log q of sampled tokens, nats.

        mean and maximum over the tokens of on-policy trajectories of |log q_sampled - log q_scored|

    Args:
        scores: of the policy that sampled.
        rollouts: the trajectories.

    Returns:
        ``sampling_mismatch_mean`` and ``sampling_mismatch_max``; nothing where no log-probability of the sampler is at
        hand, and without on-policy tokens.
    """
    if rollouts.behaviour_log_pf_NT is None:
        return {}
    fresh_B = torch.tensor([source == "on_policy" for source in rollouts.sources], device=scores.log_pf_NT.device)
    mask_NT = rollouts.steps.chosen_NT & fresh_B[rollouts.trajectory_index_N][:, None]
    if not bool(mask_NT.any()):
        return {}
    difference_M = (rollouts.behaviour_log_pf_NT - scores.log_pf_NT.detach())[mask_NT].abs()
    return {
        "sampling_mismatch_mean": float(difference_M.mean()),
        "sampling_mismatch_max": float(difference_M.max()),
    }


def check_sources(objective: Objective, behaviour: BehaviourMix, buffer: Buffer | None) -> None:
    """Refuse trajectories that there are none of, or that the objective cannot weight.

    Args:
        objective: of the module.
        behaviour: where trajectories come from.
        buffer: replay buffer, or None.

    Raises:
        ValueError: replay without a buffer, or given trajectories under ``objective.importance``.
    """
    if behaviour.replay > 0 and buffer is None:
        raise ValueError(
            f"model.behaviour.replay is {behaviour.replay} but there is no buffer: set model.buffer "
            "(lightning_gfn.buffers.replay.ReplayBuffer) or model.behaviour.replay to 0"
        )
    given_share = behaviour.replay + behaviour.reference + behaviour.search
    if objective.requires & BEHAVIOUR_COLUMNS and (given_share > 0.0 or behaviour.always_reference):
        raise ValueError(
            "objective.importance needs trajectories that were sampled in the step: set model.behaviour to "
            "on_policy and tempered alone, or objective.importance to null"
        )


def warn_of_separate_starts(objective: Objective, policy: Policy) -> None:
    """Say where balance between the prefixes of one trajectory leaves the first tokens free.

    Without a learned flow nothing but the empty prefix joins trajectories that begin differently.

    Args:
        objective: of the module.
        policy: its shortest action decides whether the empty prefix counts.
    """
    joins = {"log_f_BT1", "log_z_B", "group_B"} & objective.requires
    if "log_reward_BT1" in objective.requires and not joins and policy.min_new_tokens > 0:
        rank_zero_warn(
            f"objective {type(objective).__name__} balances the prefixes of one trajectory, and with "
            f"policy.min_new_tokens={policy.min_new_tokens} the empty one is none of them: nothing says how likely "
            "different beginnings should be. Set objective.pairs to problem (ModifiedSubTB), or min_new_tokens to 0 "
            "and let the reward judge short completions, or take VarGrad or TB"
        )


class StepBoundaries:
    """Finds the prefixes that end a reasoning step: those that end a separator, the empty one and the whole action.

    Args:
        policy: decodes tokens.
        separator: what ends a step.
    """

    def __init__(self, policy: Policy, separator: str = "\n") -> None:
        self.separator = separator
        self.ends = StepEnds(policy.decode, separator)

    def __call__(self, action_ids_NT: Tensor, action_mask_NT: Tensor) -> Tensor:
        """bool (N, T + 1)."""
        lengths = action_mask_NT.sum(1).tolist()
        boundary_NT1 = torch.zeros(len(lengths), action_ids_NT.shape[1] + 1, dtype=torch.bool)
        for n, (row, length) in enumerate(zip(action_ids_NT.tolist(), lengths, strict=True)):
            boundary_NT1[n, [0, *self.ends(row[:length]), length]] = True
        return boundary_NT1.to(action_mask_NT.device)


def constant_columns(
    objective: Objective,
    policy: Policy,
    rollouts: Rollouts,
    layout: JoinedLayout,
    scores: Scores,
    log_reward: LogReward | None,
    boundaries: StepBoundaries,
    further: Mapping[str, Tensor],
    *,
    max_steps: int = 1,
) -> dict[str, Tensor]:
    """The columns of a rollout batch that no update changes, and what ``prepare`` derives from them.

    Trajectories of several steps are read in the ``JoinedLayout``; the reasoning steps of a proof are its tactics.

    Args:
        objective: says which are needed.
        policy: knows the maximum length.
        rollouts: the whole rollout batch.
        layout: of these rollouts.
        scores: of the policy that updates begin with; they become the "old" log-probabilities.
        log_reward: tempered log rewards, if there are any.
        boundaries: finds the ends of reasoning steps.
        further: constant columns from elsewhere (reference, old values, coefficients).
        max_steps: the most steps that a trajectory may have.

    Returns:
        Those that the objective requires, what ``prepare`` made of them, and ``log_reward_B`` if there is one.
    """
    columns: dict[str, Tensor] = {
        "mask_BT": layout.mask_BT,
        "stop_mask_BT1": layout.stop_mask(scores),
        "group_B": rollouts.problem_index_B,
        "old_log_pf_BT": layout.log_pf(scores).detach(),
        "old_log_pstop_BT1": layout.log_pstop(scores).detach(),
        "forced_stop_B": layout.lengths_N[layout.last_step_B] >= policy.max_new_tokens,
        "max_length": torch.tensor((policy.max_new_tokens + 1) * max_steps - 1, device=layout.mask_BT.device),
        **further,
    }
    if "behaviour_log_pf_BT" in objective.requires:
        columns |= behaviour_columns(rollouts, layout)
    if "step_mask_BT1" in objective.requires:
        columns["step_mask_BT1"] = (
            layout.starts_step_BT1
            if layout.is_joined
            else layout.prefixes(boundaries(rollouts.action_ids_NT, rollouts.action_mask_NT) & scores.stop_mask_NT1)
        )
    if log_reward is not None:
        columns["log_reward_B"] = log_reward.terminal_B
        if log_reward.prefix_BT1 is not None:
            prefix_BT1 = log_reward.prefix_BT1
            columns["log_reward_BT1"] = prefix_BT1 if layout.is_joined else layout.prefixes(prefix_BT1)
    required = {name: column for name, column in columns.items() if name in objective.requires}
    terminal = {"log_reward_B": columns["log_reward_B"]} if log_reward is not None else {}
    return {**terminal, **required, **objective.prepare(required)}


def behaviour_columns(rollouts: Rollouts, layout: JoinedLayout) -> dict[str, Tensor]:
    """Log-probabilities of actions and final stops as the sampler gave them.

    Raises:
        ValueError: not every trajectory was sampled.
    """
    log_pf_NT, log_pstop_N = rollouts.behaviour_log_pf_NT, rollouts.behaviour_log_pstop_N
    sampled = all(source in ("on_policy", "tempered") for source in rollouts.sources)
    if log_pf_NT is None or log_pstop_N is None or not sampled:
        raise ValueError(
            "objective.importance needs the sampler's log-probabilities, which replayed and given trajectories lack: "
            "set model.behaviour to on_policy and tempered alone, or objective.importance to null"
        )
    at_end_N1 = rollouts.steps.lengths_N[:, None]
    empty_NT1 = log_pf_NT.new_zeros(log_pf_NT.shape[0], log_pf_NT.shape[1] + 1)
    log_pstop_NT1 = empty_NT1.scatter(1, at_end_N1, log_pstop_N[:, None])
    scores = Scores(log_pf_NT, log_pstop_NT1, torch.zeros_like(log_pstop_NT1, dtype=torch.bool))
    return {"behaviour_log_pf_BT": layout.log_pf(scores), "behaviour_log_pstop_BT1": layout.log_pstop(scores)}


def live_columns(rollouts: Rollouts, layout: JoinedLayout, scores: Scores) -> dict[str, Tensor]:
    """The columns that carry the policy's gradient."""
    columns = {
        "log_pf_BT": layout.log_pf(scores),
        "log_pstop_BT1": layout.log_pstop(scores),
        "log_pf_B": trajectory_log_prob(scores, rollouts),
    }
    return columns if scores.entropy_NT1 is None else {**columns, "entropy_BT1": layout.prefixes(scores.entropy_NT1)}


def joined_columns(columns_N: Mapping[str, Tensor], layout: JoinedLayout) -> dict[str, Tensor]:
    """Columns of a head, those per prefix read in the ``JoinedLayout``."""
    return {name: layout.prefixes(column) if name.endswith("_BT1") else column for name, column in columns_N.items()}


def build_columns(
    objective: Objective,
    policy: Policy,
    rollouts: Rollouts,
    scores: Scores,
    log_reward: LogReward | None,
    head_columns: Mapping[str, Tensor],
    boundaries: StepBoundaries,
) -> dict[str, Tensor]:
    """Every column that the objective reads, where a batch is used for one update and scored once.

    The "old" log-probabilities are then the present ones, detached.

    Args:
        objective: says which columns.
        policy: whose lengths and tokens count.
        rollouts: the trajectories.
        scores: of one pass with gradient.
        log_reward: tempered, nats; None if no column needs it.
        head_columns: what the head gives.
        boundaries: finds the ends of reasoning steps.
    """
    layout = JoinedLayout(rollouts)
    constants = constant_columns(objective, policy, rollouts, layout, scores, log_reward, boundaries, {})
    return {**constants, **live_columns(rollouts, layout, scores), **head_columns}


def reference_columns(scores: Scores, rollouts: Rollouts, layout: JoinedLayout) -> dict[str, Tensor]:
    """The columns of the frozen reference from its scores."""
    return {
        "ref_log_pf_BT": layout.log_pf(scores),
        "ref_log_pstop_BT1": layout.log_pstop(scores),
        "ref_log_pf_B": trajectory_log_prob(scores, rollouts),
    }
