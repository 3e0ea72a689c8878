"""The YAML files that the package carries: listed, shown, copied, and found from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.commands.configs import summary
from lightning_gfn.installation import experiments

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> int:
    return cli.main(["configs", *arguments])


def test_the_list_has_every_run_and_says_what_it_does(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    runs = [path for path in (ROOT / "experiments").rglob("*.yaml") if "_base" not in path.parts]
    assert len(runs) > 60 and all(f"  {path.name} " in text for path in runs)
    assert "GRPO without KL (Shao et al. 2024" in text and max(map(len, text.splitlines())) <= 120
    assert "small_model.yaml" not in text
    assert run("list", "lean", "--all") == 0 and "tb.yaml" in capsys.readouterr().out


def test_every_file_begins_with_a_sentence() -> None:
    assert [path for path in (ROOT / "experiments").rglob("*.yaml") if not summary(path)] == []


def test_summary_is_the_first_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# A method (X et al. 2024) on\n# tactics. More.\nkey: 1\n# later\n")
    assert summary(path) == "A method (X et al. 2024) on tactics"


def test_a_copy_runs_and_is_never_overwritten(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("copy", "math/vargrad", "mine") == 0
    copy = Path("mine/experiments/math/vargrad.yaml")
    assert copy.read_bytes() == (ROOT / "experiments/math/vargrad.yaml").read_bytes()
    assert Path("mine/experiments/_base/trainer/gpu.yaml").is_file()
    assert not Path("mine/experiments/math/sft.yaml").exists()
    copy.write_text("changed: 1\n")
    assert run("copy", "math/vargrad.yaml", "mine") == 2 and "--force" in capsys.readouterr().err
    assert copy.read_text() == "changed: 1\n"
    assert run("copy", "experiments/math/vargrad.yaml", "mine", "--force") == 0
    assert copy.read_text() != "changed: 1\n"


def test_show_prints_and_a_wrong_name_gets_the_nearest(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "math/vargrad.yaml") == 0
    assert capsys.readouterr().out == (ROOT / "experiments/math/vargrad.yaml").read_text()
    assert run("show", "math/vargrd.yaml") == 2 and "did you mean math/vargrad.yaml?" in capsys.readouterr().err
    assert run("show", "../setup.cfg") == 2


def test_a_command_finds_the_carried_file_and_says_so(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "experiments/studies/quickstart.yaml", "--dry_run"]) == 0
    said = capsys.readouterr()
    assert "from the package, not from here: experiments/studies/quickstart.yaml" in said.err and "sft@0" in said.out


def test_the_users_own_file_goes_first(elsewhere: Path) -> None:
    names = ["--config", "experiments/math/sft.yaml", "--config=experiments/math/rft.yaml", "experiments/none.yaml"]
    Path("experiments/math").mkdir(parents=True)
    Path("experiments/math/sft.yaml").touch()
    used, replaced = experiments.with_carried_files(names)
    carried = experiments.carried_experiments()
    assert used == [*names[:2], f"--config={carried / 'math' / 'rft.yaml'}", names[3]]
    assert replaced == ["experiments/math/rft.yaml"]
