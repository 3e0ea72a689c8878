"""A policy under a budget: scores, gradients and samples are those of one pass, and one pass is all that is held."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies.heads import FlowHead, LogZHead
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.types import Scores, StepBatch

Maker = Callable[..., LanguagePolicy]
TEXTS = ("what is 12 + 3", "no", "what is 12 + 3", "a longer prompt", "x", "no", "12")
ACTIONS = ("15", "", "about 15", "yes", "abcdefghij", "so", "z")
BUDGETS = [
    PassBudget(max_tokens_per_pass=40), PassBudget(max_rows_per_pass=1), PassBudget(max_rows_per_pass=3),
    PassBudget(max_tokens_per_pass=60, max_rows_per_pass=2), PassBudget(max_tokens_per_pass=10_000),
]  # fmt: skip
MODELS = ["llama", "gpt2", "qwen3_5_text", "gemma3n_text", "t5", "bart"]


def steps_of(policy: LanguagePolicy, kit: SimpleNamespace, extra: int = 2) -> StepBatch:
    """Rows of many lengths, with more padding than they need."""
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    return kit.pad_rows(contexts, [policy.encode_completion(text) for text in ACTIONS], extra=extra)


def coupled_loss(tensors: list[Tensor]) -> Tensor:
    """A loss that joins all rows: a variance over them, and products of neighbours."""
    values = torch.cat([tensor.reshape(len(tensor), -1).double() for tensor in tensors], dim=1)
    return values.var(0).sum() + (values * values.roll(1, 0)).sum()


def gradients(policy: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients by name, taken away."""
    found = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad(set_to_none=True)
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-6) -> None:
    """Equal within a tolerance of each one's largest element; some (biases of keys) are 0 but for rounding."""
    assert found.keys() == expected.keys() and expected
    largest = max(value.abs().max().item() for value in expected.values())
    for name, value in expected.items():
        scale = value.abs().max().item() + 0.01 * largest
        difference = (found[name] - value).abs().max().item()
        assert difference <= tolerance * scale, f"{name}: {difference} of {scale}"


def scored(policy: LanguagePolicy, steps: StepBatch) -> tuple[Scores, dict[str, Tensor]]:
    """Scores, and the gradients of a coupled loss."""
    policy.train()
    policy.set_dropout(False)
    scores = policy.score(steps, entropy=True, hidden=True)
    parts = (scores.log_pf_NT, scores.log_pstop_NT1, scores.entropy_NT1, scores.pooled_NH)
    coupled_loss([part for part in parts if part is not None]).backward()
    return scores, gradients(policy)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_scores_and_gradients_do_not_depend_on_the_cut(
    make_policy: Maker, kit: SimpleNamespace, name: str, budget: PassBudget
) -> None:
    policy = make_policy(name)
    steps = steps_of(policy, kit)
    expected, expected_gradients = scored(policy, steps)
    policy.budget = budget
    found, found_gradients = scored(policy, steps)
    for field in ("log_pf_NT", "log_pstop_NT1", "entropy_NT1", "pooled_NH"):
        torch.testing.assert_close(getattr(found, field), getattr(expected, field), atol=2e-5, rtol=1e-5)
    assert torch.equal(found.stop_mask_NT1, expected.stop_mask_NT1)
    assert found.hidden_NT1H is not None and expected.hidden_NT1H is not None
    is_prefix = torch.arange(found.hidden_NT1H.shape[1]) <= steps.lengths_N[:, None]
    torch.testing.assert_close(found.hidden_NT1H[is_prefix], expected.hidden_NT1H[is_prefix], atol=2e-5, rtol=1e-4)
    assert_same(found_gradients, expected_gradients, 2e-5)


HOW: dict[str, dict[str, Any]] = {
    "lora": {"lora": LoraSettings(rank=2, alpha=4, target_modules=["q_proj", "down_proj"])},
    "checkpointing": {"gradient_checkpointing": True},
    "few logits": {"max_logits": 2000},
    "min length": {"min_new_tokens": 2, "max_new_tokens": 10},
}


@pytest.mark.parametrize("how", HOW)
def test_it_goes_with_adapters_recomputation_and_chunks_of_logits(
    make_policy: Maker, kit: SimpleNamespace, how: str
) -> None:
    policy = make_policy("llama", **HOW[how])
    steps = steps_of(policy, kit)
    expected, expected_gradients = scored(policy, steps)
    policy.budget = PassBudget(max_tokens_per_pass=40)
    found, found_gradients = scored(policy, steps)
    torch.testing.assert_close(found.log_pf_NT, expected.log_pf_NT, atol=1e-5, rtol=1e-5)
    assert_same(found_gradients, expected_gradients, 1e-5)


