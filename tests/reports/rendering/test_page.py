"""The HTML page: complete, self-contained, safe with any text; its script in a real browser where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lightning_gfn.reports.comparison import Options, compare_runs
from lightning_gfn.reports.rendering.html import comparison_html, embedded, rich
from lightning_gfn.reports.rendering.samples import kept_in_order, sample_data
from lightning_gfn.reports.rendering.svg import limits, nice_ticks, spread
from lightning_gfn.reports.runs import find_runs, load_run
from lightning_gfn.similarity.counting import distinct_in_order
from lightning_gfn.similarity.rouge import rouge_l_f1_matrix

MakeStudy = Callable[..., Path]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FETCHING = {"src", "href", "srcset", "action", "data", "poster", "background", "formaction", "xlink:href", "cite"}


class Tags(HTMLParser):
    """Collects what a page could fetch, and what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in FETCHING]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        place = self.open[-1] if self.open else ""
        self.text[place] = self.text.get(place, "") + data


def external(page: str) -> list[str]:
    """Everything in a page that could make a browser ask the network for something."""
    parser = Tags()
    parser.feed(page)
    found = [ref for ref in parser.references if not ref.startswith(("#", "data:"))]
    found += [tag for tag in parser.tags if tag in {"iframe", "object", "embed", "base", "img", "audio", "video"}]
    code = parser.text.get("style", "") + parser.text.get("script", "").replace(samples_text(page), "")
    found += re.findall(
        r"@import|url\(|\bfetch\b|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\(|https?:", code
    )
    return found


def samples_text(page: str) -> str:
    """The embedded samples."""
    match = re.search(r'id="samples">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture(scope="module")
def study(make_study: MakeStudy) -> Any:
    runs = [load_run(folder) for folder in find_runs(make_study(num_problems=12), "test")]
    return compare_runs(runs, Options(baseline="grpo", num_resamples=300))


def test_the_page_refers_to_nothing_outside(study: Any) -> None:
    page = comparison_html(study)
    assert external(page) == []
    assert "default-src 'none'" in page
    for planted in (
        '<img src="https://example.org/x.png">',
        '<link href="//example.org/x.css">',
        "<style>body { background: url(x.png) }</style>",
        "<script>fetch('x')</script>",
    ):
        assert external(page.replace("</main>", planted + "</main>")), planted


def test_the_page_holds_tables_claims_plots_and_reach(study: Any) -> None:
    page = comparison_html(study)
    assert page.count("These conclusions come from models of this size (612,000 parameters)") == 2
    for name, row in study.headline.items():
        assert f"<th>{name}</th>" in page and f"{row['solve_rate'].value:.3f}" in page
    assert "<strong>subtb</strong> finds" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) > 20
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert "nan" not in drawing and "inf" not in drawing
    for title in ("At matched accuracy", "By level", "Cost of training", "Learning curves", "pass@k", "Samples"):
        assert title in page
    assert "solve rate, validation|generated tokens" in page


def test_samples_are_those_that_the_metric_counts(study: Any) -> None:
    data = sample_data(study)
    assert data is not None and [problem["id"] for problem in data["problems"]] == study.cube.problems
    for problem in data["problems"]:
        for name, group in study.cube.groups.items():
            for run in group:
                cell, row = problem["runs"][name][str(run.seed)], run.samples[problem["id"]]
                assert len(cell["distinct"]) == row["metrics"]["distinct_correct_rouge_0.7"]
                assert sum(count for _, count in cell["distinct"]) == cell["right"] == row["num_correct"]
                assert sum(count for _, count in cell["wrong"]) == cell["n"] - cell["right"]


def test_texts_join_the_first_similar_one() -> None:
    texts = ["a b c d", "x y z", "a b c e", "a b c d", "x y w"]
    for threshold in (0.5, 0.7, 0.9):
        kept = kept_in_order(texts, threshold)
        assert len(kept) == distinct_in_order(rouge_l_f1_matrix(texts) >= threshold)
        assert sum(count for _, count in kept) == 5
    assert kept_in_order(texts, 0.7) == [["a b c d", 3], ["x y z", 1], ["x y w", 1]]
    assert kept_in_order([], 0.7) == []


