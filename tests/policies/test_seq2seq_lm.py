"""What is particular to encoder-decoder policies: texts, the encoder's passes, gradients, real folders, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.fused.t5 import encoder as t5_encoder
from lightning_gfn.policies.models import encoder_decoder
from lightning_gfn.policies.models.architectures import DecoderOnly
from lightning_gfn.policies.models.encoder_decoder import EncoderDecoder, split_by_length
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.types import Problem, Rollouts

Maker = Callable[..., Seq2SeqLM]
PAIRS = (("one and one", "two"), ("x", "y = 5"), ("one and one", "ab"))


def rows_of_pairs(policy: Any, kit: SimpleNamespace) -> Any:
    contexts = [policy.encode_prompt(prompt) for prompt, _ in PAIRS]
    return kit.pad_rows(contexts, [policy.encode_completion(completion) for _, completion in PAIRS])


# -------------------------------------------------------------------- texts


def test_prompts_end_and_completions_do_not(make_policy: Maker) -> None:
    policy = make_policy("t5", max_prompt_tokens=4)
    eos = policy.tokenizer.eos_token_id
    assert policy.encode_prompt("abc") == [*policy.encode_completion("abc"), eos]
    assert policy.encode_prompt("") == [eos] and policy.encode_completion("") == []
    assert policy.decode(policy.encode_completion("tactic ⊢")) == "tactic ⊢"
    with pytest.raises(ValueError, match="has 5 tokens, max_prompt_tokens is 4"):
        policy.encode_prompt("abcd")


@pytest.fixture
def byt5_folder(tmp_path: Path) -> Path:
    """A model like those of ByT5's release: their own tokenizer, an output layer of its own, unscaled outputs."""
    from transformers import ByT5Tokenizer, T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=384,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=3,
        num_decoder_layers=1,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        initializer_factor=0.3,
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = nn.Parameter(torch.randn(384, 32) * 0.5)
    model.save_pretrained(tmp_path)
    ByT5Tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("decoder", ["fused", "hugging_face"])
def test_a_released_byt5_is_read_as_it_is(
    byt5_folder: Path, kit: SimpleNamespace, decoder: Any, tmp_path: Path
) -> None:
    policy = Seq2SeqLM(pretrained=str(byt5_folder), max_prompt_tokens=24, max_new_tokens=8, decoder=decoder)
    policy.build([])
    policy.eval()
    assert policy.hugging_face.lm_head.weight is not policy.hugging_face.shared.weight
    assert policy.encode_prompt("a") == [100, 1] and policy.encode_completion("a") == [100]
    assert policy.space.end_ids.tolist() == [1] and not policy.space.allowed_V[259:].any()
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS]
    sampled = policy.sample(contexts, torch.rand(5, 9, dtype=torch.float64))
    rows = kit.rows_of(policy, sampled)
    plain = kit.plain_log_probs(policy, rows)
    assert kit.largest_difference(sampled.scores, plain) < 1e-5
    assert kit.largest_difference(policy.score(rows), plain) < 1e-5
    policy.save_pretrained(tmp_path / "again")
    again = Seq2SeqLM(pretrained=str(tmp_path / "again"), max_prompt_tokens=24, max_new_tokens=8)
    again.build([])
    assert kit.largest_difference(again.eval().score(rows), plain) < 1e-5
    assert again.encode_prompt("a b") == policy.encode_prompt("a b")


# -------------------------------------------------------------------- passes of the encoder


def some_contexts(policy: Any) -> tuple[Tensor, Tensor]:
    contexts = [policy.encode_prompt("x" * length) for length in (3, 20, 1, 8, 8, 15)]
    width = max(map(len, contexts))
    ids = torch.tensor([[0] * (width - len(context)) + context for context in contexts])
    return ids, torch.tensor([[False] * (width - len(context)) + [True] * len(context) for context in contexts])


