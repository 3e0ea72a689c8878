from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.rollouts.rollout_batch import sampled_tokens
from lightning_gfn.types import Problem, Rollouts, Step, Trajectory

ONLY = {
    name: BehaviourMix(**{"on_policy": 0.0, name: 1.0}) for name in ("on_policy", "tempered", "replay", "reference")
}


def collect(policy, problems, mix=ONLY["on_policy"], *, num_samples=3, seed=1, step=5, buffer=None) -> Rollouts:
    sampler = RolloutSampler(num_samples=num_samples, behaviour=mix, seed=seed)
    return sampler.collect(policy, problems, rollout_step=step, buffer=buffer, device="cpu").rollouts


def rows_by_problem(rollouts: Rollouts) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for b, (text, source) in enumerate(zip(rollouts.completions, rollouts.sources, strict=True)):
        groups.setdefault(rollouts.problem_of(b).id, []).append((text, source))
    return groups


def stored(policy, problem: Problem, text: str, log_reward: float = 0.0) -> Trajectory:
    step = Step(tuple(policy.encode_prompt(problem.prompt)), tuple(policy.encode_completion(text)))
    terms = {"tokens": tuple(float(i) for i in range(len(text) + 1)), "correct_B": (float(len(text) % 2),)}
    return Trajectory(problem.id, (step,), text, terms, log_reward)


def test_rows_padding_and_indices(policy, problems) -> None:
    rollouts = collect(policy, problems)
    assert rollouts.num_trajectories == 24 and rollouts.sources == ("on_policy",) * 24
    assert rollouts.problem_index_B.tolist() == [p for p in range(8) for _ in range(3)]
    assert rollouts.trajectory_index_N.tolist() == list(range(24))
    for b, action in enumerate(rollouts.action_lists()):
        assert policy.decode(action) == rollouts.completions[b]
        context = rollouts.context_ids_NC[b][rollouts.context_mask_NC[b]].tolist()
        assert policy.decode(context) == rollouts.problem_of(b).prompt
    width = rollouts.context_mask_NC.shape[1]
    assert rollouts.context_mask_NC[0].tolist() == [False] * (width - 2) + [True] * 2, "contexts are padded on the left"
    lengths = rollouts.action_mask_NT.sum(1)
    assert torch.equal(rollouts.action_mask_NT, torch.arange(rollouts.action_mask_NT.shape[1]) < lengths[:, None])
    assert rollouts.action_mask_NT.shape[1] == lengths.max() and len(set(lengths.tolist())) > 2
    assert (rollouts.action_ids_NT[~rollouts.action_mask_NT] == 0).all() and (
        rollouts.context_ids_NC[~rollouts.context_mask_NC] == 0
    ).all()
    assert rollouts.terms == {} and rollouts.correct_B is None


def test_one_call_with_the_keyed_uniforms(policy, problems) -> None:
    collect(policy, problems[:2], num_samples=2)
    (call,) = policy.sample_calls
    ids = ["id0", "id0", "id1", "id1"]
    expected = keyed_uniforms("action", seed=1, rollout_step=5, problem_ids=ids, samples=[0, 1, 0, 1], length=13)
    assert call["uniforms"].dtype == torch.float64 and (call["uniforms"].numpy() == expected).all()
    assert call["temperature"] is None and call["top_k"] is None


def test_samples_do_not_depend_on_the_rest_of_the_batch(policy, problems) -> None:
    mix = BehaviourMix(on_policy=0.4, tempered=0.4, reference=0.2)
    whole = rows_by_problem(collect(policy, problems, mix))
    halves = rows_by_problem(collect(policy, problems[4:], mix)) | rows_by_problem(
        collect(policy, problems[:4][::-1], mix)
    )
    assert whole == halves and {source for rows in whole.values() for _, source in rows} == {
        "on_policy",
        "tempered",
        "reference",
    }
    assert whole != rows_by_problem(collect(policy, problems, mix, step=6))
    assert whole != rows_by_problem(collect(policy, problems, mix, seed=2))