def test_the_samples_are_capped_and_say_so(study: Any) -> None:
    page = comparison_html(study, max_sample_bytes=20_000)
    data = json.loads(samples_text(page))
    assert 1 <= len(data["problems"]) < 12
    assert f"The first {len(data['problems'])} of 12 problems are on this page." in page
    assert len(json.loads(samples_text(comparison_html(study, max_sample_bytes=1)))["problems"]) == 1


def test_hostile_text_stays_text(make_study: MakeStudy) -> None:
    hostile = "</script><script>document.title = 'taken'</script>\u2028 & <b>"
    folders = find_runs(make_study(num_problems=4, seeds=(0,)), "test")
    for folder in folders:
        path = folder / "results" / "test_problems.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["prompt"] = row["completions"][0] = hostile
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = [load_run(folder, method=None if i else "<i>sly</i>") for i, folder in enumerate(folders)]
    page = comparison_html(compare_runs(runs, Options(num_resamples=50)))
    assert "document.title = 'taken'</script>" not in page and "<i>sly</i>" not in page
    assert json.loads(samples_text(page))["problems"][0]["prompt"] == hostile
    assert json.loads(embedded({"a": hostile})) == {"a": hostile}
    assert rich("**<b>** `x<y`") == "<strong>&lt;b&gt;</strong> <code>x&lt;y</code>"


def test_runs_without_completions_say_so(make_run: Callable[..., Path]) -> None:
    comparison = compare_runs([load_run(make_run(name)) for name in ("a", "b")], Options(num_resamples=50))
    page = comparison_html(comparison)
    assert sample_data(comparison) is None and samples_text(page) == "null"
    assert "The runs kept no completions" in page and external(page) == []


def test_ticks_are_round_and_inside() -> None:
    assert limits([0.0, 0.0], pad=0.05) == (-0.05, 1.0), "shares that are all 0 have no room below"
    assert limits([2.0, 4.0], pad=0.5) == (1.0, 5.0) and limits([-3.0], pad=0.1) == (-3.3, -2.7)
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(0.62, 0.79) == [0.65, 0.7, 0.75]
    assert nice_ticks(0, 412_434) == [0, 100_000, 200_000, 300_000, 400_000]


def test_labels_are_moved_apart_in_order() -> None:
    moved = spread([10, 11, 12, 80, 99], 10, 0, 100)
    assert moved == [10, 20, 30, 80, 99]
    crowded = spread([95, 96, 97], 10, 0, 100)
    assert crowded == [80, 90, 100]


def browse(page: str, tmp_path: Path, fragment: str = "") -> str:
    """The document as a real browser has it after the script ran."""
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [CHROMIUM, *options, path.as_uri() + fragment]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return re.sub(r"<(script|style)\b.*?</\1>", "", shown, flags=re.DOTALL)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_browser_of_samples_in_a_real_browser(study: Any, tmp_path: Path) -> None:
    page = comparison_html(study)
    plain = browse(page, tmp_path)
    assert "12 of 12 problems" in plain and plain.count('aria-selected="') == 12
    first = json.loads(samples_text(page))["problems"][0]
    cell = first["runs"]["subtb"]["0"]
    assert f"{cell['right']} of 8 right, {len(cell['distinct'])} distinct" in plain
    assert plain.count('class="solution"') == sum(len(run["0"]["distinct"]) for run in first["runs"].values())
    assert "How much is &lt;b&gt;0&lt;/b&gt; &amp; nothing?" in plain

    found = browse(page, tmp_path, "#samples?search=MUCH%20IS%20%3Cb%3E7&seed=1")
    assert "1 of 12 problems" in found and found.count('aria-selected="true"') == 1
    assert "p007 · level = 2" in found and "<mark>much is &lt;b&gt;7</mark>" in found
    assert "seed 1" in found

    filtered = browse(page, tmp_path, "#samples?filter=level%20%3D%203&problem=p005")
    assert "4 of 12 problems" in filtered and "p005 · level = 3" in filtered
    none = browse(page, tmp_path, "#samples?search=nothing+of+the+kind")
    assert "0 of 12 problems" in none and 'class="solution"' not in none


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_choices_and_legend_in_a_real_browser(study: Any, tmp_path: Path) -> None:
    act = """<script>
    document.querySelector('.legend button[data-method="1"]').click();
    const selects = document.querySelectorAll('figure.wide .choices select');
    selects[1].value = 'generated tokens';
    selects[1].dispatchEvent(new Event('change'));
    const shown = document.querySelectorAll('figure.wide .drawing:not([hidden])');
    document.title = [document.querySelectorAll('.m1.off').length === document.querySelectorAll('.m1').length,
      document.querySelectorAll('.m0.off').length, [...shown].map((one) => one.dataset.key).join(';')].join(' / ');
    </script>"""
    seen = browse(comparison_html(study).replace("</body>", act + "</body>"), tmp_path)
    title = re.search("<title>(.*?)</title>", seen)
    assert title is not None and title[1] == "true / 0 / ;solve rate, validation|generated tokens"


