"""What all data modules share: stages, limits, identity of problems, command line, devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from lightning import Callback

from datamodules.common.base import ProblemDataModule


def test_setup_loads_what_a_stage_needs(counting_data: Any) -> None:
    for stage, loaded in {"fit": {"train", "val"}, "validate": {"val"}, "test": {"test"}, "predict": {"test"}}.items():
        data = counting_data()
        data.setup(stage)
        assert set(data._loaded) == loaded
    assert len(list(data.training_texts())) == 10


def test_limits_choose_a_fixed_nested_subset(counting_data: Any) -> None:
    few, more = ({p.id for p in counting_data(num_train=100, max_train=n).problems("train")} for n in (10, 30))
    assert len(few) == 10 and len(more) == 30 and few < more
    assert len(counting_data(max_train=1000).problems("train")) == 10


def test_repeated_ids_are_refused(counting_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = counting_data()
    monkeypatch.setattr(data, "load_split", lambda split: counting_data().problems("train"))
    data.problems("train")
    with pytest.raises(ValueError, match="'train/0' occurs more than once"):
        data.problems("test")


def test_template_keeps_braces_of_the_question(counting_data: Any) -> None:
    assert counting_data(prompt_template="{x} {question}").prompt("\\frac{1}{2}") == "{x} \\frac{1}{2}"


@pytest.mark.parametrize(
    ("class_path", "arguments"),
    [
        ("datamodules.gsm8k.GSM8K", {"max_train": 3, "strip_calculator": False, "columns": {"question": "question"}}),
        ("datamodules.metamath.MetaMath", {"types": ["GSM_*"], "on_bad_row": "skip", "val_path": None}),
        ("datamodules.math.Math", {"path": "org/name", "val_fraction": 0.1}),
        ("datamodules.synthetic.SyntheticWordProblems", {"levels": {1: 0.5, 3: 0.5}, "batch_size": 4}),
    ],
)
def test_built_from_configuration(class_path: str, arguments: dict[str, Any]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ProblemDataModule, "data")
    config = json.dumps({"class_path": class_path, "init_args": arguments})
    data = parser.instantiate(parser.parse_args([f"--data={config}"])).data
    assert isinstance(data, ProblemDataModule)
    misspelt = json.dumps({"class_path": class_path, "init_args": arguments | {"batchsize": 3}})
    with pytest.raises(Exception, match="batchsize"):
        parser.parse_args([f"--data={misspelt}"])


class WriteIds(Callback):
    """Write what each rank saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        seen = {"world_size": trainer.world_size, "trained": pl_module.trained, "validated": pl_module.validated}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(seen))


@pytest.mark.ddp
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use_distributed_sampler", [False, True])
def test_two_processes_share_the_batches_of_one(
    counting_data: Any, recording_module: Any, make_trainer: Any, tmp_path: Path, use_distributed_sampler: bool
) -> None:
    single = recording_module()
    make_trainer(max_steps=6).fit(single, datamodule=counting_data(batch_size=4))
    make_trainer(
        max_steps=6,
        devices=2,
        strategy="ddp_fork",
        num_sanity_val_steps=0,
        use_distributed_sampler=use_distributed_sampler,
        callbacks=[WriteIds(tmp_path)],
    ).fit(recording_module(), datamodule=counting_data(batch_size=4))
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [rank["world_size"] for rank in ranks] == [2, 2]
    assert [sorted(one + other) for one, other in zip(*(rank["trained"] for rank in ranks), strict=True)] == [
        sorted(batch) for batch in single.trained
    ]
    validated = ranks[0]["validated"] + ranks[1]["validated"]
    assert sorted(validated) == sorted([f"val/{i}" for i in range(5)] * 2)
