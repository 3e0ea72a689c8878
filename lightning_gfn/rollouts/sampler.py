"""Collects the trajectories of one training step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Policy
from lightning_gfn.rollouts.batching import CORRECT, Row, pad_contexts, stored_terms
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.keyed_random import keyed_uniform, keyed_uniforms
from lightning_gfn.types import Problem, Rollouts, SampledActions, Source


@dataclass
class _Actions:
    """The padded actions of B rows: ids, mask and behaviour log-probabilities, each (B, T)."""

    ids: Tensor
    mask: Tensor
    log_pf: Tensor


class RolloutSampler:
    """Fills a group of trajectories for every problem, by a behaviour mix.

    Rows that are given (replayed or reference) come first in their group; all others are sampled, in one call to the
    policy (two if the tempered share is truncated by top-k or top-p). Given actions that the policy could not produce,
    longer than its maximum or shorter than its minimum length, are refused, never cut. A problem whose group gets
    no given row where its source is ``replay`` or ``reference`` is sampled on-policy and counted in ``fallbacks``.

    Args:
        num_samples: trajectories for each problem.
        behaviour: where they come from.
        seed: key of all random numbers.

    Raises:
        ValueError: if ``num_samples`` is below 1.
    """

    def __init__(self, *, num_samples: int, behaviour: BehaviourMix, seed: int) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples={num_samples} must be at least 1")
        self.num_samples = num_samples
        self.behaviour = behaviour
        self.seed = seed
        self.fallbacks: Counter[Source] = Counter()

    @torch.no_grad()
    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        step: int,
        buffer: Buffer | None,
        device: torch.device | str,
        attempt: int = 0,
    ) -> Rollouts:
        """Sample, replay and look up B = P · num_samples trajectories, grouped by problem.

        Until ``evaluate_rewards``, ``terms`` and ``correct_B`` hold what replayed rows bring along (NaN and False in
        all others), or nothing. Behaviour log-probabilities are given only if every row was sampled.

        Args:
            policy: samples; its lengths bound what may be given.
            problems: P problems with different ids.
            step: rollout batch counter, part of the random key.
            buffer: to replay from.
            device: of the returned tensors.
            attempt: the r-th attempt at these problems in a step draws their samples r · num_samples and following, so
                that its random numbers are no other's.

        Returns:
            Rollouts with one step a trajectory.

        Raises:
            ValueError: if a problem occurs twice, or there is no buffer to replay from.
        """
        if len({problem.id for problem in problems}) != len(problems):
            raise ValueError(
                "a batch holds the same problem id twice; their samples would be equal: shuffle without replacement"
            )
        if buffer is None and self.behaviour.replay > 0.0:
            raise ValueError(f"behaviour.replay is {self.behaviour.replay} but there is no buffer to replay from")
        first = attempt * self.num_samples
        groups = [self._group(p, problem, policy, step, buffer, first) for p, problem in enumerate(problems)]
        rows = [row for group in groups for row in group]
        ids_of = [problem.id for problem in problems]
        actions = self._actions(policy, rows, ids_of, step, device)
        lengths = actions.mask.sum(1).tolist()
        terms = stored_terms(rows, lengths, device)
        correct = terms.pop(CORRECT, None)
        context_ids, context_mask = pad_contexts([row.context for row in rows], device)
        all_sampled = all(row.action is None for row in rows)
        ids = actions.ids.tolist()
        return Rollouts(
            problems=tuple(problems),
            problem_index_B=torch.tensor([row.problem for row in rows], dtype=torch.int64, device=device),
            trajectory_index_N=torch.arange(len(rows), device=device),
            context_ids_NC=context_ids,
            context_mask_NC=context_mask,
            action_ids_NT=actions.ids,
            action_mask_NT=actions.mask,
            completions=tuple(policy.decode(ids[b][: lengths[b]]) for b in range(len(rows))),
            sources=tuple(row.source for row in rows),
            behaviour_log_pf_NT=actions.log_pf if all_sampled else None,
            terms=terms,
            correct_B=correct == 1.0 if correct is not None else None,
        )

    def _group(
        self, p: int, problem: Problem, policy: Policy, step: int, buffer: Buffer | None, first: int
    ) -> list[Row]:
        source = self.behaviour.source(problem.id, seed=self.seed, step=step)
        prompt = policy.encode_prompt(problem.prompt)
        given: list[Row] = []
        if source == "replay" and buffer is not None:
            given = self._replayed(p, problem, policy, step, buffer)
        elif source == "reference":
            given = self._reference(p, problem, policy, step, prompt)
        if source in ("replay", "reference") and not given:
            self.fallbacks[source] += 1
        rest = range(first + len(given), first + self.num_samples)
        if source == "tempered":
            temperature = self.behaviour.temperature(problem.id, seed=self.seed, step=step)
            return [Row(p, sample, "tempered", prompt, temperature) for sample in rest]
        return given + [Row(p, sample, "on_policy", prompt) for sample in rest]

    def _replayed(self, p: int, problem: Problem, policy: Policy, step: int, buffer: Buffer) -> list[Row]:
        uniforms = keyed_uniforms(
            "replay", seed=self.seed, step=step, problem_ids=[problem.id], samples=[0], length=self.num_samples
        )
        drawn = buffer.sample(problem.id, self.num_samples, uniforms[0].tolist())
        if any(len(trajectory.steps) != 1 for trajectory in drawn):
            raise ValueError(
                f"the buffer holds a trajectory of several steps for problem '{problem.id}'; this sampler takes one"
            )
        usable = [trajectory for trajectory in drawn if _fits(trajectory.steps[0].action, policy)]
        return [
            Row(p, sample, "replay", found.steps[0].context, action=found.steps[0].action, terms=found.terms)
            for sample, found in enumerate(usable)
        ]

    def _reference(self, p: int, problem: Problem, policy: Policy, step: int, prompt: Sequence[int]) -> list[Row]:
        encoded = [policy.encode_completion(solution) for solution in problem.solutions]
        usable = [action for action in encoded if _fits(action, policy)]
        if not usable:
            return []
        uniform = keyed_uniform("reference", seed=self.seed, step=step, problem_id=problem.id)
        return [Row(p, 0, "reference", prompt, action=usable[int(uniform * len(usable))])]

    def _actions(
        self, policy: Policy, rows: Sequence[Row], problem_ids: Sequence[str], step: int, device: torch.device | str
    ) -> _Actions:
        shape = (len(rows), policy.max_new_tokens)
        actions = _Actions(
            torch.zeros(shape, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=torch.bool, device=device),
            torch.zeros(shape, device=device),
        )
        for b, row in enumerate(rows):
            if row.action is not None:
                actions.ids[b, : len(row.action)] = torch.tensor(row.action, dtype=torch.int64)
                actions.mask[b, : len(row.action)] = True
        for chosen, truncated in self._calls(rows):
            picked = [rows[b] for b in chosen]
            sampled = self._sample(
                policy, picked, [problem_ids[row.problem] for row in picked], truncated, step, device
            )
            _place(actions, chosen, sampled)
        used = int(actions.mask.sum(1).max()) if rows else 0
        return _Actions(actions.ids[:, :used], actions.mask[:, :used], actions.log_pf[:, :used])

    def _calls(self, rows: Sequence[Row]) -> list[tuple[list[int], bool]]:
        """Row indices of each call to the policy, and whether top-k and top-p apply to it."""
        sampled = [b for b, row in enumerate(rows) if row.action is None]
        if not self.behaviour.truncates:
            return [(sampled, False)] if sampled else []
        plain = [b for b in sampled if rows[b].source != "tempered"]
        truncated = [b for b in sampled if rows[b].source == "tempered"]
        return [call for call in ((plain, False), (truncated, True)) if call[0]]

    def _sample(
        self,
        policy: Policy,
        rows: Sequence[Row],
        problem_ids: Sequence[str],
        truncated: bool,
        step: int,
        device: torch.device | str,
    ) -> SampledActions:
        uniforms = keyed_uniforms(
            "action",
            seed=self.seed,
            step=step,
            problem_ids=problem_ids,
            samples=[row.sample for row in rows],
            length=policy.max_new_tokens + 1,
        )
        temperatures = [row.temperature for row in rows]
        is_tempered = any(temperature != 1.0 for temperature in temperatures)
        return policy.sample(
            [row.context for row in rows],
            torch.from_numpy(uniforms).to(device),
            temperature_N=torch.tensor(temperatures, device=device) if is_tempered else None,
            top_k=self.behaviour.top_k if truncated else None,
            top_p=self.behaviour.top_p if truncated else None,
        )


def _fits(action: Sequence[int], policy: Policy) -> bool:
    return policy.min_new_tokens <= len(action) <= policy.max_new_tokens


def _place(actions: _Actions, chosen: Sequence[int], sampled: SampledActions) -> None:
    device = actions.ids.device
    rows = torch.tensor(chosen, device=device)
    mask = sampled.action_mask_NT.to(device)
    width = mask.shape[1]
    actions.mask[rows, :width] = mask
    actions.ids[rows, :width] = torch.where(mask, sampled.action_ids_NT.to(device), 0)
    actions.log_pf[rows, :width] = torch.where(mask, sampled.behaviour_log_pf_NT.to(device, torch.float32), 0.0)