def title_after(act: str, page: str, tmp_path: Path) -> str:
    """The page's title once a script has acted on it."""
    seen = browse(page.replace("</body>", f"<script>{act}</script></body>"), tmp_path)
    title = re.search("<title>(.*?)</title>", seen)
    assert title is not None
    return title[1]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_headers_sort_and_arrow_keys_choose_in_a_real_browser(study: Any, tmp_path: Path) -> None:
    act = """
    const table = document.querySelector('#s0 table'), button = table.querySelectorAll('.sort')[1], said = [];
    for (let i = 0; i < 4; i++) {
      said.push([...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(' ')
        + ':' + table.tHead.rows[0].cells[1].getAttribute('aria-sort'));
      button.click();
    }
    const spent = [...document.querySelectorAll('table')].find((one) => one.tFoot), list = document.querySelector('ol');
    spent.querySelector('.sort').click();
    said.push(spent.rows[spent.rows.length - 1].cells[0].textContent);
    for (const key of ['ArrowDown', 'ArrowDown', 'ArrowUp', 'End', 'ArrowDown', 'Home', 'x']) {
      list.dispatchEvent(new KeyboardEvent('keydown', { key }));
      said.push(list.getAttribute('aria-activedescendant') + '=' + list.querySelector('[aria-selected="true"]').id);
    }
    document.title = said.join('; ');"""
    rates = {name: row["solve_rate"].value for name, row in study.headline.items()}
    up, names = sorted(rates, key=lambda name: rates[name]), list(rates)
    assert up != names and up[::-1] != names
    orders = [(names, "null"), (up, "ascending"), (up[::-1], "descending"), (names, "null")]
    wanted = [f"{' '.join(order)}:{state}" for order, state in orders]
    chosen = [f"problem{n}=problem{n}" for n in (1, 2, 1, 11, 11, 0, 0)]
    assert title_after(act, comparison_html(study), tmp_path).split("; ") == [*wanted, "within 5%", *chosen]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [296, 700, 1192])
def test_letters_of_plots_are_legible_at_every_width(study: Any, tmp_path: Path, width: int) -> None:
    act = (
        f"document.body.style.cssText = 'width: {width}px'; document.querySelector('main').style.padding = 0;"
        + """
    let least = 99, count = 0, outside = 0;
    for (const svg of document.querySelectorAll('svg.plot')) {
      const frame = svg.getBoundingClientRect();
      if (!frame.width) continue;
      count += 1;
      for (const text of svg.querySelectorAll('text')) {
        const box = text.getBoundingClientRect(), scale = frame.width / svg.viewBox.baseVal.width;
        least = Math.min(least, parseFloat(getComputedStyle(text).fontSize) * scale);
        if (box.left < frame.left - 1 || box.right > frame.right + 1) outside += 1;
      }
    }
    document.title = [least >= 11, count === document.querySelectorAll('figure').length, outside, least].join(' ');"""
    )
    assert title_after(act, comparison_html(study), tmp_path).startswith("true true 0 ")


def way_of(text: str) -> str:
    return "none" if text.startswith("half") else text.split()[0]


