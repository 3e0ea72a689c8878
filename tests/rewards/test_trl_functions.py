"""Reward functions as TRL's users have them: conversations, abstentions, coroutines, beside TRL's rule written out."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import numpy
import pytest
import torch

from lightning_gfn.prompts.chat import ChatPrompt, Message
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.types import Problem

CHAT = ChatPrompt([Message("system", "Add."), Message("user", "Q0?")])
PROBLEMS = [Problem("p0", CHAT, answer="4", metadata={"level": 1}), Problem("p1", "Q1?", answer="5")]
TEXTS, OWNERS = ["ab", "abcd", "x"], [0, 1, 0]


@pytest.fixture
def rollouts(make_rollouts: Any) -> Any:
    return make_rollouts(PROBLEMS, TEXTS, OWNERS)


def by_content(completions: Any, **columns: Any) -> list[float]:
    """In the way of TRL's documentation for conversational data."""
    return [float(len(completion[0]["content"])) for completion in completions]


def test_conversations_are_handed_over_as_messages(rollouts: Any, policy: Any) -> None:
    seen: dict[str, Any] = {}

    def record(prompts: Any, completions: Any, completion_ids: Any, level: Any, **columns: Any) -> list[float]:
        seen.update(prompts=prompts, completions=completions, ids=completion_ids, level=level)
        return [0.0] * len(completions)

    FunctionReward(record).terms(rollouts, policy, prefixes=False)
    assert seen["prompts"] == [CHAT.dicts(), "Q1?", CHAT.dicts()]
    said = [[{"role": "assistant", "content": text}] for text in TEXTS]
    assert seen["completions"] == [said[0], "abcd", said[2]]
    assert seen["ids"] == rollouts.action_lists() and seen["level"] == [1, None, 1]
    FunctionReward(record, texts=True).terms(rollouts, policy, prefixes=False)
    assert seen["completions"] == TEXTS and seen["prompts"] == [str(CHAT), "Q1?", str(CHAT)]


def test_prefixes_of_a_conversation_are_messages_too(make_rollouts: Any, policy: Any) -> None:
    rollouts = make_rollouts(PROBLEMS[:1], ["ab"])
    terms, _ = FunctionReward(by_content, prefixes=True).terms(rollouts, policy, prefixes=True)
    assert terms["by_content"].tolist() == [[0.0, 1.0, 2.0]]


def trl_rule(values: list[list[float | None]], weights: list[float]) -> list[float]:
    """Weighted sum over the functions that have an opinion on the completion, 0 where none has."""
    rows = []
    for row in zip(*values, strict=True):
        total = 0.0
        for value, weight in zip(row, weights, strict=True):
            if value is not None and not math.isnan(value):
                total += weight * value
        rows.append(total)
    return rows


def total(rollouts: Any, policy: Any, values: list[Any], weights: list[float]) -> list[float]:
    def constant(result: Any) -> FunctionReward:
        return FunctionReward(lambda completions, **columns: result)

    parts = zip(values, weights, strict=True)
    reward = SumReward({f"f{i}": WeightedReward(constant(v), weight=w) for i, (v, w) in enumerate(parts)})
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    return reward.combine(terms, rollouts, 0).terminal_B.tolist()


ABSTENTIONS: list[tuple[list[list[float | None]], list[float]]] = [
    ([[1.0, None, -2.0], [None, 3.0, 0.5]], [1.0, 1.0]),
    ([[1.0, None, None], [0.25, None, 4.0]], [2.0, -0.5]),
    ([[None, 2.0, None]], [3.0]),
]


@pytest.mark.parametrize(("values", "weights"), ABSTENTIONS)
def test_abstentions_are_left_out_of_the_sum(values: Any, weights: list[float], rollouts: Any, policy: Any) -> None:
    assert total(rollouts, policy, values, weights) == pytest.approx(trl_rule(values, weights))


@pytest.mark.parametrize(("values", "weights"), ABSTENTIONS)
def test_the_rule_is_that_of_trl_s_trainer(values: Any, weights: list[float], rollouts: Any, policy: Any) -> None:
    """Beside the lines of TRL's trainer, where it is installed: the sum that it takes over its functions."""
    pytest.importorskip("trl")
    import inspect

    from trl import GRPOTrainer

    assert "nansum" in inspect.getsource(GRPOTrainer), "TRL no longer sums over those that are no abstentions"
    rewards = torch.tensor([[math.nan if v is None else v for v in row] for row in zip(*values, strict=True)])
    theirs = (rewards * torch.tensor(weights)).nansum(dim=1)
    assert total(rollouts, policy, values, weights) == pytest.approx(theirs.tolist())


def test_a_function_without_any_opinion_is_named_once(rollouts: Any, policy: Any) -> None:
    reward = FunctionReward(lambda completions, **columns: [None] * len(completions))
    with pytest.warns(UserWarning, match=r"abstained on all 3 completions, which adds 0 to each"):
        terms, _ = reward.terms(rollouts, policy, prefixes=False)
    assert next(iter(terms.values())).tolist() == [0.0, 0.0, 0.0]


class Judge:
    """A callable class with a coroutine."""

    async def __call__(self, completions: list[Any], **columns: Any) -> Any:
        await asyncio.sleep(0)
        return numpy.arange(len(completions))


async def lengths(completions: list[Any], **columns: Any) -> list[float | None]:
    async def one(completion: Any) -> float | None:
        await asyncio.sleep(0.001)
        return None if isinstance(completion, str) else float(len(completion[0]["content"]))

    return list(await asyncio.gather(*map(one, completions)))


def test_coroutines_are_awaited(rollouts: Any, policy: Any) -> None:
    assert FunctionReward(lengths).terms(rollouts, policy, prefixes=False)[0]["lengths"].tolist() == [2.0, 0.0, 1.0]
    judge = FunctionReward(Judge)
    assert judge.terms(rollouts, policy, prefixes=False)[0]["Judge"].tolist() == [0.0, 1.0, 2.0]

    async def inside_a_loop() -> list[float]:
        terms, _ = FunctionReward(lengths).terms(rollouts, policy, prefixes=False)
        return terms["lengths"].tolist()

    assert asyncio.run(inside_a_loop()) == [2.0, 0.0, 1.0]


def test_coroutines_of_a_sum_wait_together(rollouts: Any, policy: Any) -> None:
    """Each waits for all to have begun, which one after the other would never end."""
    running = 0

    def waiter(name: str) -> FunctionReward:
        async def wait(completions: list[Any], **columns: Any) -> list[float]:
            nonlocal running
            running += 1
            deadline = time.monotonic() + 20
            while running < 3:
                assert time.monotonic() < deadline, "the others were never begun"
                await asyncio.sleep(0.001)
            return [1.0] * len(completions)

        return FunctionReward(wait)

    reward = SumReward({name: WeightedReward(waiter(name)) for name in "abc"})
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    assert reward.combine(terms, rollouts, 0).terminal_B.tolist() == [3.0, 3.0, 3.0]


def test_faults_of_a_coroutine_are_its_own(rollouts: Any, policy: Any) -> None:
    async def broken(completions: list[Any], **columns: Any) -> list[float]:
        raise ZeroDivisionError("mine")

    async def short(completions: list[Any], **columns: Any) -> list[float]:
        return [1.0]

    with pytest.raises(ZeroDivisionError, match="mine"):
        FunctionReward(broken).terms(rollouts, policy, prefixes=False)
    with pytest.raises(ValueError, match="'short' returned 1 values for 3 completions"):
        FunctionReward(short).terms(rollouts, policy, prefixes=False)
