"""The abstract base class of a tool: what writes into a completion while a policy samples it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Tool(ABC):
    """Answers a policy in the middle of its completion.

    As soon as the policy's own tokens end in ``trigger``, ``call`` is asked, and its result becomes part of the state:
    the policy reads on behind it. The inserted tokens are no actions. They have probability 1 under every policy, no
    gradient, and nothing may end between trigger and result: the two are one state. The result must follow from the
    text alone.
    """

    name: str
    """What errors call it."""
    trigger: str
    """The text at whose end it is asked, not empty."""

    @abstractmethod
    def call(self, text: str) -> str | None:
        """The text to insert.

        Args:
            text: the completion so far, results of earlier calls included, with the trigger at its end.

        Returns:
            What stands behind the trigger, spaces included; None or an empty text inserts nothing.
        """
