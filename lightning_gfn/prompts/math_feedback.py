"""What a teacher gets to read: words about an attempt, as strong as asked, and their place in front of the problem."""

from __future__ import annotations

import math
import re

from lightning_gfn.answers.equations import first_wrong_equation
from lightning_gfn.prompts.chat import edited
from lightning_gfn.types import Problem

PROMPT, FEEDBACK = "{prompt}", "{feedback}"
DEFAULT_TEMPLATE = "Feedback on an earlier attempt at the problem below: {feedback}\n\n{prompt}"
"""The problem stands last, so that the answer follows the words that it always follows."""

LOCATION, CORRECTION, ANSWER, SOLUTION = 0.25, 0.5, 0.75, 1.0
"""From these strengths on, feedback also says where the first error is, how to mend it, the answer, and a solution."""

_WORDS = re.compile(r"\S+\s*")


def check_template(template: str) -> None:
    """Refuse a template without exactly one place for the prompt and one for the feedback.

    Raises:
        ValueError: names the placeholder.
    """
    for placeholder in (PROMPT, FEEDBACK):
        if template.count(placeholder) != 1:
            raise ValueError(f"the feedback template must hold {placeholder} exactly once, got {template!r}")


def check_strength(strength: float) -> None:
    """Refuse a strength outside [0, 1].

    Raises:
        ValueError: names ``strength``.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength is {strength}, expected 0 (verdict alone) to 1 (whole solution)")


def with_feedback(template: str, prompt: str, feedback: str) -> str:
    """The teacher's prompt: the template filled in, whatever braces the two texts hold.

    Of a conversation, the last message of the user takes the place of the prompt: feedback is part of the user's turn.
    """
    before, _, after = template.partition(FEEDBACK)
    return edited(prompt, lambda text: f"{before.replace(PROMPT, text)}{feedback}{after.replace(PROMPT, text)}")


def verdict(problem: Problem, attempt: str, correct: bool, strength: float) -> str:
    """Feedback by rule on an attempt at a problem.

        strength ≥ 0     whether the attempt is right
        strength ≥ 0.25  and its first wrong equation       (wrong attempts)
        strength ≥ 0.5   and what that equation should say  (wrong attempts)
        strength ≥ 0.75  and the answer
        strength = 1     and the first reference solution

    What is not known (no wrong equation found, no reference) is left out.

    Args:
        problem: gives answer and solution.
        attempt: the completion.
        correct: whether its answer is right.
        strength: in [0, 1].

    Returns:
        A few sentences on one line, then the solution if there is one.
    """
    sentences = ["The attempt is right." if correct else "The attempt is wrong."]
    error = first_wrong_equation(attempt) if not correct and strength >= LOCATION else None
    if error is not None:
        sentences.append(f"{error.text} is false.")
        if strength >= CORRECTION:
            sentences.append(f"{error.left} = {error.right}.")
    if strength >= ANSWER and problem.answer is not None:
        sentences.append(f"The answer is {problem.answer}.")
    text = " ".join(sentences)
    if strength >= SOLUTION and problem.solutions:
        text = f"{text} A solution: {problem.solutions[0]}"
    return text


def leading_share(text: str, share: float) -> str:
    """The first words of a text, at least one: ``share`` of them, rounded up, as they are written."""
    words = _WORDS.findall(text)
    return "".join(words[: max(1, math.ceil(share * len(words)))]).rstrip() if words else ""
