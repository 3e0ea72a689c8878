"""Figures of boards: arrows where moves go, as opaque as they are frequent; squares in the colour of their value."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from lightning_gfn.endgames.drawing import ARROW, BEST, GLYPHS, LOST, SLOWER, SQUARE, Panel, boards_svg

SVG = "{http://www.w3.org/2000/svg}"
PANEL = Panel(
    "Ka3 Re3 kd2",
    {"e3b3": 4, "e3e8": 6, "a3b3": 8, "a3a4": 255},
    {"e3b3": 0.6, "e3e8": 0.1, "e3e1": 0.2, "a3a4": 0.001},
)


def drawn() -> ElementTree.Element:
    text = boards_svg("a <model>", ["τ = 1", "τ = 0.1"], [("first", [PANEL, PANEL]), ("second", [PANEL, PANEL])])
    return ElementTree.fromstring(text)


def boards(figure: ElementTree.Element) -> list[ElementTree.Element]:
    return [part for part in figure.iter(f"{SVG}g") if "transform" in part.attrib]


def test_shares_are_judged_by_the_values() -> None:
    assert pytest.approx(0.6) == PANEL.right
    assert pytest.approx(0.2) == PANEL.illegal
    assert Panel("Ka3 Re3 kd2", {}, {"e3e1": 0.5}).right == 0.0


def test_a_legal_move_that_is_made_is_an_arrow_of_its_share() -> None:
    board = boards(drawn())[0]
    arrows = {
        found.text: part
        for part in board.iter(f"{SVG}g")
        if (found := part.find(f"{SVG}title")) is not None and found.text
    }
    assert set(arrows) == {"e3b3 0.600", "e3e8 0.100"}  # the others are not legal, or as good as never made
    assert float(arrows["e3b3 0.600"].attrib["opacity"]) == pytest.approx(0.15 + 0.85 * 0.6)
    line = arrows["e3e8 0.100"].find(f"{SVG}line")
    assert line is not None and line.attrib["stroke"] == ARROW
    assert line.attrib["x1"] == line.attrib["x2"]  # up the file
    assert float(line.attrib["y1"]) - float(line.attrib["y2"]) == pytest.approx(5 * SQUARE - 9)


def test_squares_have_the_colour_of_the_best_move_to_them() -> None:
    board = boards(drawn())[0]
    colours = [part.attrib["fill"] for part in board.iter(f"{SVG}rect")]
    assert len(colours) == 64
    assert [colours[8 * 2 + 1], colours[8 * 7 + 4], colours[8 * 3]] == [BEST, SLOWER, LOST]  # b3, e8, a4
    assert sum(colour in (BEST, SLOWER, LOST) for colour in colours) == 3


def test_a_figure_holds_every_board_its_pieces_and_its_names() -> None:
    figure = drawn()
    assert len(boards(figure)) == 4 and len({part.attrib["transform"] for part in boards(figure)}) == 4
    texts = [part.text for part in figure.iter(f"{SVG}text")]
    assert {"a <model>", "τ = 1", "τ = 0.1", "first", "second", "shortest mate 0.60, not legal 0.20"} <= set(texts)
    assert [texts.count(glyph) for glyph in GLYPHS.values()] == [4, 4, 4]
