"""`snakemake --report` opens with the answer, a click from the leaderboard: the real Snakemake, and a browser."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from chromium import started_browser
from clone import TABLES, Clone

from mmlbench.analysis.result_set import ResultSet
from mmlbench.report.line import lines_of

pytestmark = pytest.mark.slow
PAGE = "results/leaderboard.html"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a copy of the project with a finished study and Snakemake's report on it."""
    made = Clone(tmp_path_factory.mktemp("report") / "clone")
    made.make()
    answer = made.call("snakemake", "--report", "report.html", TABLES)
    assert answer.code == 0, answer.text
    return made


def held(report: Path, name: str) -> Any:
    """Return the data of Snakemake's report in the script with this id."""
    found = re.search(rf'<script id="{name}">\s*var \w+ = (.*?);\s*</script>', report.read_text(encoding="utf-8"))
    assert found, f"this Snakemake's report has no {name}"
    return json.loads(found[1])


class Description(HTMLParser):
    """Where the description leads, and the names of the rows of its tables, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: list[str] = []
        self._name = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.links += [facts["href"] or ""] if tag == "a" and not self.names else []
        if tag == "th" and facts.get("scope") == "row":
            self.names.append("")
            self._name = True
        elif tag == "small":
            self._name = False

    def handle_endtag(self, tag: str) -> None:
        self._name &= tag != "th"

    def handle_data(self, data: str) -> None:
        if self._name:
            self.names[-1] += data


def test_the_report_leads_with_the_answer_and_its_first_category_is_the_leaderboard(clone: Clone) -> None:
    report, result_set = clone.folder / "report.html", ResultSet.open(clone.folder / "results")
    (group,) = result_set.groups()
    opening = Description(held(report, "workflow-desc"))
    assert sorted(opening.names) == sorted(line.entry.label for line in lines_of(result_set, group))
    (link,) = opening.links
    assert re.findall(r"resultPath: '(.*?)'", link) == [PAGE] and PAGE in held(report, "results")
    categories = held(report, "categories")
    assert min(categories) == "Leaderboard" and [*categories["Leaderboard"].values()] == [[PAGE]]
    assert Description("<p>What this study is about.</p>").names == []


def test_without_the_answer_the_report_names_the_missing_file(clone: Clone) -> None:
    answer = clone.folder / "results" / "answer.html"
    text = answer.read_text(encoding="utf-8")
    answer.unlink()
    refused = clone.call("snakemake", "--report", "other.html", TABLES)
    answer.write_text(text, encoding="utf-8")
    assert refused.code == 1 and "results/answer.html" in refused.text and "Traceback" not in refused.text


@pytest.mark.browser
def test_a_browser_shows_the_answer_first_and_the_leaderboard_at_a_click(clone: Clone) -> None:
    with started_browser() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page, faults = context.new_page(), []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda one: faults.append(one.url) if one.url.startswith("http") else None)
        page.goto((clone.folder / "report.html").as_uri())
        table = page.locator(".mmlbench table").first
        table.wait_for(timeout=30_000)
        box = table.bounding_box()
        assert box and box["y"] > 0 and box["y"] + box["height"] < 800 and box["x"] + box["width"] < 1280
        best = table.locator("tr.best .place").first
        assert best.evaluate("one => getComputedStyle(one).backgroundColor") == "rgb(11, 92, 153)"
        page.locator(".prose a").first.click()
        inside = page.frame_locator("iframe")
        inside.locator("table.board[data-name=answer]").first.wait_for(timeout=30_000)
        rows = inside.locator("table.board[data-name=accuracy] > tbody > tr:visible")
        before = rows.count()
        inside.locator("#filters [name=find]").fill("ensemble")
        assert before > 1 and rows.count() == 1, "the page's own script runs there"
        assert faults == []
        context.close()
