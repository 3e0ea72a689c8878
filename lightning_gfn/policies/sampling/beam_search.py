"""Beam search over the actions of a policy, in groups that are kept apart by a penalty or in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.sampling.generation import Decoder, pack_contexts

Action = tuple[int, ...]


@dataclass
class Group:
    """The beams of one group of one context.

    Args:
        size: beams, and completions that are kept.
        live: tokens and score of each unfinished beam, best first; empty before the first step.
        finished: score and tokens of complete actions, best first.
    """

    size: int
    live: list[tuple[Action, float]] = field(default_factory=list)
    finished: list[tuple[float, Action]] = field(default_factory=list)

    def finish(self, action: Action, score: float) -> None:
        """Keep a complete action if it is among the best."""
        self.finished = sorted([*self.finished, (score, action)], key=lambda pair: -pair[0])[: self.size]

    def is_done(self, num_actions: int, most: int, length_penalty: float) -> bool:
        """True if no unfinished beam can become better than all that are kept.

        Args:
            num_actions: actions of the unfinished beams.
            most: actions of the longest possible completion.
            length_penalty: see ``beam_search``.
        """
        best = max((score for _, score in self.live), default=-math.inf)
        bound = max(normalised(best, length, length_penalty) for length in (num_actions + 1, most))
        return best == -math.inf or (len(self.finished) == self.size and self.finished[-1][0] >= bound)


def normalised(score: float, num_actions: int, length_penalty: float) -> float:
    """score / num_actions^length_penalty."""
    return score / max(1, num_actions) ** length_penalty


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    space: ActionSpace,
    contexts: Sequence[Sequence[int]],
    *,
    num_beams: int,
    num_groups: int = 1,
    diversity_penalty: float = 0.0,
    length_penalty: float = 0.0,
    pad_id: int,
    device: torch.device,
) -> list[list[Action]]:
    """The best complete actions of each context that beams find.

        score(z) = Σ_t [log q(z_t | z_<t) - diversity_penalty · n_t(z_t)] / (actions of z)^length_penalty

    n_t counts how many beams of earlier groups take this action as their t-th; with one group it is 0. At each step a
    group of K beams ranks its continuations: stops among the first K finish, and the first K others go on. It ends when
    no unfinished beam can become better than the K best that finished. Actions are the tokens and the stop, unless the
    maximum length forces that.

    Args:
        decoder: a fresh decoder.
        space: the actions of q.
        contexts: P token id sequences.
        num_beams: beams of all groups, and completions of each context.
        num_groups: divides ``num_beams``.
        diversity_penalty: nats for each earlier group's beam with the same action at the same place.
        length_penalty: 0 ranks by log q, 1 by its mean over actions.
        pad_id: filler of contexts.
        device: where the model is.

    Returns:
        For each context ``num_beams`` actions, groups in order and best first within each. A context with fewer
        different ones repeats its best.

    Source: Vijayakumar et al. 2018, arXiv:1610.02424 (groups); the rule for stops is that of transformers.
    """
    size = num_beams // num_groups
    groups = [[Group(size) for _ in range(num_groups)] for _ in contexts]
    ids_PC, mask_PC, prompt_P = pack_contexts(contexts, pad_id, device)
    rows_R = prompt_P.repeat_interleave(num_beams)
    logits_RV = decoder.prefill(ids_PC, mask_PC).index_select(0, rows_R)
    decoder.expand(rows_R, space.max_new_tokens - 1)
    all_R = torch.arange(len(rows_R), device=device)
    for own in groups:
        for group in own:
            group.live = [((), 0.0 if beam == 0 else -math.inf) for beam in range(size)]
    for t in range(space.max_new_tokens):
        log_p_RV = space.restrict_(logits_RV, t >= space.min_new_tokens).log_softmax(1)
        log_p_PGKV = log_p_RV.view(len(contexts), num_groups, size, -1)
        source_R, token_R = advance(groups, log_p_PGKV, space.stop_id, diversity_penalty, length_penalty, t)
        most = space.max_new_tokens
        if t + 1 == most or all(g.is_done(t + 1, most, length_penalty) for own in groups for g in own):
            break
        decoder.move_rows(all_R, source_R.to(device), len(all_R))
        logits_DV = decoder.step(token_R.to(device))
        logits_RV = logits_DV if decoder.state_R is None else logits_DV.index_select(0, decoder.state_R)
    if t + 1 == space.max_new_tokens:
        finish_longest(groups, length_penalty)
    return [chosen(own, num_beams) for own in groups]


def advance(
    groups: list[list[Group]],
    log_p_PGKV: Tensor,
    stop_id: int,
    diversity_penalty: float,
    length_penalty: float,
    t: int,
) -> tuple[Tensor, Tensor]:
    """Choose the next action of every beam.

    Args:
        groups: of each context; changed.
        log_p_PGKV: log q of every action after every beam.
        stop_id: column of the stop.
        diversity_penalty: see ``beam_search``.
        length_penalty: see ``beam_search``.
        t: tokens of every beam.

    Returns:
        The row that each new beam continues, and its token, both (P · G · K,) on the processor.
    """
    num_contexts, num_groups, size, vocab_size = log_p_PGKV.shape
    taken_PV = torch.zeros(num_contexts, vocab_size, device=log_p_PGKV.device)
    source_PGK = torch.zeros(num_contexts, num_groups, size, dtype=torch.int64)
    token_PGK = torch.zeros_like(source_PGK)
    for g in range(num_groups):
        scores = [[score for _, score in own[g].live] for own in groups]
        score_PK1 = torch.tensor(scores, dtype=log_p_PGKV.dtype, device=log_p_PGKV.device)[:, :, None]
        ranked_PKV = score_PK1 + log_p_PGKV[:, g] - diversity_penalty * taken_PV[:, None]
        best = ranked_PKV.flatten(1).topk(min(2 * size, size * vocab_size), dim=1)
        for p, (values, places) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            pairs = [(value, *divmod(place, vocab_size)) for value, place in zip(values, places, strict=True)]
            for k, (beam, token) in enumerate(continued(groups[p][g], pairs, stop_id, length_penalty, t)):
                source_PGK[p, g, k] = (p * num_groups + g) * size + beam
                token_PGK[p, g, k] = token
        token_PK = token_PGK[:, g].to(taken_PV.device)
        taken_PV.scatter_add_(1, token_PK, torch.ones_like(token_PK, dtype=taken_PV.dtype))
    return source_PGK.flatten(), token_PGK.flatten()


def continued(
    group: Group, ranked: Sequence[tuple[float, int, int]], stop_id: int, length_penalty: float, t: int
) -> list[tuple[int, int]]:
    """Finish and continue the beams of a group; the beam and the token of each that goes on.

    Args:
        group: changed.
        ranked: score, beam and action of its best continuations, best first.
        stop_id: the action that stops.
        length_penalty: see ``beam_search``.
        t: tokens of every beam.
    """
    before, group.live = group.live, []
    moves: list[tuple[int, int]] = []
    for rank, (score, beam, action) in enumerate(ranked):
        if action == stop_id:
            if rank < group.size and score > -math.inf:
                group.finish(before[beam][0], normalised(score, t + 1, length_penalty))
        elif len(moves) < group.size:
            group.live.append(((*before[beam][0], action), score))
            moves.append((beam, action))
    while len(moves) < group.size:  # hardly any action exists: a row must go on, but nothing of it counts
        group.live.append((before[0][0], -math.inf))
        moves.append((0, 0))
    return moves


def finish_longest(groups: list[list[Group]], length_penalty: float) -> None:
    """Beams of the maximum length are complete, and their stop costs nothing."""
    for group in (group for own in groups for group in own):
        for action, score in group.live:
            if score > -math.inf:
                group.finish(action, normalised(score, len(action), length_penalty))


def chosen(groups: Sequence[Group], num_beams: int) -> list[Action]:
    """The completions of a context, the first of them repeated where there are too few."""
    found = [action for group in groups for _, action in group.finished]
    return [found[n % len(found)] for n in range(num_beams)]
