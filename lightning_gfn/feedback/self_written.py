"""Feedback that the policy's own frozen reference writes."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_gfn.feedback.messages import DEFAULT_REQUEST, check_request, fill_request
from lightning_gfn.interfaces import Policy
from lightning_gfn.prompts.math_feedback import check_strength
from lightning_gfn.teacher_interfaces import FeedbackSource, TeachingPolicy
from lightning_gfn.types import Feedback, Rollouts


class SelfFeedback(FeedbackSource):
    """The frozen reference reads problem and attempt and continues the request greedily; its text is the feedback.

    It writes under the policy's action space: at most ``max_new_tokens`` tokens, allowed tokens alone. A model that
    does not follow instructions writes noise: fine-tune it on requests of this form first, or use an instructed model.

    Args:
        request: what it reads, with ``{problem}`` and ``{attempt}``; its words must be known to the tokenizer.
        strength: in [0, 1], how much is asked for (``{orders}`` and ``{words}``).
    """

    needs_reference = True

    def __init__(self, *, request: str = DEFAULT_REQUEST + "\n\nFeedback: ", strength: float = 0.5) -> None:
        check_request(request)
        check_strength(strength)
        self.request, self.strength = request, strength

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One written text a trajectory; None where the request is too long for the model or nothing was written.

        Raises:
            TypeError: if the policy cannot write as its reference.
        """
        if not isinstance(policy, TeachingPolicy):
            raise TypeError(f"SelfFeedback needs a policy that can teach (CausalLM), got {type(policy).__name__}")
        correct = rollouts.correct_B.tolist() if rollouts.correct_B is not None else [None] * len(rollouts.completions)
        contexts = {
            b: policy.encode_context(
                fill_request(self.request, rollouts.problem_of(b), rollouts.completions[b], correct[b], self.strength)
            )
            for b in chosen
        }
        limit = policy.num_positions
        fitting = [b for b in chosen if limit is None or len(contexts[b]) + policy.max_new_tokens <= limit]
        written = policy.write_as_reference([contexts[b] for b in fitting]) if fitting else []
        texts = {b: policy.decode(ids).strip() for b, ids in zip(fitting, written, strict=True)}
        counts = {
            "generated_tokens": sum(map(len, written)),
            "request_too_long": len(chosen) - len(fitting),
            "empty": sum(not text for text in texts.values()),
        }
        return Feedback(tuple(texts.get(b) or None for b in chosen), counts)
