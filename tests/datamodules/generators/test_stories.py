"""The distribution over stories: it sums to one, draws follow it, and posteriors are Bayes' rule on all of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from itertools import combinations
from random import Random

import pytest

from datamodules.generators.stories import StoryWorld
from datamodules.generators.story_words import MISHAPS, PEOPLE, PLACES, Place


def small_world(*mishaps: str) -> StoryWorld:
    """One or two people, two places and few things."""
    return StoryWorld(
        people={"Ben": "he", "Clara": "she"},
        places={"park": Place("gardener", ("kite", "ball")), "farm": Place("farmer", ("rope",))},
        mishaps={name: MISHAPS[name] for name in mishaps or MISHAPS},
    )


def test_probabilities_sum_to_one_everywhere() -> None:
    for name, mishap in MISHAPS.items():
        deeds = mishap.deeds.values()
        shares = [mishap.wordings, {deed: own.share for deed, own in mishap.deeds.items()}, *mishap.endings.values()]
        for part in (*shares, *(deed.wordings for deed in deeds), *(deed.outcomes for deed in deeds)):
            assert sum(part.values()) == pytest.approx(1.0) and min(part.values()) > 0.0, name
        assert {outcome for deed in deeds for outcome in deed.outcomes} == set(mishap.endings), name
    assert sum(p for _, p in small_world().enumerate()) == pytest.approx(1.0)
    assert len(PEOPLE) == 16 and sum(len(place.things) for place in PLACES.values()) == 40


def test_a_sentence_tells_its_deed_or_outcome() -> None:
    """Otherwise the posterior given the text would be another one than that given the latent variables."""
    for mishap in MISHAPS.values():
        deeds = [set(deed.wordings) for deed in mishap.deeds.values()]
        endings = [set(ending) for ending in mishap.endings.values()]
        assert all(not first & second for texts in (deeds, endings) for first, second in combinations(texts, 2))


def test_the_posterior_is_that_of_bayes_rule_over_all_stories() -> None:
    world = small_world()
    joint: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    evidence: dict[tuple[str, ...], float] = defaultdict(float)
    known: dict[tuple[str, ...], dict[str, float]] = {}
    for story, p in world.enumerate():
        told = (*story.sentences[:3], story.sentences[4])
        joint[told][story.sentences[3]] += p
        evidence[story.sentences[:3]] += p
        known[told] = world.posterior(story.scene, story.outcome)
    assert len(joint) > 500
    for told, weights in joint.items():
        log_z = math.log(sum(math.exp(weight) for weight in known[told].values()))
        found = {text: math.exp(weight - log_z) for text, weight in known[told].items()}
        assert found == pytest.approx({text: p / sum(weights.values()) for text, p in weights.items()}), told


def test_log_z_is_the_probability_of_the_outcome() -> None:
    world = small_world("stolen")
    outcomes: dict[str, float] = defaultdict(float)
    for story, p in world.enumerate():
        outcomes[story.outcome] += p
        found = world.posterior(story.scene, story.outcome)
    assert {name: sum(map(math.exp, world.posterior(story.scene, name).values())) for name in outcomes} == (
        pytest.approx(outcomes)
    )
    assert set(found) < set(world.continuations(story.scene))


def test_draws_follow_the_distribution() -> None:
    world, random = small_world("stuck"), Random(0)
    expected = Counter[tuple[str, str]]()
    for story, p in world.enumerate():
        expected[story.deed, story.outcome] += p  # type: ignore[assignment]
    drawn = Counter((story.deed, story.outcome) for story in (world.draw(random) for _ in range(20_000)))
    assert 0.5 * sum(abs(drawn[key] / 20_000 - p) for key, p in expected.items()) < 0.015
    first = world.draw(Random(3))
    assert first == world.draw(Random(3)) and all(text[0].isupper() and "{" not in text for text in first.sentences)
