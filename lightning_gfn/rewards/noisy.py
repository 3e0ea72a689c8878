"""Answer checks that err: the reward of a study of label noise."""

from __future__ import annotations

from lightning_gfn.answers.noise import check_probability, noisy_verdict
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.types import Problem


class NoisyAnswerMatch(AnswerMatch):
    """``AnswerMatch`` that is wrong, for good, on a share of the texts that hold an answer.

        term(text) = correct(text) xor flipped(seed, problem, text)    if the text holds an answer, else 0

    A prefix is judged as the completion that stops there would be: by its own text. So the reward of a completion does
    not depend on whether it was sampled or is a prefix of another one, on the batch, the rank or the step, and a policy
    that finds an error can go on exploiting it, as with a learned reward model. The verdicts for metrics stay true.

    Args:
        probability: share of wrong verdicts; 0 is ``AnswerMatch``.
        seed: key of the noise; the same for every method that is compared.

    Raises:
        ValueError: if the probability lies outside [0, 1].
    """

    def __init__(self, probability: float, *, seed: int = 0) -> None:
        check_probability(probability)
        self.probability, self.seed = probability, seed

    def judge(self, problem: Problem, completion: str, correct: bool) -> bool:
        """The verdict after noise."""
        return noisy_verdict(problem, completion, correct=correct, probability=self.probability, seed=self.seed)
