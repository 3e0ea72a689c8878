"""Preferences from files: every form, its prompt, errors with file, line and field, and resuming."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback

from datamodules.common.rows import BadRow
from datamodules.preference import PreferenceDataModule, with_unrelated
from lightning_gfn.preference_types import LabelledCompletion, Preference
from lightning_gfn.prompts.chat import ChatPrompt

Loader = Callable[..., PreferenceDataModule]


@pytest.fixture
def load(counting_data: Any, tmp_path: Path) -> Loader:
    """A datamodule over these rows, set up to fit; lines of text stand as they are."""

    def make(*rows: Any, **settings: Any) -> PreferenceDataModule:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        data = PreferenceDataModule(counting_data(), path=str(path), **settings)
        data.setup("fit")
        return data

    return make


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


FORMS = {
    "by problem": ({"problem_id": "train/3", "chosen": " 3", "rejected": " 4"}, ("3\n", " 3", " 4")),
    "by problem, its prompt": (
        {"problem_id": "train/3", "prompt": "3\n", "chosen": " 3", "rejected": " 4"},
        ("3\n", " 3", " 4"),
    ),
    "explicit": ({"prompt": "1 + 1?", "chosen": " 2", "rejected": " 3"}, ("Q: 1 + 1?\n", " 2", " 3")),
    "implicit, new line": (
        {"chosen": "1 + 1?\nIt is 2.", "rejected": "1 + 1?\nNo idea."},
        ("1 + 1?\n", "It is 2.", "No idea."),
    ),
    "implicit, within a number": (
        {"chosen": "1 + 1? It is 12", "rejected": "1 + 1? It is 13"},
        ("1 + 1? It is", " 12", " 13"),
    ),
    "conversation": (
        {"prompt": [user("1 + 1?")], "chosen": [assistant("2")], "rejected": [assistant("3")]},
        ("Q: 1 + 1?\n", "2", "3"),
    ),
    "implicit conversation": (
        {"chosen": [user("1 + 1?"), assistant("2")], "rejected": [user("1 + 1?"), assistant("3")]},
        ("1 + 1?", "2", "3"),
    ),
    "several turns": (
        {
            "prompt": [{"role": "system", "content": "Add."}, user("1 + 1?"), assistant("2"), user("And 1?")],
            "chosen": [assistant("3")],
            "rejected": [assistant("4")],
        },
        ("Q: system: Add.\nuser: 1 + 1?\nassistant: 2\nuser: And 1?\n\n", "3", "4"),
    ),
}


@pytest.mark.parametrize(("row", "expected"), FORMS.values(), ids=FORMS)
def test_every_form_of_a_pair(row: dict[str, Any], expected: tuple[str, str, str], load: Loader) -> None:
    data = load(row, prompt_template="Q: {question}\n", chat="off")
    assert data.examples == [Preference("pair/0", *expected)]


def test_conversations_keep_their_messages(load: Loader) -> None:
    """By default no template is applied to messages, and the policy's tokenizer gets them as they are."""
    for name in ("conversation", "implicit conversation", "several turns"):
        row, (_, chosen, rejected) = FORMS[name]
        (example,) = load(row, prompt_template="Q: {question}\n").examples
        turns = row["prompt"] if "prompt" in row else row["chosen"][:1]
        assert isinstance(example.prompt, ChatPrompt) and example.prompt.dicts() == turns
        assert (example.chosen, example.rejected) == (chosen, rejected)
    (example,) = load(FORMS["explicit"][0], prompt_template="Q: {question}\n", chat="on").examples
    assert example.prompt.dicts() == [user("Q: 1 + 1?\n")]


def test_columns_labels_and_containers(counting_data: Any, tmp_path: Path, capsys: Any, caplog: Any) -> None:
    path = tmp_path / "rows-0.csv"
    path.write_text('q,text,good\n"a, b?",yes,true\nc?,no,0\n')
    columns = {"prompt": "q", "completion": "text", "label": "good"}
    data = PreferenceDataModule(counting_data(), path=str(tmp_path / "rows-*.csv"), columns=columns)
    with caplog.at_level("INFO"):
        found = data.load_examples()
    assert [(e.prompt, e.completion, e.label) for e in found] == [("a, b?", "yes", True), ("c?", "no", False)]
    assert "2 rows: prompt from 'q', completion from 'text', label from 'good'" in caplog.text
    data = PreferenceDataModule(counting_data(), path=str(path), columns={"prompt": "p"})
    with pytest.raises(BadRow, match=r"rows-0\.csv:2: field 'p': missing; the row has good, q, text"):
        data.load_examples()
    with pytest.raises(ValueError, match=r"data\.columns has the unknown keys \['promt'\]"):
        PreferenceDataModule(counting_data(), columns={"promt": "p"})


def test_unpaired_rows_and_arrays(load: Loader, counting_data: Any, tmp_path: Path) -> None:
    rows = [
        {"problem_id": "train/3", "completion": " 3", "label": True},
        {"prompt": [user("1 + 1?")], "completion": [assistant("3")], "label": False},
    ]
    expected = [
        LabelledCompletion("completion/0", "3\n", " 3", True, unrelated="3"),
        LabelledCompletion("completion/1", "1 + 1?", "3", False, unrelated=" 3"),
    ]
    assert load(*rows).examples == expected
    path = tmp_path / "array.json"
    path.write_text(json.dumps(rows))
    data = PreferenceDataModule(counting_data(), path=str(path))
    assert data.load_examples() == expected


