"""The README's examples run, and its commands, links, class paths and paper ids are right."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_gfn import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def joined(text: str) -> str:
    """The text with every command on one line: a backslash ends the lines that go on."""
    return re.sub(r" \\\n +", " ", text)


FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", README, flags=re.DOTALL))
FENCES = re.findall(r"^```\w*\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
EXAMPLE = next(re.finditer(r"<!-- run -->\n```\n(.*?)```", README, flags=re.DOTALL)).group(1)
COMMANDS = [line for fence in FENCES for line in joined(fence).splitlines() if line.startswith("lightning-gfn ")]
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md"]
TRAINER_LINE = r"(?:^|`)(lightning-gfn (?:fit|validate|test|predict|run) --config [^`\n]+)"


def run(command: str, *more: str) -> int:
    """Carry out a line of the README in this process; returns the exit status."""
    try:
        return cli.main([*shlex.split(command)[1:], *more])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the README's files and the shared groups, as a reader would have it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "experiments" / "_base", tmp_path / "experiments" / "_base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_examples_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {Path(name).suffix for name in FILES} == {".py", ".yaml", ".jsonl"} and len(FILES) >= 8
    small = ("--trainer.logger", "false", "--trainer.log_every_n_steps", "1")
    sft, gflownet, predict = EXAMPLE.splitlines()
    assert run(sft, "--trainer.max_steps", "2", "--data.init_args.max_test", "4", *small) == 0, capsys.readouterr().err
    assert run(gflownet, "--trainer.max_steps", "2", *small) == 0, capsys.readouterr().err
    assert run(predict, *small) == 0, capsys.readouterr().err

    measured = json.loads(Path("runs/mine/sft/results/test_metrics.json").read_text())
    assert measured["problems"]["count"] == 4 and 0 <= measured["metrics"]["coverage"]["value"] <= 1
    steps = [json.loads(line) for line in Path("runs/mine/gflownet/metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in steps if "train/loss" in row]
    assert len(losses) == 2 and all("train/log_z_estimate" in row for row in steps if "train/loss" in row)
    assert Path("runs/mine/gflownet/model/adapter_config.json").is_file(), "LoRA leaves an adapter"
    predictions = Path("runs/mine/gflownet/predictions/predictions.jsonl").read_text().splitlines()
    assert len(predictions) == 8 and all(json.loads(row)["prompt"].startswith("Ida") for row in predictions)


def test_a_broken_example_is_noticed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "mine" / "gflownet.yaml"
    path.write_text(FILES["mine/gflownet.yaml"].replace("num_samples", "num_sampels"))
    assert run(f"lightning-gfn run --config {path}") != 0
    assert "num_sampels" in capsys.readouterr().err


def test_the_example_reward_tells_right_from_wrong(workspace: Path) -> None:
    reward = importlib.import_module("mine.reward").right_and_short
    texts = ["1 + 1 = 2\nThe answer is: 2", "The answer is: 3", "well, " * 12 + "The answer is: 2"]
    assert reward(completions=texts, answer=["2"] * 3, max_words=[9] * 3) == pytest.approx([5.0, 0.0, 5.0 - 0.1 * 7])


def test_the_example_objective_is_vargrad_near_zero(workspace: Path) -> None:
    import torch

    from lightning_gfn.objectives.vargrad import vargrad_loss

    log_pf_B = torch.tensor([0.1, 0.2, -0.3, 0.4])
    arguments = (log_pf_B, torch.zeros(4), torch.tensor([0, 0, 1, 1]))
    huber_loss = importlib.import_module("mine.huber").huber_vargrad_loss
    assert torch.allclose(huber_loss(*arguments, delta=10.0).loss, vargrad_loss(*arguments).loss / 2)
    assert huber_loss(*arguments, delta=0.1).loss < huber_loss(*arguments, delta=10.0).loss


def trainer_lines(page: str) -> Iterator[str]:
    """Every trainer command of a page; below a heading, a table's files take the place of the last command's file."""
    for section in re.split(r"^##", joined(page), flags=re.MULTILINE):
        lines = re.findall(TRAINER_LINE, section, re.MULTILINE)
        yield from lines
        rows = [row for row in section.splitlines() if row.startswith("|")]
        for file in re.findall(r"\]\(([^)]+\.yaml)\)", "\n".join(rows)) if "| result | file |" in section else []:
            yield re.sub(r"--config \S+", f"--config experiments/{file}", lines[-1], count=1)


def test_a_table_adds_its_files_to_the_last_command() -> None:
    page = "## A\n\n```\nlightning-gfn run --config experiments/a.yaml \\\n  --seed_everything 1\n```\n\n"
    page += "| result | file |\n|---|---|\n| b | [b](x/b.yaml) |\n\n## C\n\n| method | file |\n| d | [d](d.yaml) |\n"
    first, second = trainer_lines(page)
    assert first == "lightning-gfn run --config experiments/a.yaml --seed_everything 1"
    assert second == "lightning-gfn run --config experiments/x/b.yaml --seed_everything 1"


def test_commands_are_understood(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every trainer command outside the example parses against the classes that it configures."""
    monkeypatch.chdir(ROOT)
    found = {line for path in PAGES for line in trainer_lines(path.read_text(encoding="utf-8"))}
    lines = {line for line in found if "mine/" not in line}
    assert len(lines) >= 40
    for line in sorted(lines):
        assert run(line, "--print_config") == 0, f"{line}: {capsys.readouterr().err}"
        assert "class_path" in capsys.readouterr().out, line


