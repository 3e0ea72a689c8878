"""Reference solutions as rollouts: what supervised fine-tuning trains on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.batching import pad_contexts
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.types import Problem, Rollouts, Source


def reference_rollouts(
    policy: Policy, problems: Sequence[Problem], *, seed: int, epoch: int, device: torch.device | str
) -> tuple[Rollouts, int]:
    """One reference solution of each problem, drawn by (seed, epoch, problem id).

    A solution longer than the policy's maximum is cut there: the policy would be forced to stop, so its first tokens
    are all that it can learn.

    Args:
        policy: encodes texts; its maximum length bounds the solutions.
        problems: P problems with reference solutions.
        seed: key of the draw.
        epoch: key of the draw.
        device: of the returned tensors.

    Returns:
        Rollouts of P trajectories, and how many solutions were cut.

    Raises:
        ValueError: a problem has no reference solution; names it.
    """
    contexts, actions, texts = [], [], []
    for problem in problems:
        if not problem.solutions:
            raise ValueError(f"problem {problem.id!r} has no reference solution to train on")
        uniform = keyed_uniform("supervised", seed=seed, step=epoch, problem_id=problem.id)
        text = problem.solutions[int(uniform * len(problem.solutions))]
        texts.append(text)
        contexts.append(policy.encode_prompt(problem.prompt))
        actions.append(policy.encode_completion(text))
    num_cut = sum(len(action) > policy.max_new_tokens for action in actions)
    actions = [action[: policy.max_new_tokens] for action in actions]
    context_ids, context_mask = pad_contexts(contexts, device)
    lengths = torch.tensor([len(action) for action in actions], device=device)
    mask = torch.arange(max(map(len, actions)), device=device)[None] < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.int64, device=device)
    ids[mask] = torch.tensor([token for action in actions for token in action], dtype=torch.int64, device=device)
    index = torch.arange(len(problems), device=device)
    source: Source = "reference"
    return (
        Rollouts(
            problems=tuple(problems),
            problem_index_B=index,
            trajectory_index_N=index,
            context_ids_NC=context_ids,
            context_mask_NC=context_mask,
            action_ids_NT=ids,
            action_mask_NT=mask,
            completions=tuple(texts),
            sources=(source,) * len(problems),
        ),
        num_cut,
    )