def test_behaviour_log_probs_are_those_of_the_tempered_policy(policy, problems) -> None:
    mix = BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=3.0, temperature_high=4.0)
    rollouts = collect(policy, problems, mix, num_samples=2)
    assert len(policy.sample_calls) == 1 and rollouts.behaviour_log_pf_NT is not None
    assert set(rollouts.sources) == {"on_policy", "tempered"}
    at_one, off_one = [], []
    scores = policy.score(rollouts.steps)
    for b, source in enumerate(rollouts.sources):
        temperature = (
            mix.temperature(rollouts.problem_of(b).id, seed=1, rollout_step=5) if source == "tempered" else 1.0
        )
        previous = policy.encode_prompt(rollouts.problem_of(b).prompt)[-1]
        for i, token in enumerate(rollouts.action_lists()[b]):
            expected = (policy.log_q(previous, i) / temperature).log_softmax(-1)[token]
            assert rollouts.behaviour_log_pf_NT[b, i] == pytest.approx(float(expected), abs=1e-4)
            previous = token
        gap = (rollouts.behaviour_log_pf_NT[b] - scores.log_pf_NT[b]).abs().max()
        (off_one if temperature != 1.0 else at_one).append(float(gap))
    assert max(at_one) < 1e-5 < 0.1 < max(off_one)


def test_truncation_concerns_the_tempered_share_alone(policy, problems) -> None:
    mix = BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=1.0, top_k=1)
    rollouts = collect(policy, problems, mix)
    assert [call["top_k"] for call in policy.sample_calls] == [None, 1]
    assert sum(len(call["contexts"]) for call in policy.sample_calls) == 24
    groups = rows_by_problem(rollouts)
    for rows in groups.values():
        if rows[0][1] == "tempered":
            assert len(set(rows)) == 1, "top_k=1 leaves one completion"
    assert any(len(set(rows)) > 1 for rows in groups.values() if rows[0][1] == "on_policy")
    assert {rows[0][1] for rows in groups.values()} == {"tempered", "on_policy"}


def test_replay_brings_stored_tokens_terms_and_verdicts(policy, problems) -> None:
    buffer = ReplayBuffer(replacement=False)
    texts = ["abc", "x", "hello"]
    buffer.add(stored(policy, problems[2], text) for text in texts)
    rollouts = collect(policy, problems[2:3], ONLY["replay"], buffer=buffer)
    assert policy.sample_calls == [] and rollouts.sources == ("replay",) * 3 and rollouts.behaviour_log_pf_NT is None
    assert sorted(rollouts.completions) == sorted(texts)
    assert rollouts.correct_B is not None and rollouts.terms["tokens"].shape == (3, 6)
    for b, text in enumerate(rollouts.completions):
        assert bool(rollouts.correct_B[b]) == (len(text) % 2 == 1)
        assert rollouts.terms["tokens"][b].tolist() == [min(i, len(text)) for i in range(6)]


def test_too_few_replayed_rows_are_filled_on_policy_and_nothing_held_is_counted(policy, problems) -> None:
    buffer = ReplayBuffer(replacement=False)
    buffer.add([stored(policy, problems[0], "ab")])
    sampler = RolloutSampler(num_samples=3, behaviour=ONLY["replay"], seed=1)
    drawn = sampler.collect(policy, problems[:3], rollout_step=0, buffer=buffer, device="cpu")
    rollouts = drawn.rollouts
    assert rollouts.sources == ("replay", *["on_policy"] * 8)
    assert drawn.metrics == {"fallbacks_replay": 2.0} and drawn.costs == {}
    assert rollouts.terms["tokens"][0].isfinite().all() and rollouts.terms["tokens"][1:].isnan().all()
    on_policy = collect(policy, problems[:3], step=0)
    assert rollouts.completions[1:] == on_policy.completions[1:], "the same keyed samples as without replay"


def test_a_reference_solution_joins_the_group(policy, problems) -> None:
    chosen = set()
    for step in range(20):
        rollouts = collect(policy, problems[:2], ONLY["reference"], step=step)
        assert rollouts.sources == ("reference", "on_policy", "on_policy") * 2
        assert rollouts.completions[0] in problems[0].solutions and rollouts.completions[3] in problems[1].solutions
        on_policy = collect(policy, problems[:2], step=step)
        assert rollouts.completions[1:3] == on_policy.completions[1:3]
        chosen.add(rollouts.completions[0])
    assert chosen == set(problems[0].solutions)


