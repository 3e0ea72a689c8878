"""Run folders that are broken in some way: each is refused by a line that names the file, and none is compared."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.commands.results.compare import main
from lightning_gfn.commands.results.reliability import main as reliability

ROWS, METRICS, BUDGET = "results/test_problems.jsonl", "results/test_metrics.json", "budget.json"
Break = Callable[[Path], None]


def whole_file(name: str, content: bytes) -> Break:
    """Put other bytes in the place of a file."""
    return lambda run: (run / name).write_bytes(content) and None


def edited(name: str, edit: Callable[[bytes], bytes]) -> Break:
    """Change the bytes of a file."""
    return lambda run: (run / name).write_bytes(edit((run / name).read_bytes())) and None


def field(path: str, value: Any) -> Break:
    """Set a field of the metrics file, or take it away (...)."""

    def change(run: Path) -> None:
        content = json.loads((run / METRICS).read_text())
        *parents, last = path.split(".")
        inner = content
        for name in parents:
            inner = inner[name]
        inner.pop(last) if value is ... else inner.update({last: value})
        (run / METRICS).write_text(json.dumps(content))

    return change


def row(**values: Any) -> Break:
    """Set fields of the third row, or take them away (...)."""

    def change(run: Path) -> None:
        lines = (run / ROWS).read_text().splitlines()
        content = json.loads(lines[2]) | values
        lines[2] = json.dumps({name: value for name, value in content.items() if value is not ...})
        (run / ROWS).write_text("\n".join(lines) + "\n")

    return change


def metric(value: Any) -> Break:
    return row(metrics={"solve_rate": value})


def lines(edit: Callable[[list[str]], list[str]]) -> Break:
    return lambda run: (run / ROWS).write_text("\n".join(edit((run / ROWS).read_text().splitlines())) + "\n") and None


def removed(name: str) -> Break:
    return lambda run: (run / name).unlink()


def made_folder(name: str) -> Break:
    def change(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b"  \n",
    "cut in two": lambda content: content[: len(content) // 2],
    "not UTF-8": lambda content: content.replace(b'"', b'\xff"', 1),
    "UTF-16": lambda content: content.decode().encode("utf-16"),
    "zeros": lambda content: bytes(len(content)),
    "nested deeply": lambda _: DEEP,
    "a list": lambda _: b"[1, 2]",
    "a text": lambda _: b"hello",
    "a huge number": lambda content: content.replace(b"{", b'{"n": ' + b"9" * 10_000 + b", ", 1),
    "NaN": lambda content: content.replace(b"{", b'{"n": NaN, ', 1),
    "a key twice": lambda content: content.replace(b"{", b'{"n": 1, "n": 2, ', 1),
}
FIELDS: dict[str, list[Any]] = {
    "method": [..., "", 5, None, "---", "a\nb", "\ud800x"],
    "problems": [..., [], "n4"],
    "problems.count": [..., "4", 5, -1, True],
    "decoding": [..., None, 1],
    "decoding.temperatures": [..., [], ["hot"], 1.0, [1.0, 1.0]],
    "decoding.num_samples": [..., 0, "8", 7.5],
    "metric_settings": [..., 3],
    "seed": ["zero", 1.5],
    "parameters": ["many"],
}
ROW_FIELDS: dict[str, list[Any]] = {
    "problem_id": [..., 7, None, ""],
    "temperature": [..., "1.0", 0.33, None],
    "metrics": [..., [], None],
    "num_samples": [0, "8", -8],
    "num_correct": [..., 9, -1, 2.5],
    "correct": ["yes", [True], [1] * 8],
    "completions": [["a"], 8],
}
VALUES: list[Any] = ["high", True, [], 10**400]
CASES: dict[str, Break] = {
    **{f"{name}: {kind}": edited(name, edit) for name in (ROWS, METRICS, BUDGET) for kind, edit in BYTES.items()},
    **{f"{name}: missing": removed(name) for name in (ROWS, METRICS)},
    **{f"{name}: a folder": made_folder(name) for name in (ROWS, METRICS, BUDGET)},
    **{f"{name} = {value!r}": field(name, value) for name, values in FIELDS.items() for value in values},
    **{f"row {name} = {value!r}": row(**{name: value}) for name, values in ROW_FIELDS.items() for value in values},
    **{f"metric = {str(value)[:9]}": metric(value) for value in VALUES},
    "rows: one twice": lines(lambda found: [*found, found[0]]),
    "rows: one less": lines(lambda found: found[:-1]),
    "rows: one problem less": lines(lambda found: [line for line in found if "p003" not in line]),
    "rows: a blank line": lines(lambda found: [*found[:2], "", *found[2:]]),
    "rows: two on a line": lines(lambda found: [found[0] + found[1], *found[2:]]),
    "rows: another problem": lines(lambda found: [line.replace("p003", "p999") for line in found]),
    "budget: negative": whole_file(BUDGET, b'{"generated_tokens": -1}'),
    "budget: infinite": whole_file(BUDGET, b'{"generated_tokens": 1e999}'),
    "other samples": field("decoding.num_samples", 4),
    "other thresholds": field("metric_settings.thresholds", [0.1]),
    "other problems": field("problems.fingerprint", "others"),
}


@pytest.fixture(scope="module")
def good(make_study: Callable[..., Path]) -> Path:
    methods = {"sft": (0.9, 1.6), "grpo": (2.4, 0.25)}
    return make_study(methods=methods, seeds=(0,), temperatures=(1.0, 0.6), num_problems=4)


def compared(study: Path, *more: str) -> int:
    runs = [str(study / "sft_seed0"), str(study / "grpo_seed0")]
    return main([*runs, "--output", str(study / "out"), "--no-figure", "--resamples", "200", *more])


def test_the_whole_folders_are_compared(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "study")
    assert compared(tmp_path / "study") == 0


@pytest.mark.parametrize("name", CASES)
def test_a_broken_run_is_refused_in_a_line(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    study = tmp_path / "study"
    shutil.copytree(good, study)
    CASES[name](study / "grpo_seed0")
    assert compared(study) == 1, "it must not be compared as if it were whole"
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "grpo_seed0" in said and len(said.splitlines()) <= 4
    assert len(said) < 1500 and "Traceback" not in said
    assert not (study / "out").exists()


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 84


def test_a_base_that_solves_nothing_is_compared(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study"
    shutil.copytree(good, study)
    path = study / "sft_seed0" / ROWS
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for found in rows:
        found |= {"num_correct": 0, "correct": [False] * 8}
        found["metrics"] = {
            name: None if name.endswith("_solved") or name == "self_bleu" else 0.0 for name in found["metrics"]
        }
    path.write_text("".join(json.dumps(found) + "\n" for found in rows))
    field("step", 0)(study / "sft_seed0")
    assert compared(study, "--baseline", "sft") == 0, capsys.readouterr().err
    page = (study / "out" / "comparison.md").read_text()
    assert "nan" not in page.lower() and "0.000 [0.000, 0.000]" in page
    assert "Not trained (evaluated at step 0, as configured): sft." in page
    assert "Not trained" in (study / "out" / "comparison.html").read_text()
    json.loads((study / "out" / "comparison.json").read_text())


def test_names_mean_themselves_in_markdown_and_html(good: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(good, study)
    field("method", "a|b <i>`*x*`</i> [l](u) _y_ my_name")(study / "grpo_seed0")
    assert compared(study) == 0
    page = (study / "out" / "comparison.md").read_text()
    assert r"a\|b &lt;i>\`\*x\*\`&lt;/i> \[l\](u) \_y\_ my_name" in page and "a|b" not in page
    table = page.split("\n\n")[1].splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(re.findall(r"\|", table[1]))}
    html = (study / "out" / "comparison.html").read_text()
    assert "<i>`*x*`" not in html and "a|b &lt;i&gt;" in html


@pytest.mark.parametrize("kind", BYTES)
def test_broken_results_of_a_reward_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    content = {"method": "m", "stage": "test", "metrics": {"num_labels": 3.0}, "bins": {"equal_width": []}}
    path = tmp_path / "results" / "test_reward_model.json"
    path.parent.mkdir()
    path.write_bytes(BYTES[kind](json.dumps(content).encode()))
    assert reliability([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "test_reward_model.json" in said and "Traceback" not in said