@pytest.mark.parametrize("make_head", [FlowHead, LogZHead, lambda: LogZHead(pool=True, width=5)])
def test_a_head_reads_inside_each_pass(make_policy: Maker, kit: SimpleNamespace, make_head: Any) -> None:
    policy = make_policy("llama")
    steps = steps_of(policy, kit, extra=0)
    head = make_head()
    head.build(policy.hidden_size)
    torch.nn.init.normal_(head.network[-1].weight)
    both = torch.nn.ModuleDict({"policy": policy, "head": head})
    results = []
    for budget in (PassBudget(), PassBudget(max_tokens_per_pass=40)):
        policy.budget = budget
        scores, values = policy.score_and_read(steps, head.read, entropy=True, hidden=True)
        assert scores.hidden_NT1H is None and scores.pooled_NH is None, "they live no longer than the pass"
        if values.ndim == 2:  # beyond the last prefix heads give any number
            is_prefix = torch.arange(values.shape[1]) <= steps.lengths_N[:, None]
            values = torch.where(is_prefix, values, 0.0)
        coupled_loss([scores.log_pf_NT, values]).backward()
        results.append((values.detach(), gradients(both)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    assert_same(results[1][1], results[0][1], 1e-5)
    plain = head.read(policy.score(steps, hidden=True), steps)
    torch.testing.assert_close(plain.reshape(len(TEXTS), -1)[:, 0], results[0][0].reshape(len(TEXTS), -1)[:, 0])


def test_given_candidates_and_the_teachers_do_not_depend_on_the_cut(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("llama")
    steps = steps_of(policy, kit)
    policy.start_teacher()  # type: ignore[attr-defined]
    results = []
    for budget in (PassBudget(), PassBudget(max_tokens_per_pass=40)):
        policy.budget = budget
        given = policy.teacher_actions(steps, top_k=5)  # type: ignore[attr-defined]
        scores = policy.candidate_scores(steps, given.candidates_NT1K)
        coupled_loss([scores.log_p_NT1K, scores.log_rest_NT1]).backward()
        results.append((given, scores, gradients(policy)))
    (given, scores, expected), (given_cut, scores_cut, found) = results
    assert torch.equal(given_cut.mask_NT1, given.mask_NT1)
    torch.testing.assert_close(given_cut.log_p_NT1K, given.log_p_NT1K, atol=1e-5, rtol=1e-5)
    assert torch.equal(given_cut.candidates_NT1K[given.mask_NT1], given.candidates_NT1K[given.mask_NT1])
    torch.testing.assert_close(scores_cut.log_p_NT1K, scores.log_p_NT1K, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores_cut.log_rest_NT1, scores.log_rest_NT1, atol=1e-5, rtol=1e-5)
    assert_same(found, expected, 1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("how", ["plain", "tempered", "truncated"])
def test_samples_do_not_depend_on_the_cut(make_policy: Maker, name: str, how: str) -> None:
    policy = make_policy(name, end_tokens=[chr(byte) for byte in range(32, 80)])
    contexts = [policy.encode_prompt(text) for text in TEXTS * 3]
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(len(contexts), policy.max_new_tokens + 1, generator=generator)
    settings: dict[str, Any] = {} if how == "plain" else {"temperature_N": torch.linspace(0.5, 2.0, len(contexts))}
    settings |= {"top_k": 9, "top_p": 0.8} if how == "truncated" else {}
    whole = policy.sample(contexts, uniforms, **settings)
    assert len(set(whole.action_mask_NT.sum(1).tolist())) > 1
    for budget in (*BUDGETS, PassBudget(max_sampling_tokens=70)):
        policy.budget = budget
        cut = policy.sample(contexts, uniforms, **settings)
        assert torch.equal(cut.action_ids_NT, whole.action_ids_NT)
        assert torch.equal(cut.action_mask_NT, whole.action_mask_NT)
        assert torch.equal(cut.scores.stop_mask_NT1, whole.scores.stop_mask_NT1)
        for one, other in (
            (cut.scores.log_pf_NT, whole.scores.log_pf_NT), (cut.scores.log_pstop_NT1, whole.scores.log_pstop_NT1),
            (cut.behaviour_log_pf_NT, whole.behaviour_log_pf_NT),
            (cut.behaviour_log_pstop_N, whole.behaviour_log_pstop_N),
        ):  # fmt: skip
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


def test_the_reference_writes_and_scores_the_same(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("llama")
    policy.freeze_reference()
    steps = steps_of(policy, kit)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    written = policy.write_as_reference(contexts)  # type: ignore[attr-defined]
    expected = policy.score(steps, reference=True)
    policy.budget = PassBudget(max_tokens_per_pass=40)
    assert policy.write_as_reference(contexts) == written  # type: ignore[attr-defined]
    torch.testing.assert_close(policy.score(steps, reference=True).log_pf_NT, expected.log_pf_NT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scoring", ["fused", "hugging_face"])
def test_rows_of_a_prompt_share_a_pass_that_reads_it_once(
    make_policy: Maker, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, scoring: str
) -> None:
    policy = make_policy("llama", scoring=scoring)
    steps = steps_of(policy, kit)
    steps = steps.select(torch.arange(steps.num_steps).repeat(2))
    seen: list[list[set[int]]] = []
    cut = PassBudget.scoring_passes

    def watched(self: PassBudget, contexts: Any, actions: Any, prompts: Any) -> list[list[int]]:
        passes = cut(self, contexts, actions, prompts)
        seen.append([{n % (steps.num_steps // 2) for n in chosen} for chosen in passes])
        assert (prompts is None) == (scoring == "hugging_face")
        return passes

    monkeypatch.setattr(PassBudget, "scoring_passes", watched)
    policy.budget = PassBudget(max_rows_per_pass=2)
    policy.score(steps)
    assert scoring == "hugging_face" or all(len(prompts) == 1 for prompts in seen[0])


# -------------------------------------------------------------------- what a pass holds


def positions_of_passes(policy: LanguagePolicy) -> list[int]:
    """A list that grows by the positions of every pass of the model."""
    seen: list[int] = []
    layer = policy.hugging_face.model.layers[0]  # type: ignore[union-attr]
    layer.register_forward_hook(lambda module, given, output: seen.append(given[0].shape[0] * given[0].shape[1]))
    return seen


class Held:
    """Bytes of tensors that the graph keeps for the backward pass, and their largest sum."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Any:
        """Count a tensor until it is let go."""
        self.now += tensor.nbytes
        self.most = max(self.most, self.now)
        return Kept(self, tensor)

    def unpack(self, kept: Any) -> Tensor:
        """The tensor."""
        return kept.tensor


class Kept:
    """A tensor that takes its size off the sum when it goes."""

    def __init__(self, held: Held, tensor: Tensor) -> None:
        self.held, self.tensor = held, tensor

    def __del__(self) -> None:
        self.held.now -= self.tensor.nbytes


def test_no_pass_of_a_training_step_is_larger_than_the_budget(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("llama")
    steps = steps_of(policy, kit)
    seen = positions_of_passes(policy)
    scored(policy, steps)
    assert len(seen) == 1 and seen[0] > 150
    seen.clear()
    policy.budget = PassBudget(max_tokens_per_pass=50)
    scored(policy, steps)
    assert max(seen) <= 50 and len(seen) > 4
    passes = (len(seen) + 1) // 2
    assert len(seen) == 2 * passes - 1, "each pass but the last is computed once more in the backward pass"
    seen.clear()
    with no_dropout_and_gradient(policy):
        policy.score(steps)
    assert len(seen) == passes and max(seen) <= 50


def test_the_graph_holds_the_activations_of_one_pass(make_policy: Maker, kit: SimpleNamespace) -> None:
    """32 rows of one length in 8 passes: an eighth of the memory, and the values of all rows."""
    policy = make_policy("llama", config={"hidden_size": 64, "intermediate_size": 256}).train()
    contexts = [policy.encode_prompt(f"what is {n + 10} + 1?") for n in range(32)]
    steps = kit.pad_rows(contexts, [policy.encode_completion("abcdefghi")] * 32)
    most = {}
    for rows in (32, 4):
        policy.budget = PassBudget(max_rows_per_pass=rows)
        held = Held()
        with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
            loss = coupled_loss([policy.score(steps).log_pf_NT])
        most[rows] = held.most
        loss.backward()
        policy.zero_grad(set_to_none=True)
    assert most[4] < 0.2 * most[32]


def test_an_error_names_the_row_of_the_batch(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("llama", allowed_tokens=list("abc"))
    policy.budget = PassBudget(max_rows_per_pass=1)
    contexts = [policy.encode_prompt(text) for text in ("xxxx", "xx", "x")]
    steps = kit.pad_rows(contexts, [policy.encode_completion(text) for text in ("abd", "ab", "a")])
    with pytest.raises(ValueError, match="action row 0 holds token"):
        policy.score(steps)
    with pytest.raises(ValueError, match=r"uniforms_NT1 has shape \(2, 11\); 3 contexts"):
        policy.sample(contexts, torch.zeros(2, 11))


def test_a_pass_has_no_column_of_padding_alone(kit: SimpleNamespace) -> None:
    steps = kit.pad_rows([[1, 2, 3, 4, 5], [6], [7, 8]], [[1], [2, 3, 4], []], extra=3)
    part = steps.select(torch.tensor([2, 0])).trimmed()
    assert part.context_ids_NC.tolist() == [[0, 0, 0, 7, 8], [1, 2, 3, 4, 5]]
    assert part.context_mask_NC.tolist() == [[False] * 3 + [True] * 2, [True] * 5]
    assert part.action_ids_NT.tolist() == [[0], [1]] and part.action_mask_NT.tolist() == [[False], [True]]