@pytest.fixture(scope="module")
def classed_study(make_study: MakeStudy) -> Any:
    """Runs whose samples have classes by two maps, and a metric of one."""
    folders = find_runs(make_study(num_problems=6, seeds=(0,)), "test")
    for folder in folders:
        path = folder / "results" / "test_problems.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            right = list(zip(row["completions"], row["correct"], strict=True))
            ways = [way_of(text) if correct else None for text, correct in right]
            row["classes"] = {
                "ways": [None if way == "none" else way for way in ways],
                "clusters": ["cluster 1" if correct else None for _, correct in right],
            }
            row["metrics"]["distinct_classes_ways"] = float(len({way for way in ways if way not in (None, "none")}))
            row["metrics"]["effective_classes_ways"] = 1.0
            row["metrics"]["cover_at_4_ways"] = 1.0
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return compare_runs([load_run(folder) for folder in folders], Options(baseline="grpo", num_resamples=50))


def test_classes_are_compared_and_stand_beside_the_samples(classed_study: Any) -> None:
    assert {"distinct_classes_ways", "effective_classes_ways"} <= set(classed_study.metrics)
    data = sample_data(classed_study)
    assert data is not None and data["classes"] == ["ways", "clusters"]
    for problem in data["problems"]:
        for name, group in classed_study.cube.groups.items():
            cell, row = problem["runs"][name]["0"], group[0].samples[problem["id"]]
            assert sum(count for _, count, _ in cell["classed"]) == row["num_correct"]
            found = {labels[0] for _, _, labels in cell["classed"]} - {None}
            assert len(found) == row["metrics"]["distinct_classes_ways"]
            assert all(labels[0] in (way_of(text), None) for text, _, labels in cell["classed"])
            assert {text for text, _ in cell["distinct"]} <= {text for text, _, _ in cell["classed"]}
    page = comparison_html(classed_study)
    assert "distinct classes (ways)" in page and "classes among 4 samples (ways)" in page
    assert "Tags name the class" in page and external(page) == []


def test_pages_without_classes_say_nothing_of_them(study: Any) -> None:
    data = sample_data(study)
    assert data is not None and data["classes"] == [] and "classed" not in json.dumps(data)
    assert "Tags name the class" not in comparison_html(study)


@pytest.mark.parametrize("labels", [["a"], "aaaaaaaa", [1] * 8], ids=str)
def test_broken_labels_are_named(make_study: MakeStudy, labels: Any) -> None:
    folder = find_runs(make_study(num_problems=2, seeds=(0,)), "test")[0]
    path = folder / "results" / "test_problems.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["classes"] = {"ways": labels}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="line 1: field 'classes' is .*, expected 8 texts or nulls by class map"):
        load_run(folder)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_samples_grouped_by_class_in_a_real_browser(classed_study: Any, tmp_path: Path) -> None:
    page = comparison_html(classed_study)
    first = json.loads(samples_text(page))["problems"][0]
    cells = [run["0"] for run in first["runs"].values()]
    plain = browse(page, tmp_path)
    assert plain.count('class="solution"') == sum(len(cell["distinct"]) for cell in cells)
    assert plain.count('class="tag') == plain.count('class="solution"') and 'class="kind"' not in plain
    grouped = browse(page, tmp_path, "#samples?group=ways")
    assert grouped.count('class="solution"') == sum(len(cell["classed"]) for cell in cells)
    assert grouped.count('class="kind"') == sum(len({labels[0] for *_, labels in cell["classed"]}) for cell in cells)
    act = """
    const column = document.querySelector('.column:last-child');
    document.title = [...column.querySelectorAll('.tag')].map((tag) => tag.textContent + tag.className).join(';');"""
    counts: dict[str | None, int] = {}
    for cell in cells:
        for _, count, labels in cell["classed"]:
            counts[labels[0]] = counts.get(labels[0], 0) + count
    order = sorted(counts, key=lambda label: (label is None, -counts[label]))
    wanted = []
    for label in order:
        members = [text for text, _, labels in cells[-1]["classed"] if labels[0] == label]
        mark = "no classtag none" if label is None else f"{label}tag c{order.index(label)}"
        wanted += [mark] * (len(members) + 1) if members else []
    act = "const select = document.querySelector('#group'); select.value = '0';" + (
        "select.dispatchEvent(new Event('change'));" + act
    )
    assert title_after(act, page, tmp_path) == ";".join(wanted)
