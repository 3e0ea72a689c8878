"""Evaluation by beam search instead of sampling: the same records, of completions that were searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from lightning_gfn.interfaces import Policy, SearchesBeams
from lightning_gfn.padding import pad_steps
from lightning_gfn.rollouts.evaluation import Completion, described, judged_records
from lightning_gfn.types import EvalRecord, Problem, SampledActions


@dataclass(frozen=True)
class BeamSettings:
    """Beam search, or diverse beam search where there are several groups; as many beams as samples are asked for.

    Args:
        num_groups: groups that search one after another, each kept from what earlier ones chose.
        diversity_penalty: nats for each beam of an earlier group that takes the same action at the same place.
        length_penalty: completions are ranked by log q / actions^length_penalty; 0 by log q itself.

    Source: Vijayakumar et al. 2018, arXiv:1610.02424.
    """

    num_groups: int = 1
    diversity_penalty: float = 0.0
    length_penalty: float = 0.0

    def __post_init__(self) -> None:
        if self.num_groups < 1:
            raise ValueError(f"evaluation.beams.num_groups is {self.num_groups}, expected at least 1")
        if self.diversity_penalty < 0.0:
            raise ValueError(f"evaluation.beams.diversity_penalty is {self.diversity_penalty}, expected at least 0")
        if self.num_groups > 1 and self.diversity_penalty == 0.0:
            raise ValueError(
                f"evaluation.beams: {self.num_groups} groups would all find the same without a diversity_penalty: set "
                "it above 0, or num_groups to 1"
            )


@torch.no_grad()
def search_completions(
    policy: Policy,
    problems: Sequence[Problem],
    beams: BeamSettings,
    *,
    num_samples: int,
    max_rows: int = 512,
    device: torch.device | str = "cpu",
) -> list[EvalRecord]:
    """The best completions that beams find for each problem, checked and scored as samples are.

    Args:
        policy: searches and scores.
        problems: P problems.
        beams: how to search.
        num_samples: beams, and completions of each problem.
        max_rows: beams decoded at once; those of one problem are not divided.
        device: of the policy.

    Returns:
        One record a problem, in order; log-probabilities and entropies are those of one scoring pass.

    Raises:
        TypeError: the policy does not search.
    """
    if not isinstance(policy, SearchesBeams):
        raise TypeError(f"evaluation.beams needs a language model of ours, {type(policy).__name__} searches no beams")
    prompts = [policy.encode_prompt(problem.prompt) for problem in problems]
    found: list[list[Completion]] = []
    at_once = max(1, max_rows // num_samples)
    for start in range(0, len(prompts), at_once):
        part = prompts[start : start + at_once]
        actions = policy.search_beams(part, num_beams=num_samples, **asdict(beams))
        contexts = [prompt for prompt in part for _ in range(num_samples)]
        steps = pad_steps(contexts, [action for own in actions for action in own], device)
        scores = policy.score(steps, entropy=True)
        certain = SampledActions(  # the search leaves nothing to chance
            steps.action_ids_NT,
            steps.action_mask_NT,
            scores,
            behaviour_log_pf_NT=torch.zeros_like(scores.log_pf_NT),
            behaviour_log_pstop_N=torch.zeros_like(scores.log_pf_NT[:, 0]),
        )
        completions = described(policy, contexts, certain, entropy=True)
        found += [completions[n : n + num_samples] for n in range(0, len(completions), num_samples)]
    return judged_records(problems, 1.0, found, is_drawn=False)
