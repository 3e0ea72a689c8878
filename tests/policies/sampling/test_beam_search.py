"""Beams against enumeration, transformers' own search and a loop without caches; records of what was found."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from lightning_gfn.modules.settings import EvaluationSettings
from lightning_gfn.policies.sampling import beam_search as beams_module
from lightning_gfn.rollouts.evaluating.beams import BeamSettings, search_completions
from lightning_gfn.types import Problem
from tests.policies.conftest import plain_logits

PROMPTS = ("what is 12 + 3", "no", "a longer prompt")
SHARP = {"initializer_range": 0.6}
OFTEN_STOPS: dict[str, Any] = {"allowed_tokens": [*"abcdef"], "end_tokens": [*"xyz"]}


def log_q(policy: Any, context: list[int], action: tuple[int, ...]) -> torch.Tensor:
    """log q of every next action, by a plain pass."""
    logits = plain_logits(policy, context, list(action))[-1:].float()
    return policy.space.restrict_(logits, len(action) >= policy.min_new_tokens).log_softmax(1)[0]


def written_search(
    policy: Any, context: list[int], size: int, groups: int, penalty: float, alpha: float
) -> list[tuple[int, ...]]:
    """Diverse beam search of one context, one plain pass a beam; runs to the maximum length."""
    live: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(groups)]
    done: list[list[tuple[float, tuple[int, ...]]]] = [[] for _ in range(groups)]
    for t in range(policy.max_new_tokens):
        taken: dict[int, int] = {}
        for g in range(groups):
            every = []
            for action, score in live[g]:
                values = log_q(policy, context, action).tolist()
                every += [(score + v - penalty * taken.get(a, 0), action, a) for a, v in enumerate(values)]
            every = sorted((entry for entry in every if entry[0] > -math.inf), key=lambda entry: -entry[0])
            stops = [entry for entry in every[:size] if entry[2] == policy.stop_id]
            done[g] += [(score / (t + 1) ** alpha, action) for score, action, _ in stops]
            going = [entry for entry in every if entry[2] != policy.stop_id][:size]
            live[g] = [((*action, a), score) for score, action, a in going]
            for _, _, a in going:
                taken[a] = taken.get(a, 0) + 1
    for g in range(groups):
        done[g] += [(score / len(action) ** alpha, action) for action, score in live[g]]
    return [action for found in done for _, action in sorted(found, key=lambda pair: -pair[0])[:size]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("decoder", ["fused", "hugging_face"])
def test_wide_beams_find_the_most_probable_completions(make_policy: Any, name: str, decoder: str) -> None:
    policy = make_policy(name, decoder=decoder, max_new_tokens=3, allowed_tokens=["a", "b", "c"])
    contexts = [policy.encode_prompt(text) for text in PROMPTS]
    letters = [policy.encode_completion(letter)[0] for letter in "abc"]
    for context, found in zip(contexts, policy.search_beams(contexts, num_beams=30), strict=True):
        after = {action: log_q(policy, context, action) for n in range(3) for action in product(letters, repeat=n)}
        scores = {}
        for n in range(4):
            for action in product(letters, repeat=n):
                ends = 0.0 if n == 3 else float(after[action][policy.stop_id])
                scores[action] = ends + sum(float(after[action[:t]][a]) for t, a in enumerate(action))
        best = sorted(scores, key=lambda action: -scores[action])[:30]
        assert [scores[action] for action in found] == pytest.approx([scores[action] for action in best], abs=1e-4)
        assert len(set(found)) == 30


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("size", [2, 5])
def test_one_group_finds_what_transformers_finds(make_policy: Any, alpha: float, size: int) -> None:
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    policy = make_policy(config=SHARP, max_new_tokens=6, min_new_tokens=1, decoder="hugging_face")

    class Restrict(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            may_stop = input_ids.shape[1] - start >= policy.min_new_tokens
            return policy.space.restrict_(scores.float().clone(), may_stop)

    for text in PROMPTS:
        context = policy.encode_prompt(text)
        start = len(context)
        settings = GenerationConfig(
            num_beams=size, num_return_sequences=size, do_sample=False, max_new_tokens=6, length_penalty=alpha,
            early_stopping="never", eos_token_id=policy.stop_id, pad_token_id=policy.stop_id, renormalize_logits=True,
        )  # fmt: skip
        rows = policy.hugging_face.generate(
            torch.tensor([context]), generation_config=settings, logits_processor=LogitsProcessorList([Restrict()])
        )
        wanted = []
        for row in rows[:, start:].tolist():
            wanted.append(tuple(row[: row.index(policy.stop_id)] if policy.stop_id in row else row))
        (found,) = policy.search_beams([context], num_beams=size, length_penalty=alpha)
        assert found == wanted


@pytest.mark.parametrize("actions", [{}, OFTEN_STOPS], ids=["all", "often stops"])
@pytest.mark.parametrize(("groups", "penalty", "alpha"), [(1, 0.0, 0.5), (2, 1.5, 0.0), (4, 0.3, 1.0), (4, 50.0, 0.0)])
def test_groups_are_those_of_a_loop_without_caches(
    make_policy: Any,
    groups: int,
    penalty: float,
    alpha: float,
    actions: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = make_policy(config=SHARP, max_new_tokens=5, **actions)
    contexts = [policy.encode_prompt(text) for text in PROMPTS]
    how = {"num_groups": groups, "diversity_penalty": penalty, "length_penalty": alpha}
    # A group that is done would still deal out penalties in the loop, which never ends early.
    monkeypatch.setattr(beams_module.Group, "is_done", lambda *_: False)
    found = policy.search_beams(contexts, num_beams=4, **how)
    for context, best in zip(contexts, found, strict=True):
        assert best == written_search(policy, context, 4 // groups, groups, penalty, alpha)
    if penalty == 50.0 and not actions:
        assert all(len({action[:1] for action in best}) == 4 for best in found)
    if actions:
        lengths = {len(action) for best in found for action in best}
        assert min(lengths) < 5 and len(lengths) > 1


def test_one_beam_is_greedy(make_policy: Any) -> None:
    policy = make_policy(config=SHARP, max_new_tokens=6, **OFTEN_STOPS)
    contexts = [policy.encode_prompt(f"{text} {n}") for text in PROMPTS for n in range(8)]
    greedy = policy.sample(contexts, torch.zeros(len(contexts), 7, dtype=torch.float64), top_k=1)
    ids, lengths = greedy.action_ids_NT.tolist(), greedy.action_mask_NT.sum(1).tolist()
    wanted = [tuple(row[:length]) for row, length in zip(ids, lengths, strict=True)]
    assert [found for (found,) in policy.search_beams(contexts, num_beams=1)] == wanted and len(set(lengths)) > 1


def test_ending_early_changes_nothing_for_one_group(make_policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(config=SHARP, max_new_tokens=8)
    contexts = [policy.encode_prompt(text) for text in PROMPTS]
    early = [policy.search_beams(contexts, num_beams=3, length_penalty=alpha) for alpha in (-1.0, 0.0, 2.0)]
    monkeypatch.setattr(beams_module.Group, "is_done", lambda *_: False)
    assert early == [policy.search_beams(contexts, num_beams=3, length_penalty=alpha) for alpha in (-1.0, 0.0, 2.0)]


def test_records_hold_what_was_found_with_its_probability(make_policy: Any) -> None:
    policy = make_policy(config=SHARP, max_new_tokens=4, allowed_tokens=["a", "b"])
    problems = [Problem(id=text, prompt=text) for text in PROMPTS]
    settings = BeamSettings(num_groups=2, diversity_penalty=0.5)
    records = search_completions(policy, problems, settings, num_samples=4, max_rows=5)
    assert [record.problem for record in records] == problems
    for record in records:
        context = policy.encode_prompt(record.problem.prompt)
        assert not record.is_drawn and record.temperature == 1.0 and len(record.completions) == 4
        for action, log_prob in zip(record.actions, record.log_probs, strict=True):
            parts = [float(log_q(policy, context, action[:t])[a]) for t, a in enumerate(action)]
            ends = 0.0 if len(action) == 4 else float(log_q(policy, context, action)[policy.stop_id])
            assert log_prob == pytest.approx(sum(parts) + ends, abs=1e-4)


def test_few_completions_are_repeated_and_wrong_settings_named(make_policy: Any) -> None:
    policy = make_policy(max_new_tokens=1, min_new_tokens=0, allowed_tokens=["a"])
    (found,) = policy.search_beams([policy.encode_prompt("no")], num_beams=5)
    assert len(found) == 5 and set(found) == {(), tuple(policy.encode_completion("a"))}
    with pytest.raises(ValueError, match="num_groups=2 must divide num_beams=3"):
        policy.search_beams([[3]], num_beams=3, num_groups=2)
    with pytest.raises(ValueError, match="temperatures to"):
        EvaluationSettings(temperatures=(0.5,), beams=BeamSettings())
    with pytest.raises(ValueError, match="num_samples=8 beams cannot be divided"):
        EvaluationSettings(beams=BeamSettings(num_groups=3, diversity_penalty=1.0))
    with pytest.raises(ValueError, match="would all find the same"):
        BeamSettings(num_groups=2)
