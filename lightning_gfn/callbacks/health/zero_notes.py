"""Why a row of zeros: what the samples of an evaluation lack, and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_gfn.callbacks.common.run_files import ResultRow


def zero_notes(rows: Sequence[ResultRow], max_new_tokens: int | None) -> list[str]:
    """Sentences on each temperature at which no sample is answered, right or ended by choice.

    Args:
        rows: of all problems and temperatures, as ``problem_row`` makes them.
        max_new_tokens: longest completion, tokens; None where it is not known.
    """
    temperatures = list(dict.fromkeys(row["temperature"] for row in rows))
    several = len(temperatures) > 1
    notes = []
    for temperature in temperatures:
        where = f" at temperature {temperature:g}" if several else ""
        own = [row for row in rows if row["temperature"] == temperature]
        notes += [f"{sentence[0]}{where}{sentence[1]}" for sentence in _notes(own, max_new_tokens)]
    return notes


def _notes(rows: Sequence[ResultRow], max_new_tokens: int | None) -> Iterator[tuple[str, str]]:
    """The start and the end of each sentence on the rows of one temperature."""
    questions = [row for row in rows if "outcomes" not in row and row.get("is_judged", True)]
    theorems = [row for row in rows if "outcomes" in row]
    if questions:
        yield from _on_answers(questions, max_new_tokens)
    if theorems and not any(any(row["correct"]) for row in theorems):
        total = sum(row["num_samples"] for row in theorems)
        yield f"0 of {total} attempts proved their theorem", f": {_outcomes(theorems)}; see results/*_problems.jsonl"


def _on_answers(rows: Sequence[ResultRow], max_new_tokens: int | None) -> Iterator[tuple[str, str]]:
    total = sum(row["num_samples"] for row in rows)
    cut = sum(sum(row["truncated"]) for row in rows)
    answered = sum(answer is not None for row in rows for answer in row["answers"])
    limit = f"max_new_tokens={max_new_tokens}" if max_new_tokens is not None else "the maximum length"
    raised = "raise model.policy.max_new_tokens or teach the model to end (SFT)"
    if total == 0:
        return
    if answered == 0:
        parts = [f"{cut} were cut at {limit} ({raised})"] if cut else []
        if cut < total:
            parts.append(
                f"{total - cut} ended by themselves without an answer in the form that data.answer_style asks for "
                "(look at samples/, teach the form by SFT or in the prompt, or set data.answer_style)"
            )
        yield f"0 of {total} samples ended with an answer", f": {'; '.join(parts)}"
    elif not any(any(row["correct"]) for row in rows):
        yield f"0 of {total} samples were right", f": {answered} gave an answer, a wrong one; {cut} were cut at {limit}"
    elif cut == total:
        yield f"all {total} samples were cut at {limit}", f": {raised}"


def _outcomes(rows: Sequence[ResultRow]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        for outcome in row["outcomes"]:
            counts[outcome] = counts.get(outcome, 0) + 1
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items(), key=_most_first))


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
