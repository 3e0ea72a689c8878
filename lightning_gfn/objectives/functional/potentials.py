"""Balance potentials of the prefixes of a trajectory: quantities whose differences are the GFlowNet residuals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gfn.objectives.functional.checks import batch_and_length, check_action_mask, check_mask, check_shapes


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """``values`` where the mask is True and 0 elsewhere, in float32 or better.

    ``torch.where`` comes before any arithmetic, so that neither -inf nor nan under the mask reaches the loss or a
    gradient.
    """
    return torch.where(mask, values, 0.0).to(torch.promote_types(values.dtype, torch.float32))


def valid_prefixes(mask_BT: Tensor, prefix_mask_BT1: Tensor | None) -> Tensor:
    """True on the prefixes 0..n of a row of n tokens, less those that ``prefix_mask_BT1`` leaves out; (B, T + 1).

    Raises:
        ValueError: names the mask whose shape or dtype is wrong, or that is not padded on the right.
    """
    check_action_mask(mask_BT)
    valid_BT1 = functional.pad(mask_BT, (1, 0), value=True)
    if prefix_mask_BT1 is None:
        return valid_BT1
    check_shapes(prefix_mask_BT1=(prefix_mask_BT1, tuple(valid_BT1.shape)))
    check_mask("prefix_mask_BT1", prefix_mask_BT1)
    return valid_BT1 & prefix_mask_BT1


def cumulative_log_pf(log_pf_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """log q of the tokens of each prefix, (B, T + 1), nats; constant beyond the last prefix."""
    return functional.pad(masked(log_pf_BT, mask_BT).cumsum(1), (1, 0))


def stop_potentials(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_reward_BT1: Tensor,
    mask_BT: Tensor,
    prefix_mask_BT1: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Potentials of the modified balance conditions, whose state flow is R / q(stop).

        g_i = log q(z_1:i) + log q(stop | z_1:i) - log R(z_1:i, stop)        (nats)

    Returns:
        g, (B, T + 1), and the bool mask of the prefixes where it is defined: 0..n, less those that may not stop.

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    check_shapes(
        mask_BT=(mask_BT, (B, T)),
        log_pstop_BT1=(log_pstop_BT1, (B, T + 1)),
        log_reward_BT1=(log_reward_BT1, (B, T + 1)),
    )
    valid_BT1 = valid_prefixes(mask_BT, prefix_mask_BT1)
    stop_BT1 = masked(log_pstop_BT1, valid_BT1) - masked(log_reward_BT1.detach(), valid_BT1)
    return cumulative_log_pf(log_pf_BT, mask_BT) + stop_BT1, valid_BT1


def flow_potentials(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_f_BT1: Tensor,
    log_reward_B: Tensor,
    mask_BT: Tensor,
    prefix_mask_BT1: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Potentials of the balance conditions with a learned state flow F; the terminal state follows the last prefix.

        h_i     = log q(z_1:i) - log F(z_1:i)                        for i = 0..n
        h_{n+1} = log q(z_1:n) + log q(stop | z_1:n) - log R(z)      the terminal flow is R        (nats)

    Returns:
        h, (B, T + 2), and the bool mask of the states where it is defined: 0..n + 1, less the prefixes left out.

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    check_shapes(
        mask_BT=(mask_BT, (B, T)),
        log_pstop_BT1=(log_pstop_BT1, (B, T + 1)),
        log_f_BT1=(log_f_BT1, (B, T + 1)),
        log_reward_B=(log_reward_B, (B,)),
    )
    valid_BT1 = valid_prefixes(mask_BT, prefix_mask_BT1)
    num_tokens_B1 = mask_BT.sum(1, keepdim=True)
    cumulative_BT1 = cumulative_log_pf(log_pf_BT, mask_BT)
    terminal_B1 = cumulative_BT1[:, -1:] + log_pstop_BT1.gather(1, num_tokens_B1) - log_reward_B.detach().unsqueeze(1)
    states_BT1 = cumulative_BT1 - masked(log_f_BT1, valid_BT1)
    potential_BT2 = functional.pad(states_BT1, (0, 1)).scatter(1, num_tokens_B1 + 1, terminal_B1.to(states_BT1.dtype))
    valid_BT2 = functional.pad(valid_BT1, (0, 1)).scatter(1, num_tokens_B1 + 1, True)
    return potential_BT2, valid_BT2
