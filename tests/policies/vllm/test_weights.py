"""Weights reach the server when they have changed, once, whoever pushes them, and again if the server loses them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_gfn.policies.vllm.engine import steps_of
from lightning_gfn.policies.vllm.server import VllmError
from lightning_gfn.policies.vllm.weights import fingerprint

PUSHES = {True: "/v1/load_lora_adapter", False: "/collective_rpc"}
TEXTS = ["x", "yy", "x"]


@pytest.fixture
def make_policy(make_policy):
    """Actions have tokens."""
    return partial(make_policy, min_new_tokens=2)


def pushes(server, adapted: bool) -> int:
    """The look at whether the route is there counts as a request, too."""
    return server.counts()[PUSHES[adapted]] - adapted


def mismatch(policy, contexts, sampled) -> float:
    own = policy.score(steps_of(contexts, sampled))
    return float((sampled.behaviour_log_pf_NT - own.log_pf_NT.detach())[sampled.action_mask_NT].abs().max())


@pytest.mark.parametrize("adapted", [False, True])
def test_each_version_is_pushed_once_and_changes_the_answers(make_policy, draw, move, server, adapted) -> None:
    policy = make_policy(adapted=adapted)
    answers = []
    for update in range(4):
        for _ in range(2):
            contexts, sampled = draw(policy, TEXTS)
            assert mismatch(policy, contexts, sampled) < 1e-5
            assert pushes(server, adapted) == update + 1
        answers.append(sampled.behaviour_log_pf_NT)
        draw(policy, TEXTS, top_k=2)
        assert pushes(server, adapted) == update + 1
        move(policy, update)
    for one, other in zip(answers, answers[1:], strict=False):
        assert one.shape != other.shape or float((one - other).abs().max()) > 1e-2


@pytest.mark.parametrize("adapted", [False, True])
def test_only_the_present_version_is_kept(make_policy, draw, move, server, tmp_path, adapted) -> None:
    policy = make_policy(adapted=adapted)
    for update in range(3):
        draw(policy, TEXTS)
        move(policy, update)
    version = policy.engine.weights.version
    assert [path.name for path in (tmp_path / "pushed").iterdir() if path.is_dir()] == [version]
    expected = {f"lightning-gfn-{version}"} if adapted else set()
    assert set(server.set()["adapters"]) == expected


@pytest.mark.parametrize("adapted", [False, True])
def test_ranks_with_equal_weights_push_once(make_policy, draw, move, server, adapted) -> None:
    ranks = [make_policy(adapted=adapted) for _ in range(2)]
    before = server.counts().get(PUSHES[adapted], 0)
    for update in range(3):
        for policy in ranks:
            contexts, sampled = draw(policy, TEXTS)
            assert mismatch(policy, contexts, sampled) < 1e-5
            move(policy, update)
        assert server.counts()[PUSHES[adapted]] == before + update + 1


@pytest.mark.parametrize("adapted", [False, True])
def test_ranks_that_come_at_once_push_once(make_policy, draw, server, monkeypatch, adapted) -> None:
    """Both find that the server lacks the weights before either pushes."""
    ranks = [make_policy(adapted=adapted) for _ in range(2)]
    before = server.counts().get(PUSHES[adapted], 0)
    both = threading.Barrier(2, timeout=60)
    for policy in ranks:
        weights, looks = policy.engine.weights, iter([True])

        def look(are_served=weights.are_served, looks=looks) -> bool:
            found = are_served()
            if next(looks, False):
                assert not found
                both.wait()
            return found

        monkeypatch.setattr(weights, "are_served", look)
    with ThreadPoolExecutor(2) as pool:
        for contexts, sampled in pool.map(lambda policy: draw(policy, TEXTS), ranks):
            assert mismatch(ranks[0], contexts, sampled) < 1e-5
    assert server.counts()[PUSHES[adapted]] == before + 1


@pytest.mark.parametrize("adapted", [False, True])
def test_a_server_that_was_started_anew_gets_the_weights_again(
    make_policy, draw, move, server, model_folder, adapted
) -> None:
    policy = make_policy(adapted=adapted)
    move(policy)
    _, before = draw(policy, TEXTS)
    server.start_anew(model_folder)
    contexts, after = draw(policy, TEXTS)
    assert torch.equal(before.action_ids_NT, after.action_ids_NT)
    assert torch.equal(before.behaviour_log_pf_NT, after.behaviour_log_pf_NT) and mismatch(policy, contexts, after) < (
        1e-5
    )


@pytest.mark.parametrize("adapted", [False, True])
def test_samples_drawn_while_the_server_lost_the_weights_are_drawn_again(
    make_policy, draw, move, server, model_folder, monkeypatch, adapted
) -> None:
    policy = make_policy(adapted=adapted)
    move(policy)
    engine, losses = policy.engine, [1]
    sample = engine._from

    def lose_first(*arguments):
        if losses.pop():
            server.start_anew(model_folder)
            losses.append(0)
        return sample(*arguments)

    monkeypatch.setattr(engine, "_from", lose_first)
    contexts, sampled = draw(policy, TEXTS)
    assert losses == [] and mismatch(policy, contexts, sampled) < 1e-5

    def lose_always(*arguments):
        server.start_anew(model_folder)
        return sample(*arguments)

    monkeypatch.setattr(engine, "_from", lose_always)
    with pytest.raises(VllmError, match="keeps losing the policy's weights"):
        draw(policy, TEXTS)


@pytest.mark.parametrize("adapted", [False, True])
def test_stale_weights_are_seen_in_the_log_probs(make_policy, draw, move, server, adapted) -> None:
    """The behaviour's log-probabilities stay those of the server; the next version brings those of this one."""
    policy = make_policy(adapted=adapted, vllm={"max_mismatch": 1e9})
    server.set(lag=1)
    states = []
    for update in range(3):
        move(policy, update)
        contexts, sampled = draw(policy, TEXTS)
        assert mismatch(policy, contexts, sampled) > 1e-2
        if states:
            present = {name: value.clone() for name, value in policy.state_dict().items()}
            policy.load_state_dict(states[-1])
            assert mismatch(policy, contexts, sampled) < 1e-5
            policy.load_state_dict(present)
        states.append({name: value.clone() for name, value in policy.state_dict().items()})
    strict = make_policy(adapted=adapted, vllm={"max_mismatch": 1e-3})
    move(strict, 7)
    with pytest.raises(VllmError, match="differ from the policy's"):
        draw(strict, TEXTS)


def test_a_half_written_folder_is_written_anew(make_policy, draw, move, tmp_path) -> None:
    policy = make_policy(adapted=True)
    version = fingerprint(policy.model, [w for n, w in policy.model.named_parameters() if ".default." in n])
    unfinished = tmp_path / "pushed" / f"unfinished-{version}"
    unfinished.mkdir(parents=True)
    (unfinished / "adapter_config.json").write_text("{")
    contexts, sampled = draw(policy, TEXTS)
    assert mismatch(policy, contexts, sampled) < 1e-5
    assert not unfinished.exists() and (Path(tmp_path) / "pushed" / version / "adapter_model.safetensors").is_file()


def test_fingerprints_tell_weights_and_scales_apart(make_policy) -> None:
    policy = make_policy(adapted=True)
    weights = [weight for weight in policy.parameters() if weight.requires_grad]
    names = {fingerprint(policy.model, weights)}
    with torch.no_grad():
        for weight in weights:
            weight.view(-1)[-1] += 1e-6
            names.add(fingerprint(policy.model, weights))
    policy.hugging_face.model.layers[0].mlp.up_proj.scaling["default"] *= 2
    names.add(fingerprint(policy.model, weights))
    assert len(names) == len(weights) + 2
