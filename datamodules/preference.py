"""Preferences and labelled completions from files, beside the problems that are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from datamodules.common.base import ProblemDataModule
from datamodules.common.order import TrainLoader, keyed_hash
from datamodules.common.rows import BadRow, Row
from datamodules.common.wrapped import WrappedProblems, rows_of, text_of
from lightning_gfn.preference_types import LabelledCompletion, Preference
from lightning_gfn.prompts.question_template import QUESTION


class PreferenceDataModule(WrappedProblems):
    """Training batches of ``list[Preference]`` or ``list[LabelledCompletion]``; evaluation on the wrapped problems.

    Rows of a file (JSON lines or a JSON array) are all pairs or all single completions:

    - ``{"problem_id", "chosen", "rejected"}`` or ``{"problem_id", "completion", "label"}``, as ``lightning-gfn pairs``
      writes them: the prompt is that of the wrapped data set's training problem;
    - ``{"prompt", "chosen", "rejected"}`` or ``{"prompt", "completion", "label"}``: ``prompt_template`` is applied;
    - ``{"chosen", "rejected"}``: the prompt is their longest common beginning, cut back to its last white space, which
      goes with the prompt if it ends a line and with the completions if not; no template is applied;
    - conversations: lists of ``{"role", "content"}`` in place of texts. A completion is one assistant message, of which
      the content counts. A prompt of one user message is its content; a longer one is rendered as ``role: content``
      lines. Without ``prompt``, it is the messages that both lists begin with.

    Args:
        problems: the data set of the problems.
        path: file of rows.
        unpair: turn each pair into a desirable and an undesirable completion (for KTO).
        prompt_template: applied to prompts of the file, with ``{question}`` where they stand.
        settings: further arguments of ``WrappedProblems``.

    Raises:
        ValueError: the template does not hold ``{question}`` once.

    Source: the forms are those of TRL's documentation of data set formats.
    """

    def __init__(
        self,
        problems: ProblemDataModule,
        *,
        path: str | None = None,
        unpair: bool = False,
        prompt_template: str = QUESTION,
        **settings: Any,
    ) -> None:
        super().__init__(problems, **settings)
        if prompt_template.count(QUESTION) != 1:
            raise ValueError(f"data.prompt_template must hold {QUESTION} exactly once, got {prompt_template!r}")
        self.prompt_template = prompt_template
        self.path = path
        self.unpair = unpair
        self.examples: list[Any] = []
        """Preferences or labelled completions, once ``setup`` was called to fit."""

    def setup(self, stage: str) -> None:
        """Load the splits of a stage, and the examples to fit."""
        if stage == "fit" and not self.examples:
            self.examples = self.load_examples()
        super().setup(stage)

    def train_dataloader(self) -> TrainLoader:
        """Resumable batches of the examples."""
        rank, world_size = self._ranks()
        return TrainLoader(
            self.examples,
            batch_size=self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            rank=rank,
            world_size=world_size,
        )

    def load_examples(self) -> list[Preference] | list[LabelledCompletion]:
        """Every row of the file.

        Raises:
            BadRow: a row cannot be used; names file, line and field.
        """
        pairs: list[Preference] = []
        single: list[LabelledCompletion] = []
        for row in rows_of(self.path, "path"):
            if "chosen" in row.fields or "rejected" in row.fields:
                pairs.append(self.preference(row))
            else:
                single.append(self.labelled(row))
            if pairs and single:
                raise BadRow(row.where, None, "pairs (chosen, rejected) and single completions stand in one file")
        if not self.unpair and pairs:
            return pairs
        halves = [half for pair in pairs for half in halves_of(pair)]
        return with_unrelated(halves if pairs else single)

    def preference(self, row: Row) -> Preference:
        """The pair of a row.

        Raises:
            BadRow: a column is missing or malformed.
        """
        chosen, rejected = (row.fields.get(name) for name in ("chosen", "rejected"))
        if "problem_id" in row.fields or "prompt" in row.fields:
            prompt = self.prompt_of(row)
        else:
            prompt, chosen, rejected = split_prompt(row)
        texts = completion_text(row, "chosen", chosen), completion_text(row, "rejected", rejected)
        if texts[0] == texts[1]:
            raise BadRow(row.where, "rejected", "is the same text as chosen")
        return Preference(f"pair/{row.key}", prompt, *texts)

    def labelled(self, row: Row) -> LabelledCompletion:
        """The single completion of a row.

        Raises:
            BadRow: a column is missing or malformed.
        """
        text = completion_text(row, "completion", row.fields.get("completion"))
        label = row.fields.get("label")
        if not isinstance(label, bool):
            raise BadRow(row.where, "label", f"expected true or false, found {label!r:.80}")
        return LabelledCompletion(f"completion/{row.key}", self.prompt_of(row), text, label)

    def prompt_of(self, row: Row) -> str:
        """The prompt that a row gives or names."""
        if "problem_id" in row.fields:
            return self.training_problem(row).prompt
        value = row.fields.get("prompt")
        return self.prompt(rendered(row, "prompt", value) if isinstance(value, list) else text_of(row, "prompt"))


def halves_of(pair: Preference) -> tuple[LabelledCompletion, LabelledCompletion]:
    """The two completions of a pair, one desirable and one not."""
    return (
        LabelledCompletion(f"{pair.id}/chosen", pair.prompt, pair.chosen, True),
        LabelledCompletion(f"{pair.id}/rejected", pair.prompt, pair.rejected, False),
    )


def with_unrelated(examples: Sequence[LabelledCompletion]) -> list[LabelledCompletion]:
    """The examples, each with the completion of the next one of another prompt, in an order keyed by their ids."""
    order = sorted(range(len(examples)), key=lambda i: (keyed_hash("unrelated", examples[i].id), i))
    unrelated: dict[int, str] = {}
    for place, i in enumerate(order):
        for j in (*order[place + 1 :], *order[:place]):
            if examples[j].prompt != examples[i].prompt:
                unrelated[i] = examples[j].completion
                break
    return [replace(example, unrelated=unrelated.get(i)) for i, example in enumerate(examples)]


def split_prompt(row: Row) -> tuple[str, Any, Any]:
    """Prompt and rests of two texts, or of two conversations, that begin alike.

    Raises:
        BadRow: they do not begin alike, or are not both texts or both lists.
    """
    chosen, rejected = row.fields.get("chosen"), row.fields.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        common = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), 0)
        if not common:
            raise BadRow(
                row.where, "chosen", "no prompt is given, and chosen and rejected begin with no common message"
            )
        return rendered(row, "chosen", chosen[:common]), chosen[common:], rejected[common:]
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    common_text = commonprefix([chosen, rejected])
    end = max((i for i, character in enumerate(common_text) if character.isspace()), default=-1)
    if end < 0:
        raise BadRow(row.where, "chosen", "no prompt is given, and the two begin with no common word")
    cut = end + 1 if common_text[end] == "\n" else end
    return chosen[:cut], chosen[cut:], rejected[cut:]


def message(row: Row, field: str, value: Any) -> Mapping[str, str]:
    """One message of a conversation, checked.

    Raises:
        BadRow: it lacks role or content.
    """
    if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("role", "content")):
        raise BadRow(row.where, field, f"expected messages with role and content, found {value!r:.80}")
    return value


def rendered(row: Row, field: str, messages: Sequence[Any]) -> str:
    """The text of a prompt that is a conversation.

    Raises:
        BadRow: it has no message, or a malformed one.
    """
    checked = [message(row, field, item) for item in messages]
    if not checked:
        raise BadRow(row.where, field, "the conversation has no message")
    if len(checked) == 1 and checked[0]["role"] == "user":
        return checked[0]["content"]
    return "".join(f"{item['role']}: {item['content']}\n" for item in checked)


def completion_text(row: Row, field: str, value: Any) -> str:
    """The text of a completion: itself, or the content of its one assistant message.

    Raises:
        BadRow: it is something else, or empty.
    """
    if isinstance(value, list):
        if len(value) != 1 or message(row, field, value[0])["role"] != "assistant":
            raise BadRow(row.where, field, f"expected one assistant message after the prompt, found {value!r:.80}")
        value = value[0]["content"]
    if not isinstance(value, str) or not value.strip():
        raise BadRow(row.where, field, f"expected a completion, found {value!r:.80}")
    return value
