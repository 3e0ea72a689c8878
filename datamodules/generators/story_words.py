"""The words of the generated stories: people, places, things, what goes wrong, what is done about it, how it ends.

In sentences ``{name}``, ``{who}`` (she or he), ``{Who}``, ``{place}``, ``{thing}`` and ``{helper}`` are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shares = Mapping[str, float]
"""Probability of each of several texts or outcomes; they sum to 1."""


@dataclass(frozen=True)
class Place:
    """Where a story happens.

    Args:
        helper: who can be asked there.
        things: what people bring along.
    """

    helper: str
    things: tuple[str, ...]


@dataclass(frozen=True)
class Deed:
    """What somebody does about a mishap: the fourth sentence.

    Args:
        share: its probability among the deeds that follow the mishap.
        wordings: fourth sentences, without the mark that ends them.
        outcomes: probability of each way in which it ends.
    """

    share: float
    wordings: Shares
    outcomes: Shares


@dataclass(frozen=True)
class Mishap:
    """What goes wrong: the third sentence, and all that may follow.

    Args:
        wordings: third sentences.
        deeds: what may be done about it, by name.
        endings: fifth sentences of each outcome.
    """

    wordings: Shares
    deeds: Mapping[str, Deed]
    endings: Mapping[str, Shares]


PEOPLE: Mapping[str, str] = {
    "Anna": "she", "Ben": "he", "Clara": "she", "David": "he", "Emma": "she", "Felix": "he", "Grace": "she",
    "Henry": "he", "Julia": "she", "Kevin": "he", "Laura": "she", "Mark": "he", "Nina": "she", "Oscar": "he",
    "Paula": "she", "Tom": "he",
}  # fmt: skip
PLACES: Mapping[str, Place] = {
    "park": Place("gardener", ("kite", "ball", "hat", "blanket", "drum")),
    "beach": Place("lifeguard", ("bucket", "towel", "ball", "umbrella", "hat")),
    "library": Place("librarian", ("book", "scarf", "lamp", "bag", "clock")),
    "school": Place("teacher", ("guitar", "book", "cap", "globe", "bag")),
    "market": Place("baker", ("basket", "umbrella", "coat", "bag", "cup")),
    "museum": Place("guard", ("camera", "coat", "vase", "mask", "map")),
    "station": Place("conductor", ("suitcase", "map", "camera", "scarf", "cup")),
    "farm": Place("farmer", ("bucket", "lantern", "rope", "blanket", "basket")),
}
ARRIVALS: Shares = {"{name} went to the {place} one morning.": 0.6, "One day {name} was at the {place}.": 0.4}
BRINGINGS: Shares = {"{Who} had an old {thing} along.": 0.5, "{Who} was proud of an old {thing}.": 0.5}

BUYING: Shares = {"{Who} bought another {thing} near the {place}": 0.6, "{Who} paid for another {thing}": 0.4}
LEAVING: Shares = {"{Who} gave up and left the {thing} behind": 0.7, "{Who} said goodbye to the {thing}": 0.3}
NEW: Shares = {"{name} came home with a new {thing}.": 0.6, "The new {thing} was even better.": 0.4}
NONE: Shares = {"{name} came home with empty hands.": 0.7, "{name} never used the {thing} again.": 0.3}
BACK: Shares = {"Soon {who} held the {thing} again.": 0.6, "{name} came home with the old {thing}.": 0.4}
WHOLE: Shares = {"Soon the {thing} was in one piece again.": 0.5, "Nobody saw that it had been broken.": 0.5}
CLEAN: Shares = {"Soon the {thing} was clean again.": 0.5, "Nobody could see a stain any more.": 0.5}
TORN: Shares = {"The {thing} came out in two pieces.": 0.8, "Now there was a big crack in the {thing}.": 0.2}

MISHAPS: Mapping[str, Mishap] = {
    "broken": Mishap(
        {"Then the {thing} fell down and broke.": 0.6, "There the {thing} broke in two.": 0.4},
        {
            "mend": Deed(
                0.35,
                {"{Who} put the pieces together with tape": 0.6, "{Who} mended the {thing} with some glue": 0.4},
                {"whole": 0.7, "none": 0.3},
            ),
            "ask": Deed(
                0.3,
                {"{Who} asked the {helper} to mend the {thing}": 0.7, "The {helper} mended the {thing}": 0.3},
                {"whole": 0.6, "new": 0.2, "none": 0.2},
            ),
            "buy": Deed(0.2, BUYING, {"new": 0.9, "none": 0.1}),
            "leave": Deed(0.15, LEAVING, {"none": 0.8, "new": 0.2}),
        },
        {"whole": WHOLE, "new": NEW, "none": NONE},
    ),
    "lost": Mishap(
        {"Then the {thing} was gone.": 0.5, "Suddenly {who} could not find the {thing}.": 0.5},
        {
            "search": Deed(
                0.4,
                {"{Who} looked all over the {place}": 0.6, "{Who} walked back to look for the {thing}": 0.4},
                {"back": 0.6, "none": 0.4},
            ),
            "ask": Deed(
                0.3,
                {"{Who} asked the {helper} about the {thing}": 0.6, "The {helper} helped to look for it": 0.4},
                {"back": 0.7, "new": 0.1, "none": 0.2},
            ),
            "buy": Deed(0.2, BUYING, {"new": 0.9, "back": 0.1}),
            "forget": Deed(0.1, {"{Who} tried not to think about it": 1.0}, {"none": 0.8, "back": 0.2}),
        },
        {"back": BACK, "new": NEW, "none": NONE},
    ),
    "dirty": Mishap(
        {"Then the {thing} fell into a puddle.": 0.5, "Then somebody spilled paint on the {thing}.": 0.5},
        {
            "wash": Deed(
                0.4,
                {"{Who} washed the {thing} with cold water": 0.5, "{Who} wiped the {thing} with a cloth": 0.5},
                {"clean": 0.7, "none": 0.3},
            ),
            "ask": Deed(
                0.3,
                {"{Who} asked the {helper} for some soap": 0.6, "The {helper} cleaned the {thing}": 0.4},
                {"clean": 0.8, "new": 0.1, "none": 0.1},
            ),
            "buy": Deed(0.15, BUYING, {"new": 1.0}),
            "leave": Deed(0.15, LEAVING, {"none": 0.9, "new": 0.1}),
        },
        {"clean": CLEAN, "new": NEW, "none": NONE},
    ),
    "stolen": Mishap(
        {"Then a dog ran off with the {thing}.": 0.6, "Then a dog took the {thing} in its mouth.": 0.4},
        {
            "chase": Deed(
                0.4,
                {"{Who} chased the dog around the {place}": 0.6, "{Who} ran after the dog": 0.4},
                {"back": 0.5, "none": 0.5},
            ),
            "lure": Deed(
                0.25,
                {"{Who} offered the dog a piece of bread": 0.5, "{Who} called the dog with a cookie": 0.5},
                {"back": 0.8, "none": 0.2},
            ),
            "ask": Deed(
                0.2,
                {"{Who} asked the {helper} to stop the dog": 0.7, "The {helper} caught the dog": 0.3},
                {"back": 0.7, "new": 0.2, "none": 0.1},
            ),
            "buy": Deed(0.15, BUYING, {"new": 1.0}),
        },
        {"back": BACK, "new": NEW, "none": NONE},
    ),
    "stuck": Mishap(
        {"Then the {thing} got stuck behind a heavy box.": 0.5, "Then the {thing} slid under a heavy box.": 0.5},
        {
            "push": Deed(
                0.4,
                {"{Who} pushed the box with both hands": 0.6, "{Who} moved the box to one side": 0.4},
                {"back": 0.8, "torn": 0.2},
            ),
            "pull": Deed(
                0.3,
                {"{Who} pulled the {thing} with a long stick": 0.5, "{Who} pulled as hard as possible": 0.5},
                {"back": 0.4, "torn": 0.6},
            ),
            "ask": Deed(
                0.15,
                {"{Who} asked the {helper} to lift the box": 0.7, "The {helper} lifted the box": 0.3},
                {"back": 0.9, "new": 0.1},
            ),
            "leave": Deed(0.15, LEAVING, {"none": 0.9, "new": 0.1}),
        },
        {"back": BACK, "torn": TORN, "new": NEW, "none": NONE},
    ),
}
