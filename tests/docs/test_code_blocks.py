"""Every code block of the documentation is what it seems: commands parse, Python runs, YAML and JSON can be read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pages
import pytest
import yaml
from pages import DOCS, PAGES, ROOT, name_of, text_of

from lightning_gfn import cli

LANGUAGES = {"bash", "python", "yaml", "json", "lean", "text"}
TRAINER_OPTIONS = re.compile(r"--(?:config|run_dir|(?:model|data|trainer)(?:\.\S+)?)")
USUAL = {"--model.init_args.policy.init_args.pretrained", "--data.init_args.path"}
SHELL_LINES = sorted({line for path in PAGES for line in pages.commands(text_of(path))})
PYTHON = [
    pytest.param(body, id=f"{name_of(path)}-{number}")
    for path in DOCS
    for number, (language, body) in enumerate(pages.blocks(text_of(path)))
    if language == "python" and body not in pages.files(text_of(path)).values()
]


def run(command: str, *more: str) -> int:
    """Carry out a command line in this process; returns the exit status."""
    try:
        return cli.main([*shlex.split(command)[1:], *more])
    except SystemExit as stop:
        return int(stop.code or 0)


def as_run(line: str) -> str | None:
    """A command that hands settings on to the trainer, as ``run`` with these settings; None for others.

    ``govern`` reads files of its own.
    """
    words = shlex.split(line)
    if words[1] in cli.TRAINER_COMMANDS or words[1] == "govern" or "--config" not in words:
        return None
    settings = [f"{a} {b}" for a, b in zip(words, words[1:], strict=False) if TRAINER_OPTIONS.fullmatch(a)]
    return " ".join(["lightning-gfn run", *settings])


def signature(line: str) -> tuple[frozenset[str], frozenset[str]]:
    """What parsing a line can show: its files, and its options, with the values that name files."""
    words = shlex.split(line)
    pairs = list(zip(words, words[1:], strict=False))
    configs = frozenset(value for option, value in pairs if option == "--config")
    options = {option for option in words if option.startswith("--")} - {"--config", "--run_dir", "--ckpt_path"}
    return configs, frozenset(options | {value for value in words if value.endswith(".yaml")})


def parsed_once(lines: set[str]) -> list[str]:
    """Trainer lines without those that show nothing beside others, those of examples and those of no real file."""
    kept: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for line in sorted(lines, key=lambda line: (-len(signature(line)[0]), -len(signature(line)[1]), line)):
        configs, options = signature(line)
        if re.search(r"\bmine/|\bown\.yaml|\bRUN\b|\bFILE\b", line):
            continue
        if not any(configs <= others and options - USUAL <= more for others, more in kept.values()):
            kept[line] = (configs, options)
    return list(kept)


@pytest.mark.parametrize("path", DOCS, ids=name_of)
def test_blocks_name_their_language(path: Path) -> None:
    found = {language for language, _ in pages.blocks(text_of(path))}
    assert found <= LANGUAGES, f"{sorted(found - LANGUAGES)} of {path}"
    assert text_of(path).count("```") == 2 * len(pages.blocks(text_of(path))), "a fence is not closed as it was opened"


def test_data_blocks_can_be_read() -> None:
    read = 0
    for path in DOCS:
        for language, body in pages.blocks(text_of(path)):
            if language == "yaml":
                assert isinstance(yaml.safe_load(body), dict), path
            elif language == "json":
                assert all(isinstance(json.loads(line), dict) for line in body.splitlines()), path
            read += language in ("yaml", "json")
    assert read >= 6


@pytest.mark.parametrize("source", PYTHON)
def test_python_runs(source: str) -> None:
    exec(compile(source, "block", "exec"), {"__name__": "block"})


def test_there_are_python_blocks_for_every_family() -> None:
    families = {str(param.id).split("/")[-1].split(".")[0] for param in PYTHON}
    assert families >= {path.stem for path in (ROOT / "docs" / "objectives").glob("*.md")} - {"index"}


def test_a_wrong_equation_would_be_noticed() -> None:
    body = next(body for _, body in pages.blocks(text_of(ROOT / "docs" / "objectives" / "gflownet.md")))
    assert "log_z + log_q - log_reward" in body
    with pytest.raises(AssertionError):
        exec(body.replace("log_z + log_q - log_reward", "log_z - log_q - log_reward"), {})


def test_trainer_commands_are_understood(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every trainer command outside the examples parses against the classes that it configures."""
    monkeypatch.chdir(ROOT)
    found = {line for path in PAGES for line in pages.trainer_lines(text_of(path))}
    handed_on = {as_run(line) for line in SHELL_LINES if line.startswith("lightning-gfn ")} - {None}
    lines = parsed_once(found | {line for line in handed_on if line is not None})
    assert len(lines) >= 40
    for line in lines:
        assert run(line, "--print_config") == 0, f"{line}: {capsys.readouterr().err}"
        assert "class_path" in capsys.readouterr().out, line


def test_a_table_adds_its_files_to_the_last_command() -> None:
    page = "## A\n\n```\nlightning-gfn run --config experiments/a.yaml \\\n  --seed_everything 1\n```\n\n"
    page += "| result | file |\n|---|---|\n| b | [b](x/b.yaml) |\n\n## C\n\n| method | file |\n| d | [d](d.yaml) |\n"
    first, second = pages.trainer_lines(page)
    assert first == "lightning-gfn run --config experiments/a.yaml --seed_everything 1"
    assert second == "lightning-gfn run --config experiments/x/b.yaml --seed_everything 1"


def options_of(words: list[str]) -> set[str]:
    """The options of a command line that are the command's own."""
    return {word for word in words if word.startswith("--") and not TRAINER_OPTIONS.fullmatch(word)}


def test_other_commands_and_their_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line) for line in SHELL_LINES if line.startswith("lightning-gfn ")]
    others = [words for words in lines if words[1] not in cli.TRAINER_COMMANDS]
    assert len(others) >= 10 and {words[1] for words in others} <= set(cli.command_files())
    for words in others:
        parts = words[1:3] if words[1] in ("lean", "model") and not words[2].startswith("-") else words[1:2]
        assert run(shlex.join(["lightning-gfn", *parts, "--help"])) == 0, words
        described = capsys.readouterr().out
        assert {option for option in options_of(words) if option not in described} == set(), words


def test_commands_begin_with_a_program_that_the_reader_has() -> None:
    assert {line.split()[0] for line in SHELL_LINES} <= {"lightning-gfn", "make"}
    named = {word for line in SHELL_LINES for word in shlex.split(line) if word.startswith("experiments/")}
    assert len(named) >= 20
    assert {word for word in named if not (ROOT / word).exists()} == set()


def test_make_targets_exist() -> None:
    texts = "\n".join(text_of(path) for path in PAGES)
    targets = set(re.findall(r"(?:^ *|`)make ([a-z-]+)", texts, re.MULTILINE))
    makefile = text_of(ROOT / "Makefile")
    assert {"quickstart", "test", "mlflow", "docs"} <= targets
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
