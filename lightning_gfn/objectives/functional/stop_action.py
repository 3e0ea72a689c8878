"""The final stop as one more action, for objectives that treat it like a token."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from lightning_gfn.objectives.functional.checks import batch_and_length, check_action_mask, check_mask, check_shapes
from lightning_gfn.objectives.functional.potentials import masked


def append_stop(
    log_pf_BT: Tensor, log_pstop_BT1: Tensor, mask_BT: Tensor, forced_stop_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the actions of a trajectory: its n tokens, and its stop at position n if it was free.

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix), nats; read at the last prefix alone; gradient flows.
        mask_BT: (B, T) bool, True on action tokens, padded on the right.
        forced_stop_B: (B,) bool, True where the maximum length forced the stop, which is then no choice of the policy.

    Returns:
        (B, T + 1) log-probabilities, 0 beyond the last action, and the bool mask of the actions.

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    check_shapes(
        mask_BT=(mask_BT, (B, T)),
        log_pstop_BT1=(log_pstop_BT1, (B, T + 1)),
        forced_stop_B=(forced_stop_B, (B,)),
    )
    check_action_mask(mask_BT)
    check_mask("forced_stop_B", forced_stop_B)
    tokens_BT1 = functional.pad(mask_BT, (0, 1))
    actions_BT1 = functional.pad(mask_BT, (1, 0), value=True)
    stops_BT1 = actions_BT1 & ~tokens_BT1 & ~forced_stop_B.unsqueeze(1)
    log_pf_BT1 = functional.pad(masked(log_pf_BT, mask_BT), (0, 1))
    return log_pf_BT1 + masked(log_pstop_BT1, stops_BT1), tokens_BT1 | stops_BT1


def actions_of(columns: Mapping[str, Tensor], whose: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the actions, free stop included, and their mask: of the policy, ``old_`` or ``ref_``.

    Raises:
        ValueError: names the column whose shape or dtype is wrong.
    """
    log_pf_BT, log_pstop_BT1 = columns[f"{whose}log_pf_BT"], columns[f"{whose}log_pstop_BT1"]
    B, T = batch_and_length("mask_BT", columns["mask_BT"])
    check_shapes(**{f"{whose}log_pf_BT": (log_pf_BT, (B, T)), f"{whose}log_pstop_BT1": (log_pstop_BT1, (B, T + 1))})
    return append_stop(log_pf_BT, log_pstop_BT1, columns["mask_BT"], columns["forced_stop_B"])
