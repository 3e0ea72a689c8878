"""The request for feedback that a language model gets to read."""

from __future__ import annotations

from lightning_gfn.prompts.placeholders import fill
from lightning_gfn.types import Problem

PLACEHOLDERS = ("{problem}", "{attempt}", "{verdict}", "{answer}", "{orders}", "{words}")
DEFAULT_REQUEST = (
    "A student was given this problem:\n\n{problem}\n\nand wrote this solution:\n\n{attempt}\n\nThe solution is "
    "{verdict}. Give {orders} for solving the problem, each of at most {words} words. Name the first mistake and how "
    "to avoid it. The reader sees the problem but not this solution: be self-contained, and do not mention a student."
)


def check_request(request: str) -> None:
    """Refuse a request that does not show the attempt.

    Raises:
        ValueError: names the placeholder.
    """
    for placeholder in ("{problem}", "{attempt}"):
        if placeholder not in request:
            raise ValueError(f"the request for feedback must hold {placeholder}; it may hold {', '.join(PLACEHOLDERS)}")


def fill_request(request: str, problem: Problem, attempt: str, correct: bool | None, strength: float) -> str:
    """The request with its placeholders filled, whatever braces the texts hold.

        orders = 1 + round(2 · strength)        words = 10 + round(40 · strength)

    Args:
        request: the template.
        problem: gives prompt and answer.
        attempt: the completion.
        correct: whether it is right; None if unknown.
        strength: in [0, 1]: from one order of ten words to three of fifty.

    Returns:
        the text to send.

    Source: the range of orders and words, Feedback Distillation, arXiv:2605.30861.
    """
    orders = 1 + round(2 * strength)
    values = {
        "{problem}": problem.prompt,
        "{attempt}": attempt,
        "{verdict}": {True: "right", False: "wrong", None: "not checked"}[correct],
        "{answer}": problem.answer if problem.answer is not None else "unknown",
        "{orders}": "one order" if orders == 1 else f"{orders} orders",
        "{words}": str(10 + round(40 * strength)),
    }
    return fill(request, values)
