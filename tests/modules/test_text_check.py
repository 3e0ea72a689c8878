"""Overlong prompts and targets are found before the first step, in every split; chat is told from plain prompts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import chat_tokenizers as KIT
import pytest
import torch

from datamodules.files.problem_file import ProblemFile
from datamodules.preference import PreferenceDataModule
from datamodules.step_labels import OutcomeRows
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.modules.text_check import MISMATCH, check_texts
from lightning_gfn.objectives.preference import DPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.prompt_lengths import MARGIN, PromptLengths, cut_prompt
from lightning_gfn.policies.text.tokenizers import TextCodec
from lightning_gfn.prompts.chat import ChatPrompt, Message
from lightning_gfn.rewards.function import FunctionReward

LONG = "abcabcabcabc"
LIMIT = 8


def rows_in(folder: Path, **splits: list[tuple[str, str]]) -> str:
    """Files of (question, solution) rows."""
    for split, rows in splits.items():
        lines = (json.dumps({"question": q, "solution": s, "answer": "a"}) + "\n" for q, s in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return str(folder)


def data_of(folder: Path, **splits: list[tuple[str, str]]) -> ProblemFile:
    good = [("a", "b"), ("b", "a"), ("c", "d")]
    path = rows_in(folder, **{"train": good, "val": good, "test": good, **splits})
    return ProblemFile(path, prompt_template="{question}", batch_size=2)


def module_of(kind: str, policy: Any) -> Any:
    if kind == "sft":
        return SFTModule(policy)
    reward = FunctionReward(lambda completions, **columns: [float(len(text)) for text in completions])
    return GFlowNetModule(policy, VarGrad(), reward, num_samples=2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sft", "gflownet"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_overlong_prompt_is_refused_before_the_first_step(
    kind: str, split: str, make_policy: Any, make_trainer: Any, tmp_path: Path
) -> None:
    data = data_of(tmp_path, **{split: [("a", "b"), (LONG, "b"), ("c", "d")]})
    module = module_of(kind, make_policy())
    trainer = make_trainer(max_steps=1)
    message = (
        rf"1 of 9 prompts are longer than max_prompt_tokens=8: {split} problem 'own/{split}/1' \(.*{split}\.jsonl:2\) "
        r"has 13 tokens in the prompt\. Raise the limit, or set overlong_prompts of the model to skip"
    )
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, datamodule=data)
    assert trainer.global_step == 0


@pytest.mark.filterwarnings("ignore:You:", "ignore:The :", "ignore:.*num_workers")
@pytest.mark.parametrize("kind", ["sft", "gflownet"])
def test_skipped_and_counted(kind: str, make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    rows = [("a", "b"), (LONG, "b"), ("c", "d"), (LONG, "a"), ("d", "a")]
    data = data_of(tmp_path, train=rows, test=rows)
    trainer = make_trainer(max_epochs=1, max_steps=-1)
    with pytest.warns(UserWarning, match=r"4 of 13 prompts .* are left out .*own/train/1.*own/train/3.*; and 1 more"):
        trainer.fit(module_of(kind, make_policy(overlong_prompts="skip")), datamodule=data)
    assert [problem.id for problem in data.problems("train")] == ["own/train/0", "own/train/2", "own/train/4"]
    assert len(data.problems("test")) == 3 and trainer.global_step == 2
    fresh = data_of(tmp_path)
    rows_in(tmp_path, train=[(LONG, "b"), (LONG + "d", "b")])
    with pytest.raises(ValueError, match=r"leaves no train problem"):
        make_trainer(max_steps=1).fit(module_of(kind, make_policy(overlong_prompts="skip")), datamodule=fresh)


@pytest.mark.filterwarnings("ignore:You:", "ignore:The :", "ignore:.*num_workers")
def test_truncated_on_the_left_behind_the_begin_token(make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    policy = make_policy(overlong_prompts="truncate")
    with pytest.warns(UserWarning, match=r"1 of 9 prompts .* lose their beginning"):
        make_trainer(max_steps=1).fit(
            SFTModule(policy), datamodule=data_of(tmp_path, train=[(LONG, "b"), ("a", "b")] * 1 + [("d", "a")])
        )
    ids = policy.encode_prompt(LONG)
    whole = policy.encode_context(LONG)
    assert ids == [whole[0], *whole[-7:]] and policy.encode_prompt("abc") == policy.encode_context("abc")
    assert cut_prompt([5, 6, 7], 2, None) == [6, 7] and cut_prompt([5, 6, 7], 1, 5) == [7]
    assert cut_prompt([5, 6, 7], 2, 5) == [5, 7] and cut_prompt([5, 6], 2, 5) == [5, 6]
    with pytest.raises(ValueError, match="overlong_prompts='cut' must be"):
        make_policy(overlong_prompts="cut")


@pytest.mark.filterwarnings("ignore:You:", "ignore:The :", "ignore:.*num_workers")
def test_targets_that_are_cut_are_counted(make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    data = data_of(tmp_path, train=[("a", "abcd"), ("b", "abcda"), ("c", "abcdab")])
    with pytest.warns(UserWarning, match=r"2 of 3 training targets .*max_new_tokens=4 \(the longest has 6\)"):
        make_trainer(max_steps=1).fit(SFTModule(make_policy()), datamodule=data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_trainer(max_steps=1).fit(module_of("gflownet", make_policy()), datamodule=data)
    assert not any("training targets" in str(warning.message) for warning in caught)


@pytest.mark.filterwarnings("ignore")
def test_preferences_and_judged_rows(make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": LONG, "chosen": "b", "rejected": "c"}]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "problems"
    folder.mkdir()
    data = PreferenceDataModule(data_of(folder), path=str(pairs))
    with pytest.raises(ValueError, match=r"train problem 'pair/1' \(.*pairs\.jsonl:2\) has 13 tokens"):
        make_trainer(max_steps=1).fit(PreferenceModule(make_policy(), DPO()), datamodule=data)
    data = PreferenceDataModule(data_of(folder), path=str(pairs))
    make_trainer(max_steps=1).fit(PreferenceModule(make_policy(overlong_prompts="skip"), DPO()), datamodule=data)
    assert [example.id for example in data.examples] == ["pair/0"]
    judged = tmp_path / "judged.jsonl"
    judged.write_text("".join(json.dumps({"prompt": "a", "completion": c, "label": True}) + "\n" for c in ("b", LONG)))
    config = make_policy().config_block
    for settings, error in (
        ({}, "outcome/train/1.* has 12 tokens in the completion"),
        ({"overlong_prompts": "skip"}, None),
    ):
        network = LanguageRewardNetwork(config=config, max_prompt_tokens=8, max_completion_tokens=6, **settings)
        data = OutcomeRows(str(judged), val_fraction=0, test_fraction=0)
        if error is not None:
            with pytest.raises(ValueError, match=error):
                make_trainer(max_steps=1).fit(RewardModelModule(network), datamodule=data)
        else:
            make_trainer(max_steps=1).fit(RewardModelModule(network), datamodule=data)
            assert len(data.problems("train")) == 1


def stand_in(tokenizer: Any, *prompts: str, **attributes: Any) -> tuple[Any, Any]:
    """A model with this tokenizer, and data with these prompts."""
    model = SimpleNamespace(
        codec=TextCodec(tokenizer), max_prompt_tokens=64, max_new_tokens=8, overlong_prompts="refuse"
    )
    texts = [("train", str(i), prompt, ()) for i, prompt in enumerate(prompts)]
    return model, SimpleNamespace(texts_of=lambda stage: texts, chat="auto", places={"0": "rows:1"}, **attributes)


def test_chat_models_and_base_models_are_told_from_the_prompts() -> None:
    chat, base = KIT.chat_tokenizer("smollm2"), KIT.chat_tokenizer("smollm2", template=False)
    messages, by_hand = ChatPrompt([Message("user", "a")]), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    for tokenizer, prompt, kind in ((chat, "a", "plain"), (base, messages, "conversations")):
        with pytest.warns(UserWarning) as caught:
            check_texts(*stand_in(tokenizer, prompt), "fit")
        assert [str(warning.message) for warning in caught] == [MISMATCH[kind]]
    for tokenizer, prompt in ((chat, messages), (chat, by_hand), (base, "a")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_texts(*stand_in(tokenizer, prompt), "fit")
    model, data = stand_in(chat, "a")
    data.chat = "off"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_texts(model, data, "fit")


def test_a_template_that_refuses_a_conversation_is_heard_before_training() -> None:
    prompts = [ChatPrompt([Message("user", "a")]), ChatPrompt([Message("system", "a"), Message("user", "b")])]
    with pytest.raises(ValueError, match=r"train problem '1': .*refuses a conversation of system, user"):
        check_texts(*stand_in(KIT.chat_tokenizer("gemma"), *prompts), "fit")


@pytest.mark.parametrize("family", KIT.FAMILIES)
def test_the_quick_look_at_bytes_never_overlooks_a_prompt(family: str) -> None:
    codec = TextCodec(KIT.chat_tokenizer(family))
    generator = torch.Generator().manual_seed(0)
    letters = "ab \n苹🍎<|im_end|>"
    prompts: list[str] = []
    for i in range(300):
        length = int(torch.randint(1, 60, (), generator=generator))
        text = "".join(letters[int(torch.randint(len(letters), (), generator=generator))] for _ in range(length)) + "."
        prompts.append(ChatPrompt([Message("user", text)] * (1 + i % 3 // 2)) if i % 2 else text)
    for limit in (4, 40, 90, 160):
        lengths = {i: len(codec.encode_prompt(prompt)) for i, prompt in enumerate(prompts)}
        assert PromptLengths(codec).overlong_prompts(prompts, limit) == {i: n for i, n in lengths.items() if n > limit}
    assert MARGIN < 40
