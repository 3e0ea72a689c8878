"""Latent completions sampled by the E-step, with the evidence behind them: what the M-step trains on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.rows import BadRow, Row
from datamodules.common.wrapped import WrappedProblems, rows_of
from lightning_gfn.types import Problem


class PosteriorSamples(WrappedProblems):
    """Training problems whose solutions are sampled latents z with their evidence y: SFT on them is the M-step of EM.

        max_θ Σ_x (1 / K) Σ_k log p_θ(z_k, y | x),    z_k ~ q(z | x) ≈ p(z | x, y)

    Rows are those of ``predictions.jsonl`` (``predict`` with ``data.predict_split: train`` on the wrapped data and the
    policy of the E-step). Every sample counts, as often as it was drawn; none is filtered by what it leads to, since
    the expectation is over the posterior itself. Validation and test problems stay those of the wrapped data.

    Args:
        problems: the data set whose training problems were sampled; they must have evidence.
        path: file of rows ``{"problem_id", "completion"}``; a ``prompt`` is compared with the problem's.
        settings: further arguments of ``WrappedProblems``.

    Source: Dempster et al. 1977; Hu et al. 2024, arXiv:2310.04363, section 3.2.
    """

    def __init__(self, problems: ProblemDataModule, *, path: str | None = None, **settings: Any) -> None:
        super().__init__(problems, **settings)
        self.path = path

    def load_split(self, split: Split) -> list[Problem]:
        """The wrapped problems; of the training split one item a sample.

        Raises:
            ValueError: a row is malformed, or names no training problem.
        """
        if split != "train":
            return super().load_split(split)
        counts: dict[str, int] = {}
        items = []
        for row in rows_of(self.path, "path"):
            problem, text = self.training_problem(row), completion_of(row)
            if problem.evidence is None:
                raise BadRow(
                    row.where, "problem_id", f"{problem.id!r} has no evidence: wrap data with a latent rationale"
                )
            number = counts[problem.id] = counts.get(problem.id, 0) + 1
            item = replace(problem, id=f"{problem.id}#{number - 1}", solutions=(text + problem.evidence,))
            items.append(replace(item, evidence=None, labels=None))
        return items


def completion_of(row: Row) -> str:
    """The completion of a row, which may be empty.

    Raises:
        BadRow: it is missing or no text.
    """
    value = row.fields.get("completion")
    if not isinstance(value, str):
        found = f"found {value!r:.80}" if "completion" in row.fields else f"the row has {', '.join(sorted(row.fields))}"
        raise BadRow(row.where, "completion", f"expected text, {found}")
    return value
