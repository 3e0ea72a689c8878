"""What a language model says of the labels of a classification behind rationales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lightning_gfn.interfaces import Policy, TextLikelihood
from lightning_gfn.types import EvalRecord, Problem

Stem = tuple[int, ...]


def with_label_scores(
    policy: Policy, records: Sequence[EvalRecord], *, max_rows: int, reference: bool = False, swap: bool = False
) -> list[EvalRecord]:
    """The records of latent rationales with the probability of each label behind each rationale.

        log p(y | x, z_k)  of each label y, from the token at which the texts of the labels differ        (nats)

    A rationale is right if the most probable label behind it is. Each different rationale of a problem is scored once,
    by the tokens that were sampled, and the prompt (x; the problem's ``prior_prompt``, where it has one) once for all.

    Args:
        policy: a language model.
        records: of any problems; those without labels behind a rationale stay as they are.
        max_rows: rationales scored at once.
        reference: score by the policy as this stage began.
        swap: also score the labels behind the rationales of another problem, the next one among the records.

    Raises:
        TypeError: the policy scores no texts.
    """
    chosen = [i for i, record in enumerate(records) if record.problem.labels and record.problem.evidence is not None]
    own = {i: stems_of(policy, records[i]) for i in chosen}
    partners = partners_of(records, chosen) if swap else {}
    wanted = {i: list(dict.fromkeys([*own[i], *own.get(partners.get(i, -1), ())])) for i in chosen}
    scores = label_scores(policy, records, wanted, max_rows, reference)
    found = list(records)
    for i in chosen:
        behind = tuple(scores[i, stem] for stem in own[i])
        swapped = tuple(scores[i, stem] for stem in own[partners[i]]) if i in partners else ()
        correct = tuple(best_label(records[i].problem, row) == records[i].problem.answer for row in behind)
        found[i] = replace(records[i], label_log_probs=behind, swapped_label_log_probs=swapped, correct=correct)
    return found


def stems_of(policy: Policy, record: EvalRecord) -> list[Stem]:
    """The tokens of each rationale: as they were sampled, or where that is not known those of its text."""
    if record.actions:
        return list(record.actions)
    return [tuple(policy.encode_completion(text)) for text in record.completions]


def partners_of(records: Sequence[EvalRecord], chosen: Sequence[int]) -> dict[int, int]:
    """The record whose rationales each one is given: that of the next problem at the same temperature, in a circle."""
    partners = {}
    for i in chosen:
        ring = [j for j in chosen if records[j].temperature == records[i].temperature]
        after = ring[ring.index(i) + 1 :] + ring[: ring.index(i)]
        other = next((j for j in after if records[j].problem.id != records[i].problem.id), None)
        if other is not None:
            partners[i] = other
    return partners


def best_label(problem: Problem, log_probs: Sequence[float]) -> str:
    """The name of the most probable label; the first one of equals."""
    assert problem.labels is not None
    return list(problem.labels)[max(range(len(log_probs)), key=log_probs.__getitem__)]


def require_text_likelihood(policy: Policy) -> TextLikelihood:
    """The policy as a model of texts.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(policy, TextLikelihood):
        raise TypeError(f"labels are scored by a language model, {type(policy).__name__} scores no texts")
    return policy


def label_scores(
    policy: Policy,
    records: Sequence[EvalRecord],
    wanted: dict[int, list[Stem]],
    max_rows: int,
    reference: bool,
) -> dict[tuple[int, Stem], tuple[float, ...]]:
    """Log-probabilities of the labels of records behind stems."""
    found: dict[tuple[int, Stem], tuple[float, ...]] = {}
    rows = [(i, stem) for i, stems in wanted.items() for stem in stems]
    prompts = {i: read_before(policy, records[i].problem) for i in wanted}
    labels = {i: label_tokens(policy, records[i].problem) for i in wanted}
    for part in in_parts(rows, max_rows):
        values = require_text_likelihood(policy).choice_log_probs(
            [prompts[i] for i, _ in part],
            [stem for _, stem in part],
            [labels[i] for i, _ in part],
            reference=reference,
        )
        found |= {row: tuple(value) for row, value in zip(part, values, strict=True)}
    return found


def read_before(policy: Policy, problem: Problem) -> list[int]:
    """The tokens that a model of the labels reads before a rationale."""
    prior = problem.prior_prompt
    return (
        policy.encode_prompt(problem.prompt) if prior is None else require_text_likelihood(policy).encode_context(prior)
    )


def label_tokens(policy: Policy, problem: Problem) -> list[list[int]]:
    """The tokens of the text that states each label."""
    return [policy.encode_completion(text) for text in (problem.labels or {}).values()]


def in_parts(rows: Sequence[tuple[int, Stem]], most: int) -> Iterator[list[tuple[int, Stem]]]:
    """Rows in parts of so many at most; those of one record stay together where they fit."""
    part: list[tuple[int, Stem]] = []
    sizes: dict[int, int] = {}
    for i, _ in rows:
        sizes[i] = sizes.get(i, 0) + 1
    for n, row in enumerate(rows):
        starts = n == 0 or rows[n - 1][0] != row[0]
        if part and (len(part) >= most or (starts and len(part) + sizes[row[0]] > most)):
            yield part
            part = []
        part.append(row)
    if part:
        yield part
