"""``null`` means none at every depth of the command line, and is refused where no null is possible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning import LightningModule

from lightning_gfn.lightning_cli.parser import Parser
from lightning_gfn.lightning_cli.trainer import RunTrainer
from lightning_gfn.tracking.checkpoints import RunCheckpoint
from lightning_gfn.tracking.mlflow_logger import MLflowLogger

HERE = Path(__file__).parent
CONFIG = """
model:
  class_path: null_kinds.KindsModule
  init_args:
    numbers: [1.0]
    table: {a: 1.0, b: 2.0}
    lists: {a: [1]}
    implicit: 3
    settings: {rate: 0.5, inner: {depth: 2, names: [x]}, fixed: {depth: 1}}
    part:
      class_path: null_kinds.Part
      init_args:
        settings: {rate: 0.1, inner: {depth: 1}}
        below:
          class_path: null_kinds.Part
          init_args: {size: 2, settings: {rate: 0.2, fixed: {depth: 2}}, numbers: [1.0]}
    parts: [{class_path: null_kinds.Part}, {class_path: null_kinds.Part, init_args: {size: 3}}]
    named_parts: {a: {class_path: null_kinds.Part}, b: {class_path: null_kinds.Part}}
"""
AROUND = """
trainer:
  max_time: "00:00:01:00"
  gradient_clip_val: 1.0
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: x, version: 3}}
  callbacks: [{class_path: lightning_gfn.callbacks.Evaluation, init_args: {ks: [1], majority_ks: [1]}}]
