"""One row as the model will see it, and its reference as the reward will judge it."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Example:
    """One row as training will use it.

    Args:
        prompt: with every control token, as the model reads it.
        tokens: of the prompt.
        verdict: what the reward, or the objective, makes of its reference.
    """

    prompt: str
    tokens: int
    verdict: str


def example_of(model: ModelFacts, facts: DataFacts) -> Example:
    """The first row: a question with its reference, a pair, or a theorem in the state that Lean gives it."""
    if facts.guessed.kind == "theorems":
        prompt, sentence = theorem_view(facts)
    else:
        prompt, sentence = first_prompt(facts), checked_reference(facts)
    ids = model.codec.encode_prompt(prompt)
    text = model.codec.tokenizer.decode(ids)
    return Example(text if len(text) <= SHOWN else text[:SHOWN] + " …", len(ids), sentence)


def first_prompt(facts: DataFacts) -> str:
    """The prompt of the first example or training problem; of a theorem its declaration."""
    one: Any = facts.examples[0] if facts.examples else facts.train[0]
    prompt: str = one.prompt
    return prompt


def checked_reference(facts: DataFacts) -> str:
    """What the reward says to one reference, in a sentence."""
    if facts.examples:
        one = facts.examples[0]
        if hasattr(one, "chosen"):
            return f"Its pair: chosen {cut(one.chosen)!r}, rejected {cut(one.rejected)!r}."
        return f"Its completion: {cut(one.completion)!r}, labelled {'good' if one.label else 'bad'}."
    return f"The reward: {checked_problem(facts)}."


def checked_problem(facts: DataFacts) -> str:
    """How the reference of the first problem is read and judged."""
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


def theorem_view(facts: DataFacts) -> tuple[str, str]:
    """What a policy reads of the first theorem, and whether Lean accepts the first known proof."""
    from lightning_gfn.environments.embedded import EmbeddedLean
    from lightning_gfn.lean_types import TacticState
    from lightning_gfn.prompts.proof_prompt import ProofPrompt

    first = facts.train[0]
    assert first.theorem is not None
    if EmbeddedLean.unavailable() is not None:
        missing = "Lean was not asked, so this is the statement and not the state that the model will read"
        return first.prompt, f"{missing}; install it: lightning-gfn lean install."
    known = next((one.theorem for one in (*facts.train, *facts.test) if one.theorem and one.theorem.proofs), None)
    lean = EmbeddedLean()
    try:
        state = lean.start(first.theorem)
        found = lean.check(known, known.proofs[0]) if known is not None else None
    finally:
        lean.close()
    if not isinstance(state, TacticState):
        return first.prompt, f"Lean REFUSES the statement: {' '.join(state.message.split())[:200]}."
    if found is None or known is None:
        sentence = "The file has no plain proof to check; every proof that is found is checked by Lean."
    else:
        said = "accepts" if found.verified else f"REFUSES ({' '.join(found.message.split())[:120]})"
        sentence = f"The reward: Lean {said} the known proof of {known.name}: {'; '.join(known.proofs[0])}."
    return ProofPrompt()(state.text), sentence


def cut(text: str, length: int = 80) -> str:
    """The end of a text, where its answer stands."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else "… " + flat[-length:]