def test_pairs_taken_apart(load: Loader) -> None:
    data = load(*({"problem_id": f"train/{i}", "chosen": f" {i}", "rejected": f" -{i}"} for i in range(4)), unpair=True)
    assert [(e.prompt, e.completion, e.label) for e in data.examples[:2]] == [
        ("0\n", " 0", True),
        ("0\n", " -0", False),
    ]
    assert len({e.id for e in data.examples}) == len(data.examples) == 8
    own = {(e.prompt, e.completion) for e in data.examples}
    assert all((e.prompt, e.unrelated) not in own for e in data.examples)
    assert {e.unrelated for e in data.examples} <= {e.completion for e in data.examples}


def test_completions_of_other_prompts_do_not_depend_on_the_order_of_the_file() -> None:
    examples = [LabelledCompletion(f"c{i}", f"p{i % 3}", f"t{i}", True) for i in range(9)]
    forward = {e.id: e.unrelated for e in with_unrelated(examples)}
    assert forward == {e.id: e.unrelated for e in with_unrelated(examples[::-1])}
    assert all(text is not None and int(text[1:]) % 3 != int(id_[1:]) % 3 for id_, text in forward.items())
    alone = with_unrelated([LabelledCompletion("a", "p", "x", True), LabelledCompletion("b", "p", "y", False)])
    assert [e.unrelated for e in alone] == [None, None]


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
FAULTS = {
    "broken JSON": ("{", "not a line of JSON"),
    "no object": ("[1]", "expected a JSON object"),
    "no prompt at all": ({"completion": "b", "label": True}, "field 'prompt'"),
    "empty prompt": ({**PAIR, "prompt": " "}, "field 'prompt'"),
    "no rejected": ({"prompt": "a", "chosen": "b"}, "field 'rejected'"),
    "number": ({**PAIR, "chosen": 3}, "field 'chosen'"),
    "equal": ({**PAIR, "rejected": "b"}, "field 'rejected': is the same"),
    "label as a number": ({"prompt": "a", "completion": "b", "label": 2}, "field 'label'"),
    "unknown problem": ({"problem_id": "test/1", "chosen": "b", "rejected": "c"}, "field 'problem_id'.*'test/1'"),
    "changed problem": ({**PAIR, "problem_id": "train/1"}, "field 'prompt': differs"),
    "nothing in common": ({"chosen": "yes", "rejected": "no"}, "field 'chosen': no prompt"),
    "no common message": ({"chosen": [user("a")], "rejected": [user("b")]}, "no common message"),
    "user as completion": ({**PAIR, "chosen": [user("b")]}, "field 'chosen': expected one assistant message"),
    "two messages": ({**PAIR, "rejected": [assistant("b"), assistant("c")]}, "field 'rejected': expected one"),
    "no role": ({**PAIR, "prompt": [{"content": "a"}]}, "field 'prompt': expected messages"),
    "empty conversation": ({**PAIR, "prompt": []}, "field 'prompt': the conversation has no message"),
    "two kinds": ({"prompt": "a", "completion": "b", "label": True}, "stand in one file", PAIR),
}


@pytest.mark.parametrize("case", FAULTS.values(), ids=FAULTS)
def test_a_bad_row_names_file_line_and_field(case: tuple[Any, ...], load: Loader) -> None:
    row, message, *before = case
    with pytest.raises(BadRow, match=rf"rows\.jsonl:{len(before) + 1}: .*{message}"):
        load(*before, row)


def test_missing_files_and_templates(counting_data: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path is missing"):
        PreferenceDataModule(counting_data()).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"data\.path: nowhere"):
        PreferenceDataModule(counting_data(), path="nowhere").setup("fit")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ValueError, match="holds no rows"):
        PreferenceDataModule(counting_data(), path=str(tmp_path / "empty.jsonl")).setup("fit")
    with pytest.raises(ValueError, match=r"data\.prompt_template"):
        PreferenceDataModule(counting_data(), prompt_template="no place")


def test_everything_else_is_that_of_the_problems(counting_data: Any) -> None:
    inner = counting_data(batch_size=3, eval_batch_size=2, seed=7, drop_last=True, predict_split="train")
    data = PreferenceDataModule(inner)
    assert (data.batch_size, data.eval_batch_size, data.seed, data.drop_last) == (3, 2, 7, True)
    assert PreferenceDataModule(inner, batch_size=5, seed=1, drop_last=False).batch_size == 5
    data.setup("test")
    data.setup("predict")
    for loader in ("val_dataloader", "test_dataloader", "predict_dataloader"):
        assert list(getattr(data, loader)()) == list(getattr(inner, loader)())
    assert sum(map(len, data.predict_dataloader())) == 10
    assert list(data.training_texts()) == list(inner.training_texts())


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_the_pairs_of_an_uninterrupted_one(
    load: Loader, recording_module: Any, make_trainer: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": "a", "chosen": f"{i}", "rejected": "no"} for i in range(7)]

    class SaveAtFour(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "at4.ckpt")

    def run(ckpt: Path | None = None) -> list[tuple[str, ...]]:
        module, trainer = recording_module(), make_trainer(max_steps=9, callbacks=[] if ckpt else [SaveAtFour()])
        trainer.fit(module, datamodule=load(*rows, batch_size=3), ckpt_path=ckpt, weights_only=True if ckpt else None)
        return module.trained

    whole = run()
    assert whole[:4] + run(tmp_path / "at4.ckpt") == whole
    assert sorted(id_ for batch in whole[:3] for id_ in batch) == [f"pair/{i}" for i in range(7)]
