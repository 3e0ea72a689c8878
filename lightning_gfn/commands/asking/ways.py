"""Samples in groups: right ones by their way of solving, wrong ones by their answer or what went wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lightning_gfn.types import EvalRecord

By = Literal["equations", "rouge", "text"]
KINDS = {
    "tactic": "Lean refuses the tactic",
    "forbidden": "a rule bars the tactic",
    "timeout": "the tactic takes too long",
    "unsound": "closes the goals, but is no proof",
    "fault": "Lean broke",
    "statement": "Lean refuses the statement",
}
LONGEST_REASON = 160


@dataclass(frozen=True)
class Group:
    """Samples that count as one.

    Args:
        verdict: True for right ones, False for wrong ones, None where nobody knows.
        label: what they have in common.
        members: indices of the samples, the most probable one first.
    """

    verdict: bool | None
    label: str
    members: tuple[int, ...]


def ways_of_solving(texts: Sequence[str], by: By, threshold: float) -> list[list[int]]:
    """Indices of texts in groups of one way of solving, in the order in which ways occur first.

    By ``equations`` texts with equal equations in equal order are one way, and one without any stands for itself; by
    ``rouge`` a text belongs to the first way whose first text has a ROUGE-L F1 with it from the threshold on, as
    ``distinct_correct_rouge`` counts; by ``text`` equal texts are one way. Case and white space never matter.

    Args:
        texts: of the samples.
        by: what makes two texts one way.
        threshold: of ROUGE-L F1.
    """
    if by == "rouge":
        from lightning_gfn.similarity.counting import leaders, similarities

        return grouped(range(len(texts)), leaders(similarities(list(texts), "unicode") >= threshold).__getitem__)
    return grouped(range(len(texts)), lambda index: path_of(texts[index], by))


def path_of(text: str, by: By) -> tuple[str, ...]:
    """What is equal for texts of one way."""
    from lightning_gfn.answers.equation_normal_form import equations

    found = equations(text) if by == "equations" else ()
    return found if found else (" ".join(text.casefold().split()),)


def grouped(items: Any, key: Callable[[int], Any]) -> list[list[int]]:
    """Items with equal keys together, in the order in which keys occur first."""
    groups: dict[Any, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def solution_groups(record: EvalRecord, answers: Sequence[str | None], by: By, threshold: float) -> list[Group]:
    """The samples of a problem in groups: right ones by way of solving, then wrong ones by their answer.

    Without a reference answer all samples are grouped by way of solving.

    Args:
        record: the samples.
        answers: that were read from them.
        by: what makes two samples one way.
        threshold: of ROUGE-L F1.
    """
    judged = record.problem.answer is not None
    right = [i for i in range(len(record.completions)) if record.correct[i] or not judged]
    wrong = [i for i in range(len(record.completions)) if i not in set(right)]
    ways = ways_of_solving([record.completions[i] for i in right], by, threshold)
    verdict = True if judged else None
    found = [
        Group(
            verdict, way_label(record.completions[right[way[0]]], by), by_probability(record, [right[i] for i in way])
        )
        for way in ways
    ]
    found.sort(key=lambda group: -len(group.members))
    rest = grouped(wrong, lambda i: answers[i] if answers[i] is not None else None)
    rest.sort(key=lambda group: -len(group))
    for group in rest:
        answer = answers[group[0]]
        found.append(
            Group(False, f"answer {answer}" if answer is not None else "no answer read", by_probability(record, group))
        )
    return found


def way_label(text: str, by: By) -> str:
    """The equations of a way, where they make it."""
    from lightning_gfn.answers.equation_normal_form import equations

    found = equations(text) if by == "equations" else ()
    return "; ".join(found) if found else ("no equations" if by == "equations" else "")


def by_probability(record: EvalRecord, members: Sequence[int]) -> tuple[int, ...]:
    """Members, the most probable one first."""
    return tuple(sorted(members, key=lambda i: -record.log_probs[i]))


def proof_groups(record: EvalRecord) -> list[Group]:
    """Attempts at a theorem in groups: proofs by their script in a normal form, the others by what Lean said last."""
    from lightning_gfn.similarity.tactic_scripts import normal_script

    episodes = record.episodes
    proved = [i for i in range(len(episodes)) if record.correct[i]]
    failed = [i for i in range(len(episodes)) if not record.correct[i]]
    scripts = grouped(proved, lambda i: normal_script(episodes[i].tactics, rename=True))
    scripts.sort(key=lambda group: -len(group))
    found = [Group(True, "", by_probability(record, group)) for group in scripts]
    reasons = grouped(failed, lambda i: failure(episodes[i]))
    reasons.sort(key=lambda group: -len(group))
    return found + [Group(False, failure(episodes[group[0]]), by_probability(record, group)) for group in reasons]


def failure(episode: Any) -> str:
    """Why an attempt is no proof, in one line."""
    if episode.outcome == "unfinished":
        return "goals are left when the last tactic is played"
    return reason(episode.message, episode.error_kind)


def reason(message: str, kind: str | None) -> str:
    """What Lean said, in one line, without the place that differs from attempt to attempt."""
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    first = re.sub(r"^<\w+>:\d+:\d+:\s*(?:error:\s*)?", "", first)
    return f"{KINDS.get(kind or 'tactic', kind)}: {first[:LONGEST_REASON]}"
