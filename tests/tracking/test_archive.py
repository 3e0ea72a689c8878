"""Archives of results: what is kept, that a study goes on from one, and that nothing on disk is overwritten."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.tracking.archive import ArchiveError, pack, unpack


def run_folder(folder: Path, value: float = 0.5, *, ended: bool = True) -> Path:
    for name, text in {
        "run.json": '{"run_key": "k", "mlflow": {"tracking_uri": "sqlite:////mine/mlflow.db"}}',
        "config.yaml": "a: 1\n",
        "metrics.jsonl": '{"step": 1}\n',
        "metrics.csv": "step\n1\n",
        "results/test_metrics.json": json.dumps({"metrics": {"solve_rate": {"value": value}}}),
        "results/test_problems.jsonl": '{"problem_id": "a"}\n',
        "results/deeper/plot.json": "[]",
        "model/model.safetensors": "weights",
        "checkpoints/last.ckpt": "weights",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if ended:
        folder.with_name(f"{folder.name}.done.json").write_text('{"fingerprint": "f"}\n')
    return folder


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "numbers"
    run_folder(folder / "sft_seed0")
    run_folder(folder / "sft_seed1", 0.7)
    run_folder(folder / "ppo_seed0", ended=False)
    run_folder(folder / "search" / "sft.search0_seed7")
    (folder / "stages.json").write_text("{}")
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_results_of_ended_stages_are_kept_and_weights_are_not(study: Path, tmp_path: Path) -> None:
    runs, size = pack(study, tmp_path / "kept.tar.xz")
    assert (runs, size) == (3, (tmp_path / "kept.tar.xz").stat().st_size)
    done = unpack(tmp_path / "kept.tar.xz", tmp_path / "elsewhere")
    assert (done.folder, done.kept) == (tmp_path / "elsewhere/numbers", ())
    assert done.added == ("search/sft.search0_seed7", "sft_seed0", "sft_seed1")
    expected = {
        f"{run}{name}"
        for run in ("sft_seed0", "sft_seed1", "search/sft.search0_seed7")
        for name in (".done.json", "/run.json", "/config.yaml", "/metrics.jsonl", "/results/test_metrics.json",
                     "/results/test_problems.jsonl", "/results/deeper/plot.json")
    }  # fmt: skip
    assert names(done.folder) == expected | {"stages.json"}
    for name in expected:
        if name.endswith("run.json"):
            assert json.loads((done.folder / name).read_text()) == {"run_key": "k"}, (
                "no run of another machine's MLflow"
            )
        else:
            assert (done.folder / name).read_bytes() == (study / name).read_bytes()


def test_the_same_runs_give_the_same_bytes(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "first.tar.xz")
    for path in study.rglob("*"):
        path.touch()
    pack(study, tmp_path / "second.tar.xz")
    assert (tmp_path / "first.tar.xz").read_bytes() == (tmp_path / "second.tar.xz").read_bytes()


def test_runs_on_disk_are_left_as_they_are(study: Path, tmp_path: Path) -> None:
    pack(study, tmp_path / "kept.tar.xz")
    other = run_folder(tmp_path / "elsewhere/numbers/sft_seed1", 0.1)
    mine = tmp_path / "elsewhere/numbers/stages.json"
    mine.write_text('{"key": "mine"}')
    done = unpack(tmp_path / "kept.tar.xz", tmp_path / "elsewhere")
    assert (done.added, done.kept) == (("search/sft.search0_seed7", "sft_seed0"), ("sft_seed1",))
    assert "0.1" in (other / "results/test_metrics.json").read_text() and "mine" in mine.read_text()


def test_folders_without_a_study_keep_their_evaluated_runs(tmp_path: Path) -> None:
    run_folder(tmp_path / "mine/a", ended=False)
    run_folder(tmp_path / "mine/deeper/b", ended=False)
    assert pack(tmp_path / "mine", tmp_path / "kept.tar.xz")[0] == 2
    assert unpack(tmp_path / "kept.tar.xz", tmp_path / "new").added == ("a", "deeper/b")
    assert pack(tmp_path / "mine/a", tmp_path / "one.tar.xz")[0] == 1
    done = unpack(tmp_path / "one.tar.xz", tmp_path / "one")
    assert (done.folder / "results/test_metrics.json").is_file()


def test_what_is_no_archive_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="holds no run that has ended"):
        pack(tmp_path / "nowhere", tmp_path / "kept.tar.xz")
    pack(study, tmp_path / "kept.tar.xz")
    whole = (tmp_path / "kept.tar.xz").read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-40] + b"0" * 40):
        (tmp_path / "bad.tar.xz").write_bytes(damaged)
        with pytest.raises(ArchiveError, match="damaged"):
            unpack(tmp_path / "bad.tar.xz", tmp_path / "elsewhere")
    with tarfile.open(tmp_path / "evil.tar.xz", "w:xz") as archive:
        archive.add(study / "stages.json", "../evil/x")
    with pytest.raises(ArchiveError):
        unpack(tmp_path / "evil.tar.xz", tmp_path / "elsewhere")
    with tarfile.open(tmp_path / "two.tar.xz", "w:xz") as archive:
        archive.add(study / "stages.json", "a/x")
        archive.add(study / "stages.json", "b/x")
    with pytest.raises(ArchiveError, match="unpack it with tar"):
        unpack(tmp_path / "two.tar.xz", tmp_path / "elsewhere")
    assert not (tmp_path / "evil").exists()


def test_the_command(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kept.tar.xz"
    assert cli.main(["archive", "pack", str(study), "--output", str(file)]) == 0
    assert "3 runs" in capsys.readouterr().out
    assert cli.main(["archive", "unpack", str(file), "--output", str(tmp_path / "runs")]) == 0
    assert "0 runs added, 3 kept" in capsys.readouterr().out
    assert cli.main(["archive", "unpack", str(tmp_path / "none.tar.xz")]) == 2
    assert "none.tar.xz" in capsys.readouterr().err
