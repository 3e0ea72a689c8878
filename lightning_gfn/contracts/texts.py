"""What models of text have in common, and what some of them can do beside sampling and scoring actions.

These classes are imported from ``interfaces``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class TextModel(ABC):
    """A model with its own tokenizer; construction is cheap, the weights are made or loaded by ``build``."""

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width H of its hidden states."""

    @property
    @abstractmethod
    def base_is_reloadable(self) -> bool:
        """True if the frozen weights come from a name or path, so that a checkpoint need not hold them."""

    @abstractmethod
    def tokenizer_state(self) -> str:
        """The tokenizer as text, for checkpoints."""

    @abstractmethod
    def load_tokenizer_state(self, state: str) -> None:
        """Restore ``tokenizer_state``."""

    @abstractmethod
    def build(self, texts: Iterable[str]) -> None:
        """Load or create tokenizer and weights; ``texts`` train a tokenizer where one is asked for."""

    @abstractmethod
    def save_pretrained(self, folder: Path) -> None:
        """Write model and tokenizer as Hugging Face folders that a later stage can start from."""


class TextLikelihood(ABC):
    """A language model that says how likely any text is, whatever its actions as a policy are."""

    @abstractmethod
    def encode_context(self, text: str) -> list[int]:
        """Token ids of a context of any length, begin token included where the tokenizer has one."""

    @abstractmethod
    def text_log_probs(
        self,
        contexts: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        *,
        reference: bool = False,
        given: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """log p(text | context) of N texts, all tokens being possible at every place, (N,), nats, without gradient.

            log p(text | context) = Σ_t log p(text_t | context, text_<t)        without what ends it

        Args:
            contexts: token ids of each context, none empty.
            texts: token ids of each text, of any length and any tokens but the tokenizer's end token.
            reference: of the frozen reference, not of the model as it is.
            given: places in each text of tokens that are read but not counted, such as those that a tool wrote.
        """

    @abstractmethod
    def choice_log_probs(
        self,
        contexts: Sequence[Sequence[int]],
        stems: Sequence[Sequence[int]],
        choices: Sequence[Sequence[Sequence[int]]],
        *,
        reference: bool = False,
    ) -> list[list[float]]:
        """log p of each of several texts that may follow a context and a stem, nats, without gradient.

            Σ_{t ≥ c} log p(y_t | context, stem, y_<t)        c: the first token at which the texts differ

        What all of them begin with is left out, since it says nothing about which of them follows.

        Args:
            contexts: token ids of each of N contexts, none empty.
            stems: token ids that follow each context; may be empty.
            choices: token ids of two texts or more for each context, none of which begins another.
            reference: of the frozen reference, not of the model as it is.

        Returns:
            N rows, one number a text.
        """


class SearchesBeams(ABC):
    """A language model whose most probable actions can be searched for, instead of sampled."""

    @abstractmethod
    def search_beams(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        num_beams: int,
        num_groups: int = 1,
        diversity_penalty: float = 0.0,
        length_penalty: float = 0.0,
    ) -> list[list[tuple[int, ...]]]:
        """``num_beams`` complete actions of each context, the best that the search finds.

        Args:
            contexts: token ids of each context, none empty.
            num_beams: beams of each context, over all groups.
            num_groups: groups that are kept apart; divides ``num_beams``.
            diversity_penalty: nats for each beam of an earlier group with the same action at the same place.
            length_penalty: actions are ranked by log q / (number of actions)^length_penalty.
        """
