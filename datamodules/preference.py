"""Preferences and labelled completions from files, beside the problems that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os.path import commonprefix
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from datamodules.common.base import Chat, ProblemDataModule, Split
from datamodules.common.judged import prompt_at
from datamodules.common.order import TrainLoader, keyed_hash
from datamodules.common.rows import BadRow, Row
from datamodules.common.wrapped import WrappedProblems, rows_of, text_of
from datamodules.files.columns import ColumnReport
from datamodules.files.messages import answer_text, chat_prompt, conversation
from lightning_gfn.preference_types import LabelledCompletion, Preference
from lightning_gfn.prompts.chat import ChatPrompt
from lightning_gfn.prompts.question_template import QUESTION

COLUMNS = ("problem_id", "prompt", "chosen", "rejected", "completion", "label")
TRUTH = {"true": True, "false": False, "1": True, "0": False}
"""Labels as CSV files hold them."""


class PreferenceDataModule(WrappedProblems):
    """Training batches of ``list[Preference]`` or ``list[LabelledCompletion]``; evaluation on the wrapped problems.

    Rows of a file (JSON lines or a JSON array) are all pairs or all single completions:

    - ``{"problem_id", "chosen", "rejected"}`` or ``{"problem_id", "completion", "label"}``, as ``lightning-gfn pairs``
      writes them: the prompt is that of the wrapped data set's training problem;
    - ``{"prompt", "chosen", "rejected"}`` or ``{"prompt", "completion", "label"}``: ``prompt_template`` is applied;
    - ``{"chosen", "rejected"}``: the prompt is their longest common beginning, cut back to its last white space, which
      goes with the prompt if it ends a line and with the completions if not; no template is applied;
    - conversations: lists of ``{"role", "content"}`` in place of texts. A completion is one assistant message, of which
      the content counts. A prompt passes through the tokenizer's chat template; a model without one reads the content
      of a single user message, and ``role: content`` lines of a longer prompt. Without ``prompt``, it is the messages
      that both lists begin with.

    The file may be any that ``RowDataModule`` reads, also a folder or a pattern. Labels may be written as 0 and 1.

    Args:
        problems: the data set of the problems.
        path: file, folder or pattern of rows.
        columns: names of columns where they differ from those above, by these names.
        chat: whether conversations pass through the chat template (``auto``), texts as well (``on``), or neither, in
            which case ``prompt_template`` is applied to both (``off``); None for that of ``problems``.
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
        columns: dict[str, str] | None = None,
        chat: Chat | None = None,
        unpair: bool = False,
        prompt_template: str = QUESTION,
        **settings: Any,
    ) -> None:
        super().__init__(problems, **settings)
        if prompt_template.count(QUESTION) != 1:
            raise ValueError(f"data.prompt_template must hold {QUESTION} exactly once, got {prompt_template!r}")
        self.prompt_template = prompt_template
        unknown = set(columns if columns is not None else ()) - set(COLUMNS)
        if unknown:
            raise ValueError(f"data.columns has the unknown keys {sorted(unknown)}; known are {', '.join(COLUMNS)}")
        self.columns = columns if columns is not None else {}
        self.chat = chat if chat is not None else self.chat
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

    def texts_of(self, stage: str) -> Iterator[tuple[Split, str, str, tuple[str, ...]]]:
        """What a stage reads: to fit, the examples in place of training problems."""
        for example in self.examples if stage == "fit" else ():
            pair = isinstance(example, Preference)
            yield (
                "train",
                example.id,
                example.prompt,
                ((example.chosen, example.rejected) if pair else (example.completion,)),
            )
        yield from (text for text in super().texts_of(stage) if stage != "fit" or text[0] != "train")

    def drop(self, ids: set[str]) -> None:
        """Leave out these examples and problems from now on."""
        super().drop(ids)
        self.examples = [example for example in self.examples if example.id not in ids]

    def load_examples(self) -> list[Preference] | list[LabelledCompletion]:
        """Every row of the file.

        Raises:
            BadRow: a row cannot be used; names file, line and field.
        """
        pairs: list[Preference] = []
        single: list[LabelledCompletion] = []
        report = ColumnReport()
        for row in rows_of(self.path, "path"):
            row = renamed(row, self.columns)
            self.places |= {f"{kind}/{row.key}": row.where for kind in ("pair", "completion")}
            names = {name: self.columns.get(name, name) for name in COLUMNS if row.fields.get(name) is not None}
            report.count(names, [])
            if "chosen" in row.fields or "rejected" in row.fields:
                pairs.append(self.preference(row))
            else:
                single.append(self.labelled(row))
            if pairs and single:
                raise BadRow(row.where, None, "pairs (chosen, rejected) and single completions stand in one file")
        rank_zero_info(f"preferences: {len(pairs) + len(single)} rows: {report}")
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
        if row.fields.get("problem_id") is not None or row.fields.get("prompt") is not None:
            prompt = self.prompt_of(row)
        else:
            prompt, chosen, rejected = split_prompt(row)
            prompt = self.prompt(prompt) if isinstance(prompt, ChatPrompt) and self.chat != "off" else str(prompt)
        texts = answer_text(row, "chosen", chosen), answer_text(row, "rejected", rejected)
        if texts[0] == texts[1]:
            raise BadRow(row.where, "rejected", "is the same text as chosen")
        return Preference(f"pair/{row.key}", prompt, *texts)

    def labelled(self, row: Row) -> LabelledCompletion:
        """The single completion of a row.

        Raises:
            BadRow: a column is missing or malformed.
        """
        text = answer_text(row, "completion", row.fields.get("completion"))
        label = row.fields.get("label")
        label = TRUTH.get(str(label).lower(), label)
        if not isinstance(label, bool):
            raise BadRow(row.where, "label", f"expected true or false, found {label!r:.80}")
        return LabelledCompletion(f"completion/{row.key}", self.prompt_of(row), text, label)

    def prompt_of(self, row: Row) -> str:
        """The prompt that a row gives or names."""
        if row.fields.get("problem_id") is not None:
            return self.training_problem(row).prompt
        return self.prompt(prompt_at(row))


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with its columns under the usual names.

    Raises:
        BadRow: a named column is missing.
    """
    fields = dict(row.fields)
    for name, column in columns.items():
        if column not in row.fields:
            raise BadRow(row.where, column, f"missing; the row has {', '.join(sorted(row.fields))}")
        fields[name] = row.fields[column]
    return replace(row, fields=fields)


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
        prompt = chat_prompt(row, "chosen", conversation(row, "chosen", chosen[:common]))
        return prompt, chosen[common:], rejected[common:]
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    common_text = commonprefix([chosen, rejected])
    end = max((i for i, character in enumerate(common_text) if character.isspace()), default=-1)
    if end < 0:
        raise BadRow(row.where, "chosen", "no prompt is given, and the two begin with no common word")
    cut = end + 1 if common_text[end] == "\n" else end
    return chosen[:cut], chosen[cut:], rejected[cut:]
