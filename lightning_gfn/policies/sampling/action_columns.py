"""The columns of a decoder's logits that are actions."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.policies.action_space import ActionSpace


class ActionColumns:
    """Turns logits of a decoder into those of actions, over few columns where few tokens are actions.

    Args:
        space: the actions of q.
        columns_K: token ids that the columns of the logits belong to; None for the whole vocabulary.
        vocab_size: V.
    """

    def __init__(self, space: ActionSpace, columns_K: Tensor | None, vocab_size: int) -> None:
        narrow = space.narrow
        self.space = space if narrow is None else narrow
        self.ids_K = None if narrow is None else space.action_ids_K
        self.is_cut = narrow is not None and columns_K is None
        self.place_V = space.place_V
        self.num_logits = vocab_size if columns_K is None else len(columns_K)
        self.num_actions = vocab_size if self.ids_K is None else len(self.ids_K)

    @property
    def stop_id(self) -> int:
        """The column of stop."""
        return self.space.stop_id

    def restrict_(self, logits_RV: Tensor, may_stop_R: Tensor | bool) -> Tensor:
        """Logits of actions; see ``ActionSpace.restrict_``. The given logits may be overwritten."""
        cut = logits_RV.index_select(1, self.ids_K) if self.is_cut and self.ids_K is not None else logits_RV
        return self.space.restrict_(cut, may_stop_R)

    def places(self, tokens: Tensor) -> Tensor:
        """Columns of tokens that are actions; what is negative stays as it is."""
        return tokens if self.ids_K is None else torch.where(tokens < 0, tokens, self.place_V[tokens.clamp(min=0)])

    def tokens(self, columns_R: Tensor) -> Tensor:
        """Token ids of drawn columns."""
        return columns_R if self.ids_K is None else self.ids_K[columns_R]
