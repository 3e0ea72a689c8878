"""What is written once for comparison is right: the peers' loss and their sampling with gradient."""

from __future__ import annotations

import pytest
import torch

from benchmarks.frame import floors
from benchmarks.peers.token_loop import sample_with_gradient, subtb_loop
from benchmarks.peers.transformers_passes import token_log_probs
from benchmarks.subjects.models import Model, write_llama
from benchmarks.subjects.passes import built
from benchmarks.subjects.rewards import prefix_values
from lightning_gfn.objectives.subtb import modified_subtb_loss
from lightning_gfn.padding import pad_steps

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("llama")
    write_llama(folder, **TINY)
    return Model("tiny", folder, tuple(f"w{i}" for i in range(3, 64)))


def test_the_loop_over_lengths_is_the_loss_over_all_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    pf, pstop, reward = (-torch.rand(2, n, generator=generator, dtype=torch.float64) for n in (5, 6, 6))
    g = torch.nn.functional.pad(pf.cumsum(1), (1, 0)) + pstop - reward
    pairs = [(g[b, j] - g[b, i]) ** 2 for b in range(2) for i in range(6) for j in range(i + 1, 6)]
    assert torch.allclose(subtb_loop(pf, pstop, reward), torch.stack(pairs).mean())
    output = modified_subtb_loss(pf, pstop, reward, torch.ones(2, 5, dtype=torch.bool))
    assert torch.allclose(output.sum / output.weight, torch.stack(pairs).mean())


def test_the_token_loop_keeps_the_log_probabilities_of_one_pass(model: Model) -> None:
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model.folder)
    torch.manual_seed(0)
    prompts = torch.randint(3, 64, (32, 4))
    ids, log_pf, log_pstop = sample_with_gradient(network, prompts, 20, stop_id=2)
    assert ids.shape == (32, 20) and log_pstop.shape == (32, 21) and not (ids == 2).any()
    whole = network(torch.cat([prompts, ids], 1)).logits[:, 3:].log_softmax(-1)
    assert torch.allclose(log_pf, whole[:, :-1].gather(-1, ids[..., None]).squeeze(-1), atol=1e-5)
    assert torch.allclose(log_pstop, whole[..., 2], atol=1e-5)
    gradients = torch.autograd.grad(log_pf.sum() + log_pstop.sum(), list(network.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_both_training_passes_score_the_same_tokens(model: Model) -> None:
    """Ours leaves out special tokens and the end token where it may not stop; the difference is one normaliser."""
    policy = built(model, 4, 6)
    ids = torch.randint(3, 64, (3, 10), generator=torch.Generator().manual_seed(0))
    steps = pad_steps(ids[:, :4].tolist(), ids[:, 4:].tolist(), "cpu")
    ours = policy.score(steps).log_pf_NT
    peer = token_log_probs(policy.hugging_face, ids, torch.ones_like(ids), 6)
    assert ours.shape == peer.shape == (3, 6)
    logits = policy.hugging_face(ids).logits[:, 3:-1]
    removed = torch.log1p(-logits.softmax(-1)[..., :2].sum(-1))  # padding and begin token are no actions
    assert torch.allclose(ours, peer - removed, atol=1e-4)


def test_texts_have_the_asked_number_of_tokens(model: Model) -> None:
    policy = built(model, 7, 3)
    assert {len(policy.encode_completion(text)) for text in model.texts(5, 7)} == {7}
    assert model.texts(2, 7) == model.texts(2, 7) != model.texts(2, 7, seed=2)


def test_the_reward_of_prefixes_is_a_running_sum() -> None:
    ids, mask = torch.tensor([[8, 13, 5]]), torch.tensor([[True, True, False]])
    assert torch.allclose(prefix_values(ids, mask), torch.tensor([[0.0, -0.1, -0.7, -0.7]]))


def test_floors_count_every_layer_once(model: Model) -> None:
    network = built(model, 4, 6).hugging_face
    assert floors.linear_shapes(network) == {(16, 16): 4, (16, 32): 2, (32, 16): 1, (16, 64): 1}
    lora = built(model, 4, 6, lora=True).hugging_face
    assert floors.linear_shapes(lora) == floors.linear_shapes(network)
    full, frozen = (floors.training_products(network, 64, torch.float32, frozen=f) for f in (False, True))
    assert 0.0 < frozen < full