checkpoint: {monitor: val/loss}
mlflow: {tags: {a: b}, tracking_uri: there, run_name: name}
"""
BELOW = "part.init_args.below.init_args"
OF_THE_MODEL = [
    # option, its value, where the null is to be found; the option stands behind --model.
    *[(key, "null", key) for key in ("flag", "text", "choice", "colour", "place", "either", "anything", "implicit")],
    ("init_args.flag", "null", "flag"),
    ("numbers", "null", "numbers"),
    ("numbers", "[1, null]", "numbers.1"),
    ("numbers+", "null", "numbers.1"),
    ("init_args.numbers+", "null", "numbers.1"),
    ("pair", "[null, 2]", "pair.0"),
    ("table", "null", "table"),
    ("table", "{c: null}", "table.c"),
    ("table.a", "null", "table.a"),
    ("lists", "{a: [null]}", "lists.a.0"),
    ("settings", "null", "settings"),
    ("settings", "{inner: {depth: null}}", "settings.inner.depth"),
    ("settings.rate", "null", "settings.rate"),
    ("settings.inner", "null", "settings.inner"),
    ("settings.inner.depth", "null", "settings.inner.depth"),
    ("settings.inner.names", "[null]", "settings.inner.names.0"),
    ("settings.inner.names+", "null", "settings.inner.names.1"),
    ("part", "null", "part"),
    ("part", "{class_path: null_kinds.Part, init_args: {size: null}}", "part.init_args.size"),
    ("part.word", "null", "part.init_args.word"),
    ("part.settings", "null", "part.init_args.settings"),
    ("part.settings.inner.depth", "null", "part.init_args.settings.inner.depth"),
    ("part.below", "null", "part.init_args.below"),
    ("part.below.size", "null", f"{BELOW}.size"),
    ("part.below.settings.fixed.depth", "null", f"{BELOW}.settings.fixed.depth"),
    ("part.below.numbers", "[null]", f"{BELOW}.numbers.0"),
    ("part.below.numbers+", "null", f"{BELOW}.numbers.1"),
    (f"init_args.{BELOW}.settings.rate", "null", f"{BELOW}.settings.rate"),
    (f"init_args.{BELOW}.settings", "{rate: null}", f"{BELOW}.settings.rate"),
    ("parts", "null", "parts"),
    ("parts", "[null]", "parts.0"),
    ("parts+", "null", "parts.2"),
    ("parts.size", "null", "parts.1.init_args.size"),
    ("parts.init_args.settings", "null", "parts.1.init_args.settings"),
    ("named_parts", "null", "named_parts"),
    ("named_parts", "{a: null}", "named_parts.a"),
    ("named_parts.a", "null", "named_parts.a"),
    ("named_parts.a.size", "null", "named_parts.a.init_args.size"),
]
AROUND_IT = [
    *[(f"trainer.{key}", f"trainer.{key}") for key in ("max_time", "gradient_clip_val", "logger", "callbacks")],
    ("trainer.logger.version", "trainer.logger.init_args.version"),
    ("trainer.callbacks.ks", "trainer.callbacks.0.init_args.ks"),
    ("trainer.callbacks.init_args.majority_ks", "trainer.callbacks.0.init_args.majority_ks"),
    ("checkpoint.monitor", "checkpoint.monitor"),
    *[(f"mlflow.{key}", f"mlflow.{key}") for key in ("tags", "tracking_uri", "run_name")],
]
NO_NULL = [
    ("lr", "null"),
    ("init_args.lr", "null"),
    ("method", "null"),
    ("settings.fixed.width", "null"),
    ("settings.fixed", "null"),
    ("settings", "{fixed: {width: null}}"),
    ("part.below.settings.fixed.width", "null"),
    ("lists.a", "null"),
    ("", "null"),
]


@pytest.fixture(scope="module", autouse=True)
def standins_can_be_imported() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield


def parser_of(**classes: type) -> Parser:
    """A parser of whole classes and, as ``model``, of a subclass."""
    parser = Parser()
    for key, kind in classes.items():
        parser.add_lightning_class_args(kind, key, subclass_mode=key == "model")
    parser.add_argument("--config", action="config")
    return parser


@pytest.fixture(scope="module")
def of_model() -> Parser:
    return parser_of(model=LightningModule)


@pytest.fixture(scope="module")
def around() -> Parser:
    parser = parser_of(trainer=RunTrainer, checkpoint=RunCheckpoint)
    parser.add_class_arguments(MLflowLogger, "mlflow")
    return parser


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("configurations")
    for name, text in (("model.yaml", CONFIG), ("around.yaml", AROUND)):
        (folder / name).write_text(text)
    return str(folder / "model.yaml"), str(folder / "around.yaml")


def found(config: Any, path: str) -> Any:
    """A value within mappings and lists."""
    for part in path.split("."):
        config = config[int(part)] if part.isdigit() else config[part]
    return config


def words(option: str, value: str, equals: bool) -> list[str]:
    return [f"{option}={value}"] if equals else [option, value]


@pytest.mark.parametrize(("option", "value", "path"), OF_THE_MODEL, ids=lambda value: str(value))
def test_null_in_the_arguments_of_a_class(
    of_model: Parser, files: tuple[str, str], option: str, value: str, path: str
) -> None:
    equals = OF_THE_MODEL.index((option, value, path)) % 2 == 0
    config = of_model.parse_args(["--config", files[0], *words(f"--model.{option}", value, equals)])
    assert found(config.model.init_args, path) is None
    parent, _, last = path.rpartition(".")
    if option.endswith("+"):
        kept = found(of_model.parse_args(["--config", files[0]]).model.init_args, parent)
        assert found(config.model.init_args, parent)[: int(last)] == kept, "what the list held stays"


@pytest.mark.parametrize(("option", "path"), AROUND_IT)
def test_null_of_trainer_checkpoints_and_mlflow(around: Parser, files: tuple[str, str], option: str, path: str) -> None:
    assert found(around.parse_args(["--config", files[1]]), path) is not None
    equals = AROUND_IT.index((option, path)) % 2 == 0
    config = around.parse_args(["--config", files[1], *words(f"--{option}", "null", equals)])
    assert found(config, path) is None


@pytest.mark.parametrize(("option", "value"), NO_NULL)
def test_null_is_refused_where_it_means_nothing(
    of_model: Parser, files: tuple[str, str], capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    key = f"--model.{option}" if option else "--model"
    with pytest.raises(SystemExit):
        of_model.parse_args(["--config", files[0], key, value])
    said = capsys.readouterr().err
    assert ("width" if "width" in value else option.rpartition(".")[2]) in said and "Traceback" not in said


@pytest.mark.parametrize("option", ["mlflow.experiment_name", "trainer.accelerator", "trainer.callbacks+"])
def test_null_becomes_no_text_and_no_element(
    around: Parser, files: tuple[str, str], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    for equals in (False, True):
        with pytest.raises(SystemExit):
            around.parse_args(["--config", files[1], *words(f"--{option}", "null", equals)])
        assert option.removesuffix("+") in capsys.readouterr().err


def test_a_file_with_a_null_that_is_not_possible_is_refused(
    of_model: Parser, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.yaml").write_text("model: {init_args: {lr: null}}\n")
    with pytest.raises(SystemExit):
        of_model.parse_args(["--config", files[0], "--config", str(tmp_path / "more.yaml")])
    assert "lr" in capsys.readouterr().err
    (tmp_path / "more.yaml").write_text("model: {init_args: {part: {init_args: {below: null}}, parts: null}}\n")
    config = of_model.parse_args(["--config", files[0], "--config", str(tmp_path / "more.yaml")])
    assert config.model.init_args.part.init_args.below is None and config.model.init_args.parts is None


NULLS = {
    "policy.init_args.lora": "null",
    "policy.init_args.pretrained": "null",
    "policy.init_args.tokenizer": "null",
    "policy.init_args.allowed_tokens": "null",
    "policy.init_args.lora.target_modules": "null",
    "evaluation.top_k": "null",
    "evaluation.fit_temperatures": "null",
    "evaluation": "null",
}


@pytest.mark.parametrize("equals", [False, True], ids=["two words", "one word"])
@pytest.mark.parametrize("key", NULLS)
def test_null_means_none_at_every_depth(tmp_path: Path, key: str, equals: bool) -> None:
    parser = Parser()
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    (tmp_path / "model.yaml").write_text(
        "class_path: lightning_gfn.modules.sft.SFTModule\n"
        "init_args:\n"
        "  policy:\n"
        "    class_path: lightning_gfn.policies.causal_lm.CausalLM\n"
        "    init_args:\n"
        "      pretrained: some/model\n"
        "      tokenizer: some/tokenizer\n"
        "      allowed_tokens: [a]\n"
        "      lora: {rank: 2, target_modules: [q_proj]}\n"
        "  evaluation: {top_k: 4, fit_temperatures: [1.0]}\n"
    )
    option = f"--model.init_args.{key}"
    arguments = [f"{option}=null"] if equals else [option, "null"]
    config = parser.parse_args(["--model", str(tmp_path / "model.yaml"), *arguments])
    found, path = config["model"], ["init_args", *key.split(".")]
    for part in path:
        found = found[part]
    assert found is None
    other = config["model.init_args.policy.init_args"]
    assert other["max_new_tokens"] == 256 and (key.endswith("pretrained") or other["pretrained"] == "some/model")


def test_a_null_inside_a_value_of_a_nested_class_stays_one() -> None:
    parser = Parser()
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    prefix = "--model.init_args.policy.init_args"
    config = parser.parse_args(
        [
            "--model", "lightning_gfn.modules.sft.SFTModule",
            "--model.init_args.policy", "lightning_gfn.policies.causal_lm.CausalLM",
            f"{prefix}.lora", "{rank: 3, target_modules: null}",
            f"{prefix}.config", "{model_type: llama, sliding_window: null, tie_word_embeddings: true}",
            f"{prefix}.end_tokens", "[Nones, '.']",
        ]
    )  # fmt: skip
    policy = config["model.init_args.policy.init_args"]
    assert policy["lora"]["rank"] == 3 and policy["lora"]["target_modules"] is None
    assert policy["config"]["sliding_window"] is None and policy["config"]["tie_word_embeddings"] is True
    assert policy["end_tokens"] == ["Nones", "."]
