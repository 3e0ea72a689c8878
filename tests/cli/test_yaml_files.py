"""YAML files: each key once, aliases that stay small, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.installation.yaml_files import YamlFileError, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
BROKEN = {
    "an alias bomb": (BOMB, "line 5: its aliases stand for more than 100,000 values"),
    "a key twice": (
        "run_dir: a\ntrainer:\n  max_steps: 1\n  max_steps: 2\n",
        "line 4: key 'max_steps' stands in line 3",
    ),
    "a key twice at the top": ("run_dir: a\nrun_dir: b\n", "line 2: key 'run_dir' stands in line 1"),
    "an alias of itself": ("a: &a [1, *a]\n", "line 1: an alias stands for what it is part of"),
    "brackets": ("a: [1, 2\nb: 3\n", "line 2: not YAML"),
    "tabs": ("a:\n\tb: 1\n", "line 2: not YAML"),
    "an object of Python": ("a: !!python/object/apply:os.system [ls]\n", "line 1: not YAML"),
    "depth": ("[" * 2000 + "]" * 2000, "nested more than 100 levels deep"),
    "a date that is none": ("a: 2026-13-45\n", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2: not YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_yaml_is_refused_at_its_line(tmp_path: Path, name: str) -> None:
    text, words = BROKEN[name]
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(YamlFileError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}") and words in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", b"a: \xe9\n"])
def test_other_encodings_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlFileError, match=r"broken.yaml: not UTF-8"):
        read_yaml(path)


def test_anchors_and_merges_still_work(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("base: &base {lr: 1, steps: 2}\nfirst: {<<: *base, steps: 3}\nsecond: *base\n'1': a\n1: b\n")
    base = {"lr": 1, "steps": 2}
    assert read_yaml(path) == {"base": base, "first": {"lr": 1, "steps": 3}, "second": base, "1": "a", 1: "b"}
    path.write_text("")
    assert read_yaml(path) is None


def test_every_file_of_ours_is_read() -> None:
    files = sorted((Path(__file__).parents[2] / "experiments").rglob("*.yaml"))
    assert len(files) > 100 and all(read_yaml(path) for path in files)


@pytest.mark.parametrize("command", ["fit", "study"])
def test_commands_refuse_them_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inner.yaml").write_text("max_steps: 1\nmax_steps: 2\n")
    Path("outer.yaml").write_text("run_dir: run\ntrainer: inner.yaml\n")
    named = "outer.yaml" if command == "fit" else "inner.yaml"
    assert cli.main([command, *(["--config"] if command == "fit" else []), named]) == 2
    said = capsys.readouterr().err
    assert "inner.yaml, line 2: key 'max_steps' stands in line 1 already" in said and len(said.splitlines()) == 1
