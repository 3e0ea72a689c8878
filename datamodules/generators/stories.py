"""Stories of five sentences with a known structure: every probability, and with it every posterior, is exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random

from datamodules.generators.story_words import ARRIVALS, BRINGINGS, MISHAPS, PEOPLE, PLACES, Mishap, Place, Shares

Sentences = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Scene:
    """What the first three sentences tell.

    Args:
        name: of the person.
        place: where it happens.
        thing: what the person has along.
        mishap: what happens to the thing.
    """

    name: str
    place: str
    thing: str
    mishap: str


@dataclass(frozen=True)
class Story:
    """One story and its latent variables.

    Args:
        sentences: five; the fourth without the mark that ends it.
        scene: what the first three tell.
        deed: what the fourth tells.
        outcome: what the fifth tells.
    """

    sentences: Sentences
    scene: Scene
    deed: str
    outcome: str


@dataclass(frozen=True)
class StoryWorld:
    """A distribution over stories; scenes are uniform over people, places, things of the place and mishaps.

        p(s1..5) = p(scene) p(s1..3 | scene) Σ_d p(d | mishap) p(s4 | d) Σ_o p(o | d) p(s5 | o),   d deeds, o outcomes

    Within a mishap no sentence belongs to two deeds or two outcomes, so that a sentence tells its latent variable.

    Args:
        people: pronoun of each name.
        places: by name.
        mishaps: by name.
    """

    people: Mapping[str, str] = field(default_factory=lambda: PEOPLE)
    places: Mapping[str, Place] = field(default_factory=lambda: PLACES)
    mishaps: Mapping[str, Mishap] = field(default_factory=lambda: MISHAPS)

    def draw(self, random: Random) -> Story:
        """Draw one story."""
        scene = self._draw_scene(random)
        mishap = self.mishaps[scene.mishap]
        deed = _choose(random, {name: deed.share for name, deed in mishap.deeds.items()})
        outcome = _choose(random, mishap.deeds[deed].outcomes)
        parts = (ARRIVALS, BRINGINGS, mishap.wordings, mishap.deeds[deed].wordings, mishap.endings[outcome])
        first, second, third, fourth, fifth = (self._fill(_choose(random, shares), scene) for shares in parts)
        return Story((first, second, third, fourth, fifth), scene, deed, outcome)

    def posterior(self, scene: Scene, outcome: str) -> dict[str, float]:
        """Log weight of every fourth sentence that agrees with what is told before and after it, nats.

            log p(s4, outcome | scene) = log p(deed | mishap) + log p(s4 | deed) + log p(outcome | deed)

        Given the scene and the outcome the wordings of the other sentences say no more about the fourth, so that these
        weights, divided by their sum p(outcome | scene), are p(s4 | s1, s2, s3, s5).

        Args:
            scene: what the first three sentences tell.
            outcome: what the fifth tells.
        """
        return {
            self._fill(wording, scene): math.log(deed.share * share * deed.outcomes[outcome])
            for deed in self.mishaps[scene.mishap].deeds.values()
            if deed.outcomes.get(outcome, 0.0) > 0.0
            for wording, share in deed.wordings.items()
        }

    def continuations(self, scene: Scene) -> dict[str, str]:
        """Every fourth sentence that agrees with the first three, mapped to its deed."""
        return {
            self._fill(wording, scene): name
            for name, deed in self.mishaps[scene.mishap].deeds.items()
            for wording in deed.wordings
        }

    def enumerate(self) -> Iterator[tuple[Story, float]]:
        """Every story with its probability."""
        for scene, share in self._scenes():
            mishap = self.mishaps[scene.mishap]
            for name, deed in mishap.deeds.items():
                for outcome, chance in deed.outcomes.items():
                    parts = (ARRIVALS, BRINGINGS, mishap.wordings, deed.wordings, mishap.endings[outcome])
                    for chosen in product(*(part.items() for part in parts)):
                        first, second, third, fourth, fifth = (self._fill(text, scene) for text, _ in chosen)
                        p = share * deed.share * chance * math.prod(own for _, own in chosen)
                        yield Story((first, second, third, fourth, fifth), scene, name, outcome), p

    def _scenes(self) -> Iterator[tuple[Scene, float]]:
        for name, (place, inside), mishap in product(self.people, self.places.items(), self.mishaps):
            share = 1.0 / (len(self.people) * len(self.places) * len(self.mishaps) * len(inside.things))
            yield from ((Scene(name, place, thing, mishap), share) for thing in inside.things)

    def _draw_scene(self, random: Random) -> Scene:
        place = random.choice(list(self.places))
        thing = random.choice(self.places[place].things)
        return Scene(random.choice(list(self.people)), place, thing, random.choice(list(self.mishaps)))

    def _fill(self, wording: str, scene: Scene) -> str:
        who = self.people[scene.name]
        return wording.format(
            name=scene.name,
            who=who,
            Who=who.capitalize(),
            place=scene.place,
            thing=scene.thing,
            helper=self.places[scene.place].helper,
        )


def _choose(random: Random, shares: Shares) -> str:
    return random.choices(list(shares), list(shares.values()))[0]