@pytest.mark.parametrize("way", ["passes", "fused"])
@pytest.mark.parametrize("name", ["t5", "t5_silu", "byt5", "mt5"])
def test_states_of_contexts_are_those_of_one_context_alone(
    make_policy: Maker, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    policy = make_policy(name, decoder="fused")
    ids, mask = some_contexts(policy)
    backbone = policy.architecture.backbone(policy.hugging_face)
    if way == "passes":
        monkeypatch.setattr(encoder_decoder, "PASS_OVERHEAD", 0)
        states, right = backbone.encode(ids, mask)
    else:
        states, right = t5_encoder.encode(policy.decoders.fused_weights(policy.hugging_face), ids, mask)
    assert right.sum(1).tolist() == mask.sum(1).tolist() and not states[~right].any()
    for row in range(len(ids)):
        context = ids[row][mask[row]]
        alone = policy.hugging_face.get_encoder()(input_ids=context[None]).last_hidden_state[0]
        assert right[row, : len(context)].all()
        torch.testing.assert_close(states[row, : len(context)], alone, atol=1e-5, rtol=1e-5)


def test_passes_are_made_where_they_save_padding() -> None:
    assert split_by_length([100] * 10) == [10]
    assert split_by_length([10] * 8 + [300] * 8) == [8, 8]
    for lengths in ([7], [1, 2, 3], [50 + 3 * i for i in range(83)]):
        assert sum(split_by_length(lengths)) == len(lengths) and min(split_by_length(lengths)) > 0


def test_equal_contexts_are_encoded_once_in_scoring(
    make_policy: Maker, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy("t5", scoring="hugging_face")
    encoder, sizes = policy.hugging_face.get_encoder(), []
    plain = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda *a, **k: sizes.append(len(k["input_ids"])) or plain(*a, **k), raising=True
    )
    policy.score(rows_of_pairs(policy, kit))
    assert sum(sizes) == 2


@pytest.mark.parametrize("rows", [1, 5])
def test_rows_of_one_context_share_its_keys(make_policy: Maker, kit: SimpleNamespace, rows: int) -> None:
    policy = make_policy("t5", decoder="fused", end_tokens=["<eos>", *"abcdefghijklmnopqrstuvwxyz0123456789"])
    texts = ("what is 12",) * rows
    uniforms = torch.rand(rows, 11, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    sampled = policy.sample([policy.encode_prompt(text) for text in texts], uniforms)
    plain = kit.plain_log_probs(policy, kit.rows_of(policy, sampled, texts))
    assert kit.largest_difference(sampled.scores, plain) < 1e-5
    others = [policy.encode_prompt(text) for text in (*texts, "another, longer context")]
    again = policy.sample(others, torch.cat([uniforms, uniforms[:1]]))
    for row in range(rows):
        expected = sampled.action_ids_NT[row][sampled.action_mask_NT[row]]
        assert torch.equal(again.action_ids_NT[row][again.action_mask_NT[row]], expected)


# -------------------------------------------------------------------- gradients, dropout, pooling


@pytest.mark.parametrize("name", ["t5", "byt5"])
def test_gradients_of_encoder_and_decoder_match_plain_autograd(
    make_policy: Maker, kit: SimpleNamespace, name: str
) -> None:
    policy = make_policy(name)
    scores = policy.score(rows_of_pairs(policy, kit))
    (scores.log_pf_NT.sum() + scores.log_pstop_NT1.sum()).backward()
    given = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    assert any("encoder" in name for name in given) and any("EncDecAttention" in name for name in given)
    policy.zero_grad()
    total = torch.zeros(())
    for prompt, completion in PAIRS:
        context, action = policy.encode_prompt(prompt), policy.encode_completion(completion)
        output = policy.model(input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([[0, *action]]))
        log_p = output.logits[0].index_fill(1, policy.space.forbidden_ids, -torch.inf).log_softmax(1)
        total = total + log_p[range(len(action)), action].sum() + log_p[:, policy.space.stop_id].sum()
    total.backward()
    for name, parameter in policy.model.named_parameters():
        assert parameter.grad.any(), name
        torch.testing.assert_close(given[name], parameter.grad, atol=1e-4, rtol=1e-3)


def test_dropout_is_on_in_training_alone(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("t5")
    policy.freeze_reference()
    rows = rows_of_pairs(policy, kit)
    still = policy.score(rows).log_pf_NT
    policy.train()
    assert not torch.allclose(policy.score(rows).log_pf_NT, still, atol=1e-3)
    torch.testing.assert_close(policy.score(rows, reference=True).log_pf_NT, still)
    contexts, uniforms = [policy.encode_prompt("x")] * 3, torch.rand(3, 11)
    first, second = (policy.sample(contexts, uniforms).scores.log_pf_NT for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["llama", "t5", "bart"])
def test_pooled_states_are_means_over_the_context(make_policy: Maker, kit: SimpleNamespace, name: str) -> None:
    policy = make_policy(name)
    rows = rows_of_pairs(policy, kit)
    scores = policy.score(rows, hidden=True)
    assert policy.score(rows).pooled_NH is None
    assert scores.pooled_NH is not None and scores.hidden_NT1H is not None
    model = policy.hugging_face
    for row, (prompt, _) in enumerate(PAIRS):
        ids = torch.tensor([policy.encode_prompt(prompt)])
        states = (model.base_model if name == "llama" else model.get_encoder())(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(scores.pooled_NH[row], states.mean(0), atol=1e-5, rtol=1e-5)
    scores.pooled_NH.sum().backward()
    assert model.get_input_embeddings().weight.grad.any()


def test_a_critic_reads_what_the_policy_reads(make_policy: Maker, kit: SimpleNamespace) -> None:
    policy = make_policy("t5")
    rows = rows_of_pairs(policy, kit)
    rollouts = Rollouts(
        problems=(Problem(id="p", prompt=""),),
        problem_index_B=torch.zeros(3, dtype=torch.int64),
        trajectory_index_N=torch.arange(3),
        steps=rows,
        completions=("",) * 3,
        sources=("on_policy",) * 3,
    )
    critic = Critic()
    critic.build_for(policy)
    scores = policy.score(rows, hidden=True)
    assert scores.hidden_NT1H is not None
    exists = torch.arange(rows.action_ids_NT.shape[1] + 1) <= rows.action_mask_NT.sum(1, keepdim=True)
    torch.testing.assert_close(critic.hidden_states(scores, rollouts)[exists], scores.hidden_NT1H[exists])
    torch.nn.init.normal_(critic.network[0].weight)
    critic(scores, rollouts).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in critic.parameters())
    assert all(p.grad is None for p in policy.parameters())


# -------------------------------------------------------------------- errors and limits


def test_each_policy_names_the_other(make_policy: Maker, tmp_path: Path, kit: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"encoder-decoder model.*seq2seq_lm\.Seq2SeqLM"):
        CausalLM(config=kit.CONFIGS["t5"]).build([])
    with pytest.raises(ValueError, match=r"decoder-only model.*causal_lm\.CausalLM"):
        Seq2SeqLM(config=kit.CONFIGS["llama"]).build([])
    make_policy("t5").save_pretrained(tmp_path / "t5")
    make_policy("llama").save_pretrained(tmp_path / "llama")
    with pytest.raises(ValueError, match="Seq2SeqLM"):
        CausalLM(pretrained=str(tmp_path / "t5")).build([])
    with pytest.raises(ValueError, match="CausalLM"):
        Seq2SeqLM(pretrained=str(tmp_path / "llama")).build([])


def test_positions_are_limited_where_the_model_limits_them(make_policy: Maker) -> None:
    assert make_policy("t5", max_prompt_tokens=5000, max_new_tokens=5000).num_positions is None
    assert make_policy("bart", max_prompt_tokens=64, max_new_tokens=63).num_positions == 64
    with pytest.raises(ValueError, match="exceed the 64 positions"):
        make_policy("bart", max_prompt_tokens=24, max_new_tokens=64)
    policy = make_policy("bart")
    with pytest.raises(ValueError, match="need 65 positions, the model has 64"):
        policy.sample([[5] * 65], torch.rand(1, 11))
    assert (EncoderDecoder().positions_needed(9, 4), DecoderOnly().positions_needed(9, 4)) == (9, 13)


def test_a_missing_start_token_and_an_unknown_scale_are_refused(make_policy: Maker) -> None:
    policy = make_policy("t5")
    with pytest.raises(ValueError, match="changes its logits"):
        policy.architecture.check_output_layer(policy.hugging_face, OutputLayer(policy.hugging_face.lm_head))
    for config in (policy.hugging_face.config, policy.hugging_face.generation_config):
        config.decoder_start_token_id = None
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        policy.architecture.check_model(policy.hugging_face)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [("t5", {"feed_forward_proj": "tanh"}, "its activation 'tanh'"), ("bart", {}, "BartForConditionalGeneration is")],
)
def test_what_the_fused_decoder_cannot_run(make_policy: Maker, name: str, config: Any, message: str) -> None:
    policy = make_policy(name, config=config, decoder="fused")
    with pytest.raises(ValueError, match=message):
        policy.sample([[5]], torch.rand(1, 11))
    make_policy(name, config=config, decoder="auto").sample([[5]], torch.rand(1, 11))


def test_the_small_byt5_of_the_experiments_begins_near_uniform(kit: SimpleNamespace) -> None:
    from jsonargparse import ArgumentParser

    from lightning_gfn.interfaces import Policy

    parser = ArgumentParser()
    parser.add_subclass_arguments(Policy, "policy")
    file = Path(__file__).parents[2] / "experiments" / "_base" / "policy" / "tiny_byt5.yaml"
    policy = parser.instantiate(parser.parse_args(["--policy", str(file)])).policy
    assert isinstance(policy, Seq2SeqLM)
    policy.build([])
    policy.eval()
    entropy = policy.score(rows_of_pairs(policy, kit), entropy=True).entropy_NT1
    assert entropy is not None and 4.5 < entropy[:, 0].mean() < 5.55  # log 257 = 5.55