def test_other_commands_exist() -> None:
    from lightning_gfn.commands.compare import build_parser

    compare = [shlex.split(line)[2:] for line in COMMANDS if line.startswith("lightning-gfn compare")]
    assert compare and all(build_parser().parse_args(arguments).runs for arguments in compare)
    assert {shlex.split(line)[1] for line in COMMANDS} <= {*cli.TRAINER_COMMANDS, *cli.command_files()}
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert {"quickstart", "test", "mlflow"} <= targets
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def definitions(text: str) -> dict[str, str]:
    """Name → target of the reference links of a page."""
    return dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_linked_files_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = definitions(text)
    assert set(re.findall(r"\[([^\]\n]+\.py|\d+\.\d+|\w+/\w+)\](?![(:\]])", prose(text))) <= set(named)
    links = {link for link in [*re.findall(r"\]\(([^)#]+)\)", text), *named.values()] if "://" not in link}
    assert len(links) >= 5
    filled = re.search(r"<!-- quickstart table -->\n\s*\S.*<!-- /quickstart table -->", README, re.DOTALL)
    if filled is None:
        links.discard("docs/quickstart.png")
    assert {link for link in links if not (path.parent / link).exists()} == set()


def test_every_experiment_has_a_row() -> None:
    listed = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    files = sorted((ROOT / "experiments").rglob("*.yaml"))
    assert len(files) >= 16
    assert [path.name for path in files if f"]({path.relative_to(ROOT / 'experiments')})" not in listed] == []


def test_class_paths_and_paper_ids_are_those_of_the_code() -> None:
    names = set(re.findall(r"\b(?:lightning_gfn|datamodules)(?:\.[a-z_0-9]+)+\.[A-Z]\w+", README))
    assert len(names) >= 8
    for name in names:
        module, _, member = name.rpartition(".")
        assert hasattr(importlib.import_module(module), member), name
    named = definitions(README)
    rows = [row for row in README.splitlines() if row.startswith("|") and re.search(r"\[\w+\.py\] \| (?:\[|$)", row)]
    assert len(rows) == 25
    for row in rows:
        file, papers = re.search(r"\[(\w+\.py)\]", row)[1], re.findall(r"\[(\d+\.\d+)\]", row)
        assert named[file] == f"lightning_gfn/objectives/{file}", row
        assert all(named[paper] == f"https://arxiv.org/abs/{paper}" for paper in papers), row
        source = (ROOT / named[file]).read_text(encoding="utf-8")
        assert all(paper in source for paper in papers), row


def test_the_map_of_contributing_names_what_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = re.search(r"!\[[^\]]+\]\((docs/\S+\.svg)\)", text)[1]
    drawn = re.findall(r'class="n">([a-z_/]+/)<', (ROOT / picture).read_text(encoding="utf-8"))
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| ")]
    assert len(rows) >= 25 and len(drawn) >= 15
    homes = (ROOT / "lightning_gfn", ROOT)
    for folder in drawn:
        assert any((home / folder).is_dir() for home in homes), f"{picture} names {folder}"
    for what, folder, files in rows[1:]:
        place = next(home / folder.strip("`…/").rstrip("/") for home in homes if (home / folder.strip("`…/")).is_dir())
        for name in re.findall(r"`([\w/]+)`", files):
            found = any((place / f"{name}{ending}").exists() for ending in ("", ".py", ".yaml"))
            assert found or (ROOT / name).is_dir(), f"{what}: {folder} has no {name}"
