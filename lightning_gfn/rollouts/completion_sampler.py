"""Collects the trajectories of one rollout batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Policy
from lightning_gfn.padding import pad_contexts
from lightning_gfn.rollouts.batching import BatchRow, stored_terms
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.group_sampler import GroupSampler
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.rollouts.keyed_sampling import Call
from lightning_gfn.rollouts.rollout_batch import SampledBatch
from lightning_gfn.types import CORRECT, Problem, Rollouts, SampledActions, StepBatch


@dataclass
class _Actions:
    """The padded actions of B rows: ids, masks and behaviour log-probabilities, each (B, T); of their stops, (B,)."""

    ids: Tensor
    mask: Tensor
    log_pf: Tensor
    log_pstop: Tensor
    inserted: Tensor | None


class RolloutSampler(GroupSampler):
    """A group of trajectories of one step each for every problem.

    Rows that are given (replayed or reference) come first in their group; all others are sampled, in one call to the
    policy (two if the tempered share is truncated by top-k or top-p).
    """

    def __init__(self, *, num_samples: int, behaviour: BehaviourMix, seed: int) -> None:
        super().__init__(num_samples=num_samples, behaviour=behaviour, seed=seed)
        if behaviour.search > 0.0:
            raise ValueError(f"behaviour.search is {behaviour.search}, but only proofs are searched: set model.proving")

    @torch.no_grad()
    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        rollout_step: int,
        buffer: Buffer | None,
        device: torch.device | str,
        attempt: int = 0,
    ) -> SampledBatch:
        """Sample, replay and look up trajectories of one step each; see ``GroupSampler.collect``.

        Args:
            policy: samples; its lengths bound what may be given.
            problems: P problems with different ids.
            rollout_step: rollout batch counter, part of the random key.
            buffer: to replay from.
            device: of the returned tensors.
            attempt: which attempt at these problems in this rollout batch.

        Returns:
            Trajectories of one step each.

        Raises:
            ValueError: if a problem occurs twice, or there is no buffer to replay from.
        """
        self.check(problems, buffer)
        first = attempt * self.num_samples
        groups = [self._group(p, problem, policy, rollout_step, buffer, first) for p, problem in enumerate(problems)]
        rows = [row for group in groups for row in group]
        ids_of = [problem.id for problem in problems]
        actions = self._actions(policy, rows, ids_of, rollout_step, device)
        lengths = actions.mask.sum(1).tolist()
        terms = stored_terms([row.terms for row in rows], lengths, device)
        correct = terms.pop(CORRECT, None)
        any_sampled = any(row.action is None for row in rows)
        ids = actions.ids.tolist()
        rollouts = Rollouts(
            problems=tuple(problems),
            problem_index_B=torch.tensor([row.problem for row in rows], dtype=torch.int64, device=device),
            trajectory_index_N=torch.arange(len(rows), device=device),
            steps=StepBatch(
                *pad_contexts([row.context for row in rows], device), actions.ids, actions.mask, actions.inserted
            ),
            completions=tuple(policy.decode(ids[b][: lengths[b]]) for b in range(len(rows))),
            sources=tuple(row.source for row in rows),
            behaviour_log_pf_NT=actions.log_pf if any_sampled else None,
            behaviour_log_pstop_N=actions.log_pstop if any_sampled else None,
            terms=terms,
            correct_B=correct == 1.0 if correct is not None else None,
        )
        return SampledBatch(rollouts, metrics=self.fallbacks(rollouts, rollout_step))

    def _group(
        self, p: int, problem: Problem, policy: Policy, rollout_step: int, buffer: Buffer | None, first: int
    ) -> list[BatchRow]:
        source = self.behaviour.source(problem.id, seed=self.seed, rollout_step=rollout_step)
        prompt = policy.encode_prompt(problem.prompt)
        given: list[BatchRow] = []
        if source == "replay" and buffer is not None:
            given = self._replayed(p, problem, policy, rollout_step, buffer)
        elif source == "reference":
            given = self._reference(p, problem, policy, rollout_step, prompt)
        beside: list[BatchRow] = []
        if self.behaviour.always_reference:
            beside = self._reference(p, problem, policy, rollout_step, prompt)
        num_rows = self.num_samples + (self.behaviour.always_reference and not beside)
        rest = range(first + len(given), first + num_rows)
        if source == "tempered":
            temperature = self.behaviour.temperature(problem.id, seed=self.seed, rollout_step=rollout_step)
            return beside + [BatchRow(p, sample, "tempered", prompt, temperature) for sample in rest]
        return beside + given + [BatchRow(p, sample, "on_policy", prompt) for sample in rest]

    def _replayed(self, p: int, problem: Problem, policy: Policy, rollout_step: int, buffer: Buffer) -> list[BatchRow]:
        drawn = self.stored(problem, policy, rollout_step, buffer)
        if any(len(trajectory.steps) != 1 for trajectory in drawn):
            raise ValueError(
                f"the buffer holds a trajectory of several steps for problem '{problem.id}'; this sampler takes one"
            )
        return [
            BatchRow(p, sample, "replay", step.context, action=step.action, inserted=step.inserted, terms=found.terms)
            for sample, found in enumerate(drawn)
            for step in found.steps
        ]

    def _reference(
        self, p: int, problem: Problem, policy: Policy, rollout_step: int, prompt: Sequence[int]
    ) -> list[BatchRow]:
        encoded = [policy.encode_action(solution) for solution in problem.solutions]
        usable = [found for found in encoded if policy.can_produce(*found)]
        if not usable:
            return []
        uniform = keyed_uniform("reference", seed=self.seed, rollout_step=rollout_step, problem_id=problem.id)
        action, inserted = usable[int(uniform * len(usable))]
        return [BatchRow(p, 0, "reference", prompt, action=action, inserted=inserted)]

    def _actions(
        self,
        policy: Policy,
        rows: Sequence[BatchRow],
        problem_ids: Sequence[str],
        rollout_step: int,
        device: torch.device | str,
    ) -> _Actions:
        shape = (len(rows), policy.max_new_tokens)
        actions = _Actions(
            torch.zeros(shape, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.zeros(shape, device=device),
            torch.zeros(len(rows), device=device),
            torch.zeros(shape, dtype=torch.bool, device=device) if policy.uses_tools else None,
        )
        for b, row in enumerate(rows):
            if row.action is not None:
                actions.ids[b, : len(row.action)] = torch.tensor(row.action, dtype=torch.int64)
                actions.mask[b, : len(row.action)] = True
                if actions.inserted is not None:
                    actions.inserted[b, list(row.inserted)] = True
        sampled = [b for b, row in enumerate(rows) if row.action is None]
        calls = [
            Call(row.context, problem_ids[row.problem], row.sample, 0, row.temperature, row.source == "tempered")
            for row in (rows[b] for b in sampled)
        ]
        for chosen, found in self.draw_at(rollout_step)(policy, calls, device):
            _place(actions, [sampled[n] for n in chosen], found)
        used = int(actions.mask.sum(1).max()) if rows else 0
        inserted = None if actions.inserted is None else actions.inserted[:, :used]
        ids, mask, log_pf = (part[:, :used] for part in (actions.ids, actions.mask, actions.log_pf))
        return _Actions(ids, mask, log_pf, actions.log_pstop, inserted)


def _place(actions: _Actions, chosen: Sequence[int], sampled: SampledActions) -> None:
    device = actions.ids.device
    rows = torch.tensor(chosen, device=device)
    mask = sampled.action_mask_NT.to(device)
    width = mask.shape[1]
    actions.mask[rows, :width] = mask
    actions.ids[rows, :width] = torch.where(mask, sampled.action_ids_NT.to(device), 0)
    actions.log_pf[rows, :width] = torch.where(mask, sampled.behaviour_log_pf_NT.to(device, torch.float32), 0.0)
    actions.log_pstop[rows] = sampled.behaviour_log_pstop_N.to(device, torch.float32)
    if actions.inserted is not None and sampled.inserted_NT is not None:
        actions.inserted[rows, :width] = sampled.inserted_NT.to(device)
