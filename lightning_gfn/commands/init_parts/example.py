"""One row as the model will see it, and its reference as the reward will judge it."""

from __future__ import annotations

from typing import Any

from lightning_gfn.answers import extract_answer, is_equivalent
from lightning_gfn.commands.init_parts.data_facts import DataFacts
from lightning_gfn.commands.init_parts.model_facts import ModelFacts

ENDINGS = {
    "gsm8k": "#### {answer}",
    "math": "\\boxed{{{answer}}}",
    "metamath": "The answer is: {answer}",
    "last_number": "So it is {answer}.",
}
SHOWN = 1200
"""Characters of a text that are shown."""


def shown_prompt(model: ModelFacts, facts: DataFacts) -> tuple[str, int]:
    """The first training prompt with every control token, as the model reads it, and its tokens."""
    ids = model.codec.encode_prompt(first_prompt(facts))
    text = model.codec.tokenizer.decode(ids)
    return text if len(text) <= SHOWN else text[:SHOWN] + " …", len(ids)


def first_prompt(facts: DataFacts) -> str:
    """The prompt of the first example or training problem; of a theorem its declaration."""
    one: Any = facts.examples[0] if facts.examples else facts.train[0]
    prompt: str = one.prompt
    return prompt


def checked_reference(facts: DataFacts, live_lean: bool) -> str:
    """What the reward says to one reference, in a sentence.

    Args:
        facts: of the data.
        live_lean: start Lean to check a proof.
    """
    if facts.examples:
        one = facts.examples[0]
        if hasattr(one, "chosen"):
            return f"chosen: {cut(one.chosen)!r}; rejected: {cut(one.rejected)!r}"
        return f"completion: {cut(one.completion)!r}; label: {one.label}"
    if facts.guessed.kind == "theorems":
        return checked_proof(facts, live_lean)
    problem = facts.train[0]
    if problem.answer is None:
        return (
            "no answer is known, so the reward function alone judges" if not problem.solutions else solution_line(facts)
        )
    if problem.solutions:
        return solution_line(facts)
    if problem.answer_style not in ENDINGS:
        return f"answer {problem.answer!r}, read by the pattern {problem.answer_style!r}"
    text = ENDINGS[problem.answer_style].format(answer=problem.answer)
    return verdict(f"a completion that ends {text!r}", text, problem)


def solution_line(facts: DataFacts) -> str:
    """What is read from the first reference solution, and from all of them."""
    problem = facts.train[0]
    if problem.answer is None:
        return f"the first solution, {cut(problem.solutions[0])!r}, holds no answer: it is trained on and never judged"
    right, total = facts.read_right
    first = verdict(f"the first solution, {cut(problem.solutions[0])!r},", problem.solutions[0], problem)
    return f"{first}; of {total} solutions {right} are judged right"


def verdict(what: str, text: str, problem: Any) -> str:
    """How a text is read and judged."""
    found = extract_answer(text, problem.answer_style)
    judged = "right" if is_equivalent(found, problem.answer) else "WRONG: change answer_style or columns"
    return f"{what} is read as {found!r}, the reference is {problem.answer!r}: {judged}"


def checked_proof(facts: DataFacts, live: bool) -> str:
    """Whether Lean accepts the first known proof."""
    known = next((one.theorem for one in (*facts.train, *facts.test) if one.theorem and one.theorem.proofs), None)
    if known is None:
        return "the file has no plain proof to check; every proof that is found is checked by Lean"
    from lightning_gfn.environments.embedded import EmbeddedLean

    if not live or EmbeddedLean.unavailable() is not None:
        return "Lean was not asked (install it: lightning-gfn lean install)"
    lean = EmbeddedLean()
    try:
        found = lean.check(known, known.proofs[0])
    finally:
        lean.close()
    said = "accepts" if found.verified else f"REFUSES ({' '.join(found.message.split())[:120]})"
    return f"Lean {said} the known proof of {known.name}: {'; '.join(known.proofs[0])}"


def cut(text: str, length: int = 80) -> str:
    """The end of a text, where its answer stands."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else "… " + flat[-length:]