def test_given_actions_of_impossible_length_are_refused_and_counted(make_policy, problems) -> None:
    policy = make_policy(max_new_tokens=4, min_new_tokens=2)
    fits = replace(problems[0], solutions=("abcde", "abcd", "a"))
    too_long = replace(problems[1], solutions=("abcde",))
    without = replace(problems[2], solutions=())
    sampler = RolloutSampler(num_samples=2, behaviour=ONLY["reference"], seed=1)
    for step in range(5):
        drawn = sampler.collect(policy, [fits, too_long, without], rollout_step=step, buffer=None, device="cpu")
        assert drawn.rollouts.completions[0] == "abcd" and drawn.rollouts.sources[1:] == ("on_policy",) * 5
        assert drawn.metrics == {"fallbacks_reference": 2.0}
    buffer = ReplayBuffer()
    buffer.add([stored(policy, problems[0], "abcde")])
    replaying = RolloutSampler(num_samples=2, behaviour=ONLY["replay"], seed=1)
    drawn = replaying.collect(policy, problems[:1], rollout_step=0, buffer=buffer, device="cpu")
    assert drawn.rollouts.sources == ("on_policy",) * 2 and drawn.metrics == {"fallbacks_replay": 1.0}
    sampling = RolloutSampler(num_samples=2, behaviour=ONLY["on_policy"], seed=1)
    drawn = sampling.collect(policy, problems[:1], rollout_step=0, buffer=buffer, device="cpu")
    assert drawn.metrics == {}, "a mix that gives nothing misses nothing"


def test_replay_terms_of_two_rewards_are_refused(policy, problems) -> None:
    buffer = ReplayBuffer(replacement=False)
    first, second = stored(policy, problems[0], "ab"), stored(policy, problems[0], "cd")
    buffer.add([first, replace(second, terms={"other": (1.0,)})])
    with pytest.raises(ValueError, match="filled under two rewards"):
        collect(policy, problems[:1], ONLY["replay"], num_samples=2, buffer=buffer)


def test_wrong_calls_are_named(policy, problems) -> None:
    with pytest.raises(ValueError, match="num_samples=0"):
        RolloutSampler(num_samples=0, behaviour=ONLY["on_policy"], seed=0)
    with pytest.raises(ValueError, match="no buffer to replay from"):
        collect(policy, problems, ONLY["replay"])
    with pytest.raises(ValueError, match="same problem id twice"):
        collect(policy, [problems[0], problems[0]])
    buffer = ReplayBuffer()
    buffer.add([Trajectory("id0", (Step((1,), (2,)), Step((1, 2), (3,))), "x", {}, 0.0)])
    with pytest.raises(ValueError, match="several steps for problem 'id0'"):
        collect(policy, problems[:1], ONLY["replay"], buffer=buffer)


def test_empty_completions_make_a_batch_too(make_policy, problems) -> None:
    rollouts = collect(make_policy(stop_bonus=1000.0), problems[:2])
    assert rollouts.completions == ("",) * 6 and rollouts.action_ids_NT.shape == (6, 0)


def test_sampled_tokens_are_those_that_the_policy_wrote_in_the_batch(policy, problems) -> None:
    buffer = ReplayBuffer()
    buffer.add([stored(policy, problem, "ab") for problem in problems])
    mix = BehaviourMix(on_policy=0.25, tempered=0.25, replay=0.25, reference=0.25)
    rollouts = collect(policy, problems, mix, buffer=buffer)
    lengths = rollouts.action_mask_NT.sum(1).tolist()
    by_source = dict.fromkeys(("on_policy", "tempered", "replay", "reference"), 0)
    for source, length in zip(rollouts.sources, lengths, strict=True):
        by_source[source] += length
    assert min(by_source.values()) > 0
    assert sampled_tokens(rollouts) == by_source["on_policy"] + by_source["tempered"]
