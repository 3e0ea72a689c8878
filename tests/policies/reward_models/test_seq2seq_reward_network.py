"""Reward networks on encoder-decoder models: scores against the model's own forward pass, saving, and their start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.policies.reward_models.network import Seq2SeqRewardNetwork
from lightning_gfn.policies.reward_models.trained import TrainedRewardNetwork
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

T5 = {
    "model_type": "t5", "d_model": 24, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "feed_forward_proj": "gated-gelu", "dropout_rate": 0.0, "initializer_factor": 3.0,
}  # fmt: skip
PROMPTS = ["p q : Prop\n⊢ p\n", "⊢ True\n", "⊢ True\n"]
STEPS = [["intro h\n", "exact h"], ["trivial"], ["skip\n", "exact\n", "trivial"]]


def make(**changes: Any) -> Seq2SeqRewardNetwork:
    torch.manual_seed(0)
    source: dict[str, Any] = {"config": T5, "tokenizer": TokenizerSettings(kind="byte")}
    limits = {"max_prompt_tokens": 32, "max_completion_tokens": 48}
    network = Seq2SeqRewardNetwork(**{**source, **limits, **changes})
    network.build(())
    for parameter in network.output.parameters():
        torch.nn.init.normal_(parameter)
    return network


def test_scores_are_read_in_the_decoder_behind_the_last_token_of_each_step() -> None:
    network = make()
    score_BS, mask_BS, tokens = network(PROMPTS, STEPS)
    assert mask_BS.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    model, total = network.hugging_face, 0
    start = model.config.decoder_start_token_id
    for b, (prompt, steps) in enumerate(zip(PROMPTS, STEPS, strict=True)):
        context, solution = torch.tensor([network.codec.encode_prompt(prompt)]), [start]
        for k, step in enumerate(steps):
            solution = solution + network.codec.encode_completion(step)
            output = model(input_ids=context, decoder_input_ids=torch.tensor([solution]), output_hidden_states=True)
            expected = network.output(output.decoder_hidden_states[-1][0, -1])[0]
            torch.testing.assert_close(score_BS[b, k], expected, atol=1e-4, rtol=1e-4)
        total += context.shape[1] + len(solution) - 1
    assert tokens == total and torch.equal(score_BS[~mask_BS], torch.zeros(3))
    assert score_BS[mask_BS].std() > 0.1


def test_other_rows_and_later_steps_do_not_matter() -> None:
    # With the larger weights of T5 float32 errs by 1e-4 itself, by how much depends on the processor.
    network = make(config={**T5, "initializer_factor": 1.0})
    together = network.score_steps(PROMPTS, STEPS, "cpu")
    for prompt, steps, expected in zip(PROMPTS, STEPS, together, strict=True):
        assert network.score_steps([prompt], [steps[:1]], "cpu")[0] == pytest.approx(expected[:1], abs=1e-5)


def test_every_trainable_weight_gets_a_gradient() -> None:
    network = make()
    network(PROMPTS, STEPS)[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert network.hugging_face.get_input_embeddings().weight.grad.any()


def test_a_saved_folder_gives_the_same_scores(tmp_path: Path) -> None:
    network = make(width=8)
    network.save_pretrained(tmp_path)
    loaded = TrainedRewardNetwork(str(tmp_path))
    for found, wanted in zip(
        loaded.score_steps(PROMPTS, STEPS, "cpu"), network.score_steps(PROMPTS, STEPS, "cpu"), strict=True
    ):
        assert found == pytest.approx(wanted, abs=1e-6)
    assert isinstance(loaded.load(), Seq2SeqRewardNetwork)


def test_a_tactic_model_is_a_start(tmp_path: Path) -> None:
    policy = Seq2SeqLM(config=T5, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=32, max_new_tokens=48)
    policy.build(())
    policy.save_pretrained(tmp_path)
    network = make(config=None, tokenizer=None, pretrained=str(tmp_path))
    for name, weight in policy.hugging_face.state_dict().items():
        assert torch.equal(weight, network.hugging_face.state_dict()[name]), name
