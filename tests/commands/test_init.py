"""``init``: the configuration says what was found, and runs as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_models import write_small_model

from lightning_gfn import cli
from lightning_gfn.commands.doctor_parts.machine import GIB, Device
from lightning_gfn.commands.init_parts.configuration import precision_of
from lightning_gfn.commands.init_parts.model_facts import ModelFacts
from lightning_gfn.commands.init_parts.sizes import Lengths, fitting_sizes, quantile
from lightning_gfn.commands.init_parts.yaml_text import Noted, to_yaml

QUESTIONS = [(f"Mia has {n} boxes of 4 pens. How many pens?", str(4 * n)) for n in range(1, 13)]
PAIRS = [{"prompt": ask, "chosen": f"It is {right}.", "rejected": "No idea."} for ask, right in QUESTIONS]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path.name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small model and files in several forms."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    write_small_model(tmp_path / "small")
    write(tmp_path / "own.jsonl", [{"task": ask, "gold": right, "level": 1} for ask, right in QUESTIONS])
    write(tmp_path / "pairs.jsonl", PAIRS)
    write(tmp_path / "solved.jsonl", [{"question": ask, "solution": f"So. #### {right}"} for ask, right in QUESTIONS])
    return tmp_path


def init(*args: str) -> int:
    return cli.main(["init", *args, "--model", "small"])


def run(config: str, *more: str) -> int:
    small = ("--trainer.max_steps", "1", "--trainer.logger", "false")
    return cli.main(["run", "--config", config, *small, *more])


def test_what_it_writes_runs_and_can_be_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("own.jsonl") == 0
    text = (folder / "own.yaml").read_text(encoding="utf-8")
    remarks = " ".join(text.replace("#", "").split())
    assert "question is column 'task' (its name), answer is column 'gold' (its name)" in remarks
    assert "Further columns, which reward functions receive: level. If one of them holds worked solutions" in remarks
    assert "│ <bos>Mia has 1 boxes of 4 pens. How many pens? │" in remarks
    assert "ends 'So it is 4.' is read as '4', the reference is '4': right" in remarks
    written = yaml.safe_load(text)
    arguments = written["data"]["init_args"]
    assert arguments["columns"] == {"question": "task", "answer": "gold"} and arguments["chat"] == "auto"
    policy = written["model"]["init_args"]["policy"]["init_args"]
    longest = max(len(ask) for ask, _ in QUESTIONS) + 2  # bytes, the template's new line and the begin token
    assert longest <= policy["max_prompt_tokens"] < longest + 16 and policy["max_new_tokens"] == 256
    assert all(len(line) <= 120 for line in text.splitlines())
    capsys.readouterr()

    short = ("--model.init_args.policy.init_args.max_new_tokens", "8", "--data.init_args.max_test", "1")
    assert run("own.yaml", *short) == 0, capsys.readouterr().err
    assert (folder / "runs/own/results/test_metrics.json").is_file()
    capsys.readouterr()
    asked = ("Mia has 2 boxes of 4 pens. How many pens?", "--answer", "8", "-k", "3", "--json", "--max_new_tokens", "8")
    form = ("--prompt_template", "{question}\n", "--chat", "off", "--answer_style", "last_number")
    found = {}
    for name, more in (("runs/own", ()), ("runs/own/model", ()), ("small", form)):
        assert cli.main(["sample", name, *asked, *more]) == 0, capsys.readouterr().err
        found[name] = json.loads(capsys.readouterr().out)
    samples = {name: [one["completion"] for one in said["samples"]] for name, said in found.items()}
    assert samples["runs/own"] == samples["runs/own/model"], "the checkpoint and the exported model are one policy"
    assert found["runs/own"]["model_input"] == found["small"]["model_input"]
    assert found["runs/own"]["answer_style"] == "last_number"
    trained = [one["log_prob"] for one in found["runs/own"]["samples"]]
    assert trained != [one["log_prob"] for one in found["small"]["samples"]], "training has changed the policy"
    assert cli.main(["sample", "runs/own", "--split", "test", "--row", "1", "-k", "1", "--max_new_tokens", "4"]) == 0
    assert "Mia has" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "method"),
    [
        *(("own.jsonl", name) for name in ("tb", "subtb", "grpo", "dr_grpo", "rloo", "ppo")),
        ("solved.jsonl", "sft"),
        *(("pairs.jsonl", name) for name in ("dpo", "ipo", "kto")),
    ],
)
def test_every_method_runs(folder: Path, file: str, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(file, "--method", method, "--output", "mine.yaml") == 0, capsys.readouterr().err
    outer = "--data.init_args.problems.init_args" if file == "pairs.jsonl" else "--data.init_args"
    assert run("mine.yaml", f"{outer}.max_test", "1") == 0, capsys.readouterr().err


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "own.yaml").write_text("mine")
    assert init("own.jsonl") == 2
    assert "own.yaml exists" in capsys.readouterr().err and (folder / "own.yaml").read_text() == "mine"
    assert init("own.jsonl", "--force") == 0 and (folder / "own.yaml").read_text() != "mine"


def test_defaults_follow_the_file(folder: Path) -> None:
    write(
        folder / "free.jsonl",
        [{"input": f"Line {n} of a song, please.", "output": "Grey waves roll and break"} for n in range(9)],
    )
    write(folder / "labels.jsonl", [{"prompt": ask, "completion": "a b c", "label": True} for ask, _ in QUESTIONS[:6]]
          + [{"prompt": ask, "completion": "a b", "label": False} for ask, _ in QUESTIONS[6:]])  # fmt: skip
    for file, method in (("solved", "vargrad"), ("pairs", "dpo"), ("labels", "kto"), ("free", "sft")):
        assert init(f"{file}.jsonl") == 0
        assert yaml.safe_load((folder / f"{file}.yaml").read_text())["model"]["init_args"]["method"] == method, file


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere.jsonl",), "nowhere.jsonl does not exist"),
        (
            ("own.jsonl", "--columns", "answer=golden"),
            "there is no column 'golden': the rows have 'task', 'gold', 'level'",
        ),
        (("own.jsonl", "--columns", "golden"), "--columns golden: expected FIELD=COLUMN"),
        (("own.jsonl", "--method", "sft"), "--method sft trains on solutions, and the file has none"),
        (("own.jsonl", "--method", "sft"), "(columns here: 'task', 'gold', 'level')"),
        (("german.csv",), "no answer was found: name its column (--columns answer=COLUMN)"),
        (("german.csv",), "(columns here: 'Place', 'Question', 'Facit')"),
        (("own.jsonl", "--method", "dpo"), "lightning-gfn pairs makes them of samples"),
        (("pairs.jsonl", "--method", "grpo"), "the file holds preferences: --method dpo or kto"),
        (("x.lean",), "lightning-gfn prove MODEL --file x.lean tries its theorems"),
        (("broken.jsonl",), "broken.jsonl:1: not a line of JSON"),
    ],
)
def test_errors_are_one_line(
    folder: Path, args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.lean").write_text("theorem a : True := trivial")
    (folder / "broken.jsonl").write_text("{")
    rows = [f"{n};What, then, is the colour of plum number {n}?;a dark blue" for n in range(7, 12)]
    (folder / "german.csv").write_text("\n".join(["Place;Question;Facit", *rows]))
    assert init(*args) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("lightning-gfn init: ") and len(error.splitlines()) == 1
    assert not list(folder.glob("*.yaml"))


def test_rows_that_cannot_be_read_are_counted(folder: Path) -> None:
    rows = [{"question": ask, "answer": right} for ask, right in QUESTIONS] + [{"question": "", "answer": "3"}]
    write(folder / "some.jsonl", rows)
    assert init("some.jsonl") == 0
    text = (folder / "some.yaml").read_text()
    assert yaml.safe_load(text)["data"]["init_args"]["on_bad_row"] == "skip"
    assert "1 rows cannot be used; the first: some.jsonl:13: field 'question'" in text


def theorem_rows() -> list[dict[str, Any]]:
    return [{"name": f"t{n}", "statement": f"(n : Nat) : n + {n} = n + {n}", "proof": "by rfl"} for n in range(10)]


def test_theorems(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_gfn.environments.embedded.EmbeddedLean.unavailable", lambda: "not installed")
    write(folder / "theorems.jsonl", theorem_rows())
    assert init("theorems.jsonl") == 0
    text = (folder / "theorems.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)
    assert (
        written["data"]["class_path"] == "datamodules.lean_text.LeanText" and "proving" in written["model"]["init_args"]
    )
    assert "not known to be a prover" in " ".join(text.replace("#", "").split())


@pytest.mark.lean
def test_theorems_are_shown_as_lean_states_them(folder: Path) -> None:
    write(folder / "theorems.jsonl", theorem_rows())
    assert init("theorems.jsonl") == 0
    text = (folder / "theorems.yaml").read_text(encoding="utf-8")
    assert "│ <bos>n : Nat" in text and "│ ⊢ n + " in text and "Lean accepts the known proof of" in text


def facts(parameters: int) -> ModelFacts:
    return ModelFacts(None, "x.CausalLM", None, None, parameters, 30, 576, 49152)  # type: ignore[arg-type]


def test_sizes_follow_memory_and_model() -> None:
    lengths = Lengths(160, 304, "", "")
    cpu, gpu = Device("cpu", "a processor", 20 * GIB, 2), Device("cuda", "a GPU", 80 * GIB, 16)
    small = fitting_sizes(facts(130_000), cpu, lengths, 1000, samples=True, speed=1e11)
    middle = fitting_sizes(facts(135_000_000), cpu, lengths, 1000, samples=True, speed=1e11)
    large = fitting_sizes(facts(8_000_000_000), gpu, lengths, 1000, samples=True, speed=None)
    assert (small.lora, middle.lora, large.lora) == (False, False, True)
    assert small.batch_size * small.num_samples > middle.batch_size * middle.num_samples >= 2
    assert 5 <= middle.max_steps < small.max_steps == 200 and large.seconds is None
    tight = Device("cpu", "a processor", 5 * GIB, 2)
    little = fitting_sizes(facts(135_000_000), tight, lengths, 1000, samples=True, speed=1e11)
    assert little.batch_size * little.num_samples < 8 and "fit" in little.note
    assert fitting_sizes(facts(1000), cpu, lengths, 3, samples=False, speed=1e11).batch_size == 3


@pytest.mark.parametrize(
    ("parameters", "kind", "has_bfloat16", "precision"),
    [
        (135_000_000, "cpu", True, "bf16-mixed"),
        (135_000_000, "cpu", False, "32-true"),
        (130_000, "cpu", True, "32-true"),
        (135_000_000, "cuda", True, "32-true"),
    ],
)
def test_whole_training_is_in_bfloat16_where_the_processor_is_fast_at_it(
    parameters: int, kind: str, has_bfloat16: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_gfn.policies.numerics.processor.cpu_has_bfloat16", lambda: has_bfloat16)
    device, lengths = Device(kind, "a machine", 20 * GIB, 2), Lengths(160, 304, "", "")
    model = facts(parameters)
    sizes = fitting_sizes(model, device, lengths, 1000, samples=True, speed=1e11)
    assert not sizes.lora and str(getattr(found := precision_of(device, model, sizes), "value", found)) == precision


def test_quantiles_are_values_that_occur() -> None:
    assert [quantile([5, 1, 3, 2], share) for share in (0.25, 0.5, 0.51, 1.0)] == [1, 2, 3, 5]


def test_what_is_written_is_what_is_meant() -> None:
    values: dict[str, Any] = {
        "word": "auto", "chat": "on", "number": 5e-6, "text": 'a: "b"\nc', "none": None, "path": "a b/c.jsonl",
        "list": [{"a": "x"}, {"b": {"c": 1}}], "plain": ["<|im_end|>", 3],
        "nested": {"deep": {"key": "v" * 90, "z": {}}},
    }  # fmt: skip
    noted = {**values, "number": Noted(5e-6, "a remark " * 30 + "\x1b[31m\x85end")}
    lines = to_yaml(noted)
    assert yaml.safe_load("\n".join(lines)) == values
    assert sum(line.startswith("#") for line in lines) >= 3 and "\x1b" not in "".join(lines)
