"""GFlowNet fine-tuning as the peers write it: the gradient is kept while tokens are sampled; SubTB in a loop.

Both follow the published code of Hu et al. 2024, arXiv:2310.04363: one forward pass with gradient for each token, on a
growing cache, and a loop over the lengths of sub-trajectories.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.frame.row import Way
from benchmarks.peers.transformers_passes import autocast, load
from benchmarks.subjects.models import Model
from benchmarks.subjects.rewards import prefix_values


def subtb_loop(log_pf_BT: Tensor, log_pstop_BT1: Tensor, log_reward_BT1: Tensor) -> Tensor:
    """Mean squared residual over all pairs of prefixes of rows of equal length, one length after the other."""
    gain_BT = log_reward_BT1[:, :-1] + log_pf_BT + log_pstop_BT1[:, 1:] - log_reward_BT1[:, 1:] - log_pstop_BT1[:, :-1]
    sums_BT1 = torch.cat([gain_BT.new_zeros(gain_BT.shape[0], 1), gain_BT.cumsum(1)], 1)
    total, num_pairs = gain_BT.new_zeros(()), 0
    for length in range(1, sums_BT1.shape[1]):
        residual = sums_BT1[:, length:] - sums_BT1[:, :-length]
        total = total + residual.square().sum()
        num_pairs += residual.numel()
    return total / num_pairs


def sample_with_gradient(
    network: torch.nn.Module, prompts_BC: Tensor, new_tokens: int, stop_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample so many tokens; their ids, log-probabilities and those of stopping before each, with gradient."""
    output = network(input_ids=prompts_BC, use_cache=True)
    tokens, log_pf, log_pstop = [], [], []
    for _ in range(new_tokens):
        log_p_BV = output.logits[:, -1].float().log_softmax(-1)
        with torch.no_grad():
            p_BV = log_p_BV.exp()
            p_BV[:, stop_id] = 0.0
            token_B1 = torch.multinomial(p_BV, 1)
        tokens.append(token_B1)
        log_pstop.append(log_p_BV[:, stop_id])
        log_pf.append(log_p_BV.gather(1, token_B1).squeeze(1))
        output = network(input_ids=token_B1, past_key_values=output.past_key_values, use_cache=True)
    log_pstop.append(output.logits[:, -1].float().log_softmax(-1)[:, stop_id])
    return torch.cat(tokens, 1), torch.stack(log_pf, 1), torch.stack(log_pstop, 1)


def step_way(model: Model, rows: int, lengths: tuple[int, int], precision: str, lr: float) -> Way:
    """A SubTB step: sample with gradient, loss, backward, AdamW; each prompt has its samples side by side."""
    from transformers import AutoTokenizer

    network = load(model, precision, "sdpa")
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    prompts_BC = torch.tensor(tokenizer(model.texts(rows, lengths[0]), add_special_tokens=False)["input_ids"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)

    def run() -> None:
        with autocast(precision):
            ids_BT, log_pf_BT, log_pstop_BT1 = sample_with_gradient(
                network, prompts_BC, lengths[1], tokenizer.eos_token_id
            )
            log_reward_BT1 = prefix_values(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
            loss = subtb_loop(log_pf_BT, log_pstop_BT1, log_reward_BT1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Way(run)
