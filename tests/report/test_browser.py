"""The leaderboard in a real headless Chromium: `make test-browser`. Where there is none, nothing here runs."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from chromium import FLAGS, browser_path, started_browser
from fake_runs import gabor, small

from mmlbench.analysis.result_set import ResultSet
from mmlbench.report import make_all
from mmlbench.report.numbers import p_text, signed
from mmlbench.report.page_tables import is_baseline
from mmlbench.results.load import read_plan
from mmlbench.results.plugin_facts import Facts
from mmlbench.stats import holm, rank_intervals, separated_pairs

pytestmark = pytest.mark.browser
NASTY = '<script>alert("x")</script> & 50%_$\\{x}|`a`'
ACCURACY = 'table.board[data-name="accuracy"][data-dataset="avdigits"]'


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("browser") / "results"
    methods = fake_runs.default_methods()
    methods[4] = replace(methods[4], label=NASTY, notes=["<img src=x onerror=alert(1)>"])
    fake_runs.write_study(made, [small(methods=methods), gabor()])
    make_all(made, made.parent / "cache", lambda line: None)
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as found:
        yield found


class Visit:
    """A page in the browser, with what went wrong on it."""

    def __init__(self, browser: Any, results: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(120_000)  # of a machine with much other work
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.address = (results / "leaderboard.html").as_uri()
        self.faults: list[str] = []
        self.page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"request: {request.url}")

    def go(self, hash_: str = "") -> Any:
        """Open the page anew at an address of a view."""
        self.page.goto("about:blank")
        self.page.goto(self.address + hash_)
        return self.page

    def column(self, place: int, board: str = ACCURACY) -> list[str]:
        """Return the first line of each shown cell of a column."""
        cells = self.page.locator(f"{board} > tbody > tr:visible > :nth-child({place})")
        return [text.split("\n")[0].strip() for text in cells.all_inner_texts()]

    def sort(self, place: int, direction: str, press: bool = False) -> None:
        """Click a heading, or press Enter on it, and wait until the column is sorted so."""
        head = self.page.locator(f"{ACCURACY} thead th").nth(place)
        head.locator("[role=button]").press("Enter") if press else head.click()
        self.page.wait_for_function(
            "([board, place, way]) => document.querySelectorAll(board + ' thead th')[place].ariaSort === way",
            arg=[ACCURACY, place, direction],
            timeout=5000,
        )


def visiting(browser: Any, results: Path) -> Iterator[Visit]:
    """Yield a visit to the page of some results."""
    one = Visit(browser, results)
    yield one
    one.context.close()
    assert one.faults == [], "the console must stay empty, and no request may leave the page"


@pytest.fixture
def visit(browser: Any, results: Path) -> Iterator[Visit]:
    yield from visiting(browser, results)


def test_it_opens_from_disk_without_a_word_on_the_console(visit: Visit) -> None:
    page = visit.go()
    assert page.locator("#filters").is_visible()
    assert page.locator("#said").inner_text().startswith("14 rows shown")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_sorting_by_mouse_and_by_keyboard(visit: Visit) -> None:
    page = visit.go()
    as_made = visit.column(3)
    visit.sort(2, "descending")
    numbers = [float(text.split(" ")[0]) for text in visit.column(3) if text[:1].isdigit()]
    assert numbers == sorted(numbers, reverse=True)
    visit.sort(2, "ascending")
    numbers = [float(text.split(" ")[0]) for text in visit.column(3) if text[:1].isdigit()]
    assert numbers == sorted(numbers) and "sort=3.2.asc" in page.url
    visit.sort(8, "descending", press=True)
    page.locator("button[type=reset]").click()
    page.wait_for_function("() => !location.hash.includes('sort')", timeout=5000)
    assert visit.column(3) == as_made


def test_missing_values_stay_below_when_the_best_are_first(visit: Visit) -> None:
    visit.go()
    visit.sort(4, "descending")
    shown = visit.column(5)
    assert "" in shown and all(text == "" for text in shown[shown.index("") :])


@pytest.mark.parametrize(
    ("name", "choice", "labels"),
    [
        ("family", "gradient modulation", [NASTY]),
        ("family", "trained apart", ["ensemble", "di_mml", "unimodal"]),
        ("find", "dimml", ["di_mml"]),
        ("find", "Di-MML", ["di_mml"]),
        ("find", "JOINT shuf", ["joint_shuffled_partner"]),
        ("find", "<script>", [NASTY]),
        ("find", "no such method", []),
    ],
)
def test_filters_of_rows(visit: Visit, name: str, choice: str, labels: list[str]) -> None:
    page = visit.go()
    field = page.locator(f"#filters [name={name}]")
    field.select_option(choice) if name == "family" else field.fill(choice)
    names = page.locator(f"{ACCURACY} > tbody > tr:visible").evaluate_all(
        "rows => rows.map(row => row.dataset.label)"
    )
    assert [one for one in names if one] == labels
    if not labels:
        assert "No method passes the filters" in page.locator(ACCURACY).inner_text()


def below_the_fold(page: Any) -> list[str]:
    """Return what of the first answer does not lie on the first screen: its first rows' cells, all columns."""
    return page.evaluate(
        """() => [...document.querySelectorAll("table.board")[0].rows].slice(0, 5).flatMap((row) => [...row.cells])
          .filter((cell) => { const box = cell.getBoundingClientRect();
            return !box.width || box.bottom > innerHeight || box.right > innerWidth; })
          .map((cell) => cell.textContent)"""
    )


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_answer_is_on_the_first_screen(browser: Any, results: Path, width: int, height: int) -> None:
    one = Visit(browser, results, viewport={"width": width, "height": height})
    page = one.go()
    assert page.locator("table.board").first.get_attribute("data-name") == "answer"
    assert below_the_fold(page) == []
    assert page.locator("#filter-box").evaluate("box => box.open") == (width > 640)
    page.locator("#filter-box").evaluate("box => { box.open = true; }")
    page.add_style_tag(content="#answers { margin-top: 40rem; }")
    assert below_the_fold(page) != []
    one.context.close()


def test_the_rule_reaches_every_table_and_heading(visit: Visit) -> None:
    page = visit.go()
    gap = 'table.board[data-name="competition_gap"]'
    for rule, empty in (("val", [1]), ("test", [0, 1]), ("last", [])):
        page.locator("#filters [name=rule]").select_option(rule)
        rules = page.locator("table.board tr[data-rule]:visible").evaluate_all(
            "rows => rows.map(r => r.dataset.rule)"
        )
        assert rules and set(rules) == {rule}
        assert (page.locator(".headline:visible").count() > 0) == (rule == "last")
        assert (page.locator(".not-computed:visible").count() > 0) == (rule != "last")
        chosen = page.locator("#filters [name=rule] option:checked").inner_text()
        assert set(page.locator(".epoch").all_inner_texts()) == {chosen}
        texts = page.locator(gap).all_inner_texts()
        assert [k for k, text in enumerate(texts) if "Not computed under this rule" in text] == empty
    page.locator("#filters [name=find]").fill("no such method")
    assert "No method passes the filters" in page.locator(gap).first.inner_text()


def test_filters_reach_what_stands_above_and_below(visit: Visit) -> None:
    page = visit.go()
    heads = page.locator('table.board[data-name="all"] thead th:visible')
    assert heads.count() == 3
    page.locator("#filters [name=dataset]").select_option("avdigits")
    assert heads.count() == 2 and page.locator("#overall .story:visible").count() == 0
    assert page.locator("#literature .plot:visible").count() == 0, "nothing is printed on this dataset"
    assert page.locator(".answer:visible").count() == page.locator("nav a[data-dataset]:visible").count() == 1
    page.locator("#filters [name=find]").fill("dimml")
    assert page.locator("section details.one:visible").count() == 1
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    folded = page.locator("section[data-dataset]:visible table:not(.board) tr[data-label]:visible")
    assert set(folded.evaluate_all("rows => rows.map(row => row.dataset.label)")) == {"di_mml"}
    headings = page.locator("section[data-dataset]:visible h2, .answer:visible h2").all_inner_texts()
    assert len(headings) == 2 and all("dimml" in heading for heading in headings)
    page.locator("button[type=reset]").click()
    page.wait_for_function(
        "() => document.querySelectorAll('section details.one[hidden]').length === 0", timeout=5000
    )
    assert heads.count() == 3


def side_by_side(page: Any, labels: tuple[str, ...]) -> dict[str, list[str]]:
    """Tick methods of the first answer; return label -> cells of the comparison, on one line each."""
    for label in labels:
        page.locator("#answer-1").get_by_label(f"Compare {label}", exact=True).check()
    rows = page.locator("#answer-1 .compare tbody tr")
    cells = rows.evaluate_all(
        """rows => rows.map((row) => [...row.cells].map(
             (cell) => [...cell.childNodes].map((one) => one.textContent).join(" ")))"""
    )
    return {label: rest for label, *rest in cells}


@pytest.mark.parametrize(
    "labels", [("ensemble", "joint"), ("ensemble", "joint", "di_mml"), ("joint", NASTY, "di_mml")]
)
def test_ticked_methods_are_compared_by_the_rule_of_the_statistics(
    visit: Visit, results: Path, labels: tuple[str, ...]
) -> None:
    page, result_set = visit.go(), ResultSet.open(results)
    assert page.locator(".compare:visible").count() == 0
    found, group = side_by_side(page, labels), result_set.groups()[0]
    differences = [one for one in result_set.differences(group) if {one.first, one.second} <= set(labels)]
    separated = separated_pairs(differences)
    for label, rank in rank_intervals(labels, separated).items():
        ends = f"{rank.low}" if rank.low == rank.high else f"{rank.low}–{rank.high}"
        assert found[label][0] == ends
    corrected = holm([one.p_value for one in differences])
    order = list(found)
    for one, p in zip(differences, corrected, strict=True):
        pair = result_set.ranked_pairs(group)[one.first, one.second]
        shown = f"{signed(pair.value)} [{signed(pair.ci_low)}, {signed(pair.ci_high)}] p {p_text(p)}"
        assert found[one.first][2 + order.index(one.second)] == shown
        turned = f"{signed(-pair.value)} [{signed(-pair.ci_high)}, {signed(-pair.ci_low)}] p {p_text(p)}"
        assert found[one.second][2 + order.index(one.first)] == turned
    address = page.url
    assert "compare=" in address
    page.locator("button[type=reset]").click()
    page.wait_for_function("() => !location.hash.includes('compare')", timeout=5000)
    assert page.locator(".compare:visible").count() == 0
    visit.go("#" + address.split("#", 1)[1])
    assert page.locator("#answer-1 .compare tbody tr").count() == len(labels), "the address brings it back"
    page.locator("#filters [name=rule]").select_option("val")
    assert page.locator(".compare:visible").count() == 0, "the differences are of the headline rule"


def test_a_comparison_of_all_has_the_ranks_of_the_table(visit: Visit, results: Path) -> None:
    result_set = ResultSet.open(results)
    ranks = result_set.ranks(result_set.groups()[0])
    found = side_by_side(visit.go(), tuple(ranks))
    ends = {label: [cells[0].split("–")[0], cells[0].split("–")[-1]] for label, cells in found.items()}
    assert ends == {label: [str(rank.interval.low), str(rank.interval.high)] for label, rank in ranks.items()}


def printed_pages(page: Path, folder: Path) -> int:
    """Return how many pages Chromium prints of a file."""
    paper = folder / "page.pdf"
    where = [f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={paper}", page.as_uri()]
    subprocess.run([browser_path(), "--headless", *FLAGS, *where], check=True, capture_output=True, timeout=120)
    return len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))


def test_the_default_grid_prints_on_four_pages(tmp_path: Path) -> None:
    if not browser_path():
        pytest.skip("no Chromium on this machine")
    methods = fake_runs.default_methods()
    methods.insert(4, replace(methods[4], label="modality_dropout", method="modality_dropout"))
    made = fake_runs.write_study(tmp_path / "results", [small(methods=methods), gabor(methods=methods)])
    make_all(made, tmp_path / "cache", lambda line: None)
    assert 1 <= printed_pages(made / "leaderboard.html", tmp_path) <= 4
    as_on_screen = tmp_path / "screen.html"
    text = (made / "leaderboard.html").read_text(encoding="utf-8")
    as_on_screen.write_text(text.replace("@media print", "@media speech"), encoding="utf-8")
    assert printed_pages(as_on_screen, tmp_path) > 4


BLUE_OUTSIDE = """(best) => [...document.querySelectorAll("body *")].filter((one) => {
  const style = getComputedStyle(one), drawn = one.closest("svg") && one.tagName !== "svg";
  const shown = [style.color, style.backgroundColor, style.borderTopColor, style.textDecorationColor];
  if (drawn) shown.push(style.fill, style.stroke);
  return shown.includes(best) && !one.closest(".first, .best");
}).map((one) => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_links_have_the_colour_of_the_text_and_blue_is_the_best_group_alone(
    browser: Any, results: Path, scheme: str
) -> None:
    one = Visit(browser, results, color_scheme=scheme)
    page = one.go()
    plain = page.evaluate("getComputedStyle(document.body).color")
    links = page.locator("nav a").evaluate_all(
        "links => links.map(a => [getComputedStyle(a).color, getComputedStyle(a).textDecorationLine])"
    )
    assert {tuple(link) for link in links} == {(plain, "underline")}
    best = page.locator("tr.first .place").first.evaluate("one => getComputedStyle(one).backgroundColor")
    assert best != plain and page.evaluate(BLUE_OUTSIDE, best) == []
    page.add_style_tag(content="nav a { color: var(--best); }")
    assert len(page.evaluate(BLUE_OUTSIDE, best)) == len(links)
    assert one.faults == []
    one.context.close()


def test_filters_of_data_and_of_the_selection_rule(visit: Visit) -> None:
    page = visit.go()
    page.locator("#filters [name=dataset]").select_option("avdigits")
    assert page.locator("section[data-dataset]:visible").count() == 1
    last = visit.column(3)
    page.locator("#filters [name=rule]").select_option("test")
    assert "never a result" in page.locator("#said").inner_text() and visit.column(3) != last
    assert "".join(visit.column(2)) == ""  # no ranks of a rule that chooses on the test set
    page.locator("#filters [name=split]").select_option("default")
    assert page.locator("section[data-dataset]:visible").count() == 0


def test_a_row_opens_by_click_and_by_key_and_closes_back_to_its_place(visit: Visit) -> None:
    page = visit.go()
    page.locator(f"{ACCURACY} tr[data-label=joint]:visible td").nth(2).click()
    dialog = page.locator("#dialog")
    text = dialog.inner_text()
    assert "joint on avdigits / speaker" in text and "mmlbench reproduce" in text
    for part in ("Learning curves", "Numbers", "Per class", "Runs", "Configuration", "Provenance"):
        assert part in text
    assert dialog.locator("svg.curve").count() == 1 and "row=" in page.url
    dialog.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("mmlbench reproduce ")
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.hash.includes('row=')", timeout=5000)  # the dialog tells it later
    assert not dialog.is_visible()
    page.locator(f"{ACCURACY} tr[data-label=di_mml]:visible th a").focus()
    page.keyboard.press("Enter")
    assert "di_mml on avdigits" in dialog.inner_text()
    page.locator("#close").click()
    page.wait_for_function("() => document.activeElement.closest('tr')?.dataset.label === 'di_mml'", timeout=5000)
    page.locator("details.one summary").first.click()  # the parts are back where they were
    assert "mmlbench reproduce" in page.locator("details.one").first.inner_text()


def test_a_nasty_name_is_text_everywhere(visit: Visit) -> None:
    page = visit.go()
    visit.sort(0, "ascending")
    page.locator(f"{ACCURACY} tr[data-family='gradient modulation']:visible td").nth(2).click()
    assert NASTY in page.locator("#dialog-title").inner_text()
    assert page.locator("script").count() == 2 and page.locator("img[src=x]").count() == 0


def test_an_address_brings_back_the_view(visit: Visit) -> None:
    page = visit.go()
    page.locator("#filters [name=dataset]").select_option("avdigits")
    page.locator("#filters [name=family]").select_option("trained apart")
    visit.sort(2, "descending")
    visit.sort(2, "ascending")
    page.get_by_role("button", name="Copy link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    shown = visit.column(3)
    page.locator(f"{ACCURACY} tr[data-label=di_mml]:visible td").nth(2).click()
    deep = page.url
    visit.go("#" + link.split("#", 1)[1])
    assert visit.column(3) == shown and page.locator("section[data-dataset]:visible").count() == 1
    visit.go("#" + deep.split("#", 1)[1])
    assert "di_mml on avdigits" in page.locator("#dialog").inner_text()
    visit.go(
        "#?dataset=gone&sort=9.x.up&row=<b>&family=%3Cimg%20src%3Dx%3E"
    )  # of another study: shown as far as it goes
    assert page.locator("section[data-dataset]:visible").count() == 2 and not page.locator("#dialog").is_visible()
    visit.go("#data-2")
    page.wait_for_function(
        "() => Math.abs(document.getElementById('data-2').getBoundingClientRect().y) < 200", timeout=5000
    )


def saved(page: Any, board: str, kind: str) -> tuple[str, str]:
    """Press an export button; return the file's name and text."""
    with page.expect_download() as waiting:
        bar = page.locator(board).locator("xpath=ancestor::div[@class='scroll']/preceding-sibling::div[1]")
        bar.get_by_role("button", name=f"as {kind}").click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_text(encoding="utf-8")


def test_export_is_what_is_shown(visit: Visit, results: Path) -> None:
    page = visit.go()
    page.locator("#filters [name=find]").fill("m")
    name, text = saved(page, ACCURACY, "CSV")
    rows = list(csv.DictReader(io.StringIO(text)))
    labels = page.locator(f"{ACCURACY} > tbody > tr:visible").evaluate_all(
        "rows => rows.map(row => row.dataset.label)"
    )
    assert name == "accuracy-avdigits-speaker.csv" and [row["method"] for row in rows] == labels and NASTY in labels
    table = {row["row_id"]: row for row in csv.DictReader((results / "all_tables.csv").open())}
    for row in rows:
        if row["accuracy"] and row["rank"]:
            ours = table[row["row_id"]]
            assert float(row["accuracy"]) == pytest.approx(100 * float(ours["value"]), abs=1e-3)
            assert float(row["accuracy_low"]) == pytest.approx(100 * float(ours["ci_low"]), abs=1e-3)
            assert row["rank_low"] == ours["rank_group"]
    mine = {"dataset": "avdigits", "table": "accuracy", "metric": "difference", "selection": "last"}
    mine |= {"baseline": "ensemble"}
    to = {row["label"]: row["p_adjusted"] for row in table.values() if mine.items() <= row.items()}
    corrected = [row for row in rows if row["minus_ensemble"]]
    assert corrected and all(row["minus_ensemble_p_adjusted"] == to[row["method"]] for row in corrected)
    name, text = saved(page, ACCURACY, "LaTeX")
    assert name.endswith(".tex") and text.count(r"\\") == len(rows) + 1
    assert r"\toprule" in text and r"\textless{}script" in text and r"50\%\_\$\textbackslash{}\{x\}" in text
    everywhere = saved(page, 'table.board[data-name="all"]', "CSV")[1].splitlines()
    assert everywhere[0] == "selection,family,row_id,method,avdigits / speaker,gabor_nuisance / default"
    gap = ACCURACY.replace("accuracy", "competition_gap")
    assert "gap_minus_control_low" in saved(page, gap, "CSV")[1].splitlines()[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_the_corrected_p_is_on_the_page_at_any_width(browser: Any, results: Path, width: int) -> None:
    one = Visit(browser, results, viewport={"width": width, "height": 844})
    page = one.go()
    message = page.locator(f"{ACCURACY} tr[data-label=di_mml]:visible td:has-text('p ')").all_inner_texts()
    assert len(message) == 3 and all(re.search(r"\]\s+p (<\.001|\.\d{3}|1)$", text.strip()) for text in message)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = page.locator(f"{ACCURACY} thead th").evaluate_all("heads => heads.map(head => head.offsetWidth)")
    assert max(widths) < 200, "no heading stretches its column"
    assert one.faults == []
    one.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault(browser: Any, results: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    one = Visit(browser, results, color_scheme=scheme, viewport={"width": width, "height": 844})
    page = one.go()
    for opened in (False, True):
        if opened:
            page.locator(f"{ACCURACY} tr[data-label=joint]:visible td").nth(1).click()
        found = axe.Axe().run(page).response["violations"]
        serious = [
            f"{fault['id']} ({fault['impact']}): {[node['target'] for node in fault['nodes'][:3]]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    one.context.close()


def test_without_a_script_the_tables_are_there(browser: Any, results: Path) -> None:
    one = Visit(browser, results, java_script_enabled=False)
    page = one.go()
    assert not page.locator("#filters").is_visible()
    assert page.locator(f"{ACCURACY} > tbody > tr:visible").count() == 7
    page.locator(f"{ACCURACY} tr:visible th a").first.click()
    assert re.search(r"#row-\w+$", page.url)
    page.locator("details.one summary").first.click()
    assert "mmlbench reproduce" in page.locator("details.one").first.inner_text()
    one.context.close()


def test_it_prints(visit: Visit) -> None:
    page = visit.go()
    paper = page.pdf(prefer_css_page_size=True)
    assert paper[:5] == b"%PDF-" and len(paper) > 20_000
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible() and page.locator(ACCURACY).is_visible()
    assert page.locator(".answer table.board").first.is_visible() and page.locator("#reading").is_visible()
    assert page.locator("footer .source").is_visible() and page.locator(".screen:visible").count() == 0


# ---- a board of forty rows --------------------------------------------------------------------------------------
ANSWER = 'table.board[data-name="answer"]'
BOARDS = ("answer", "all", "accuracy", "competition_gap")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("large") / "results"
    fake_runs.write_study(made, [gabor(methods=fake_runs.many_methods(), seeds=(0, 1))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmlbench.report.figures.write_figures", lambda result_set, results: {})
        make_all(made, made.parent / "cache", lambda line: None)
    return made


@pytest.fixture
def wide(browser: Any, large: Path) -> Iterator[Visit]:
    yield from visiting(browser, large)


def seen(page: Any, board: str = ANSWER) -> list[str]:
    """Return the labels that a board shows, in order, each once."""
    rows = page.locator(f"{board} > tbody > tr[data-row]")
    shown = rows.evaluate_all("rows => rows.filter(r => r.checkVisibility()).map(r => r.dataset.label)")
    return list(dict.fromkeys(shown))


def named(name: str) -> str:
    """Return where a board of that name lies."""
    return f'table.board[data-name="{name}"]'


def folded(results: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return what a folded board shows, and family -> labels below its best; both by the ranking."""
    result_set, family_of = ResultSet.open(results), Facts.of_plan(read_plan(results)).family
    shown: list[str] = []
    families: dict[str, list[str]] = {}
    for entry in result_set.entries(result_set.groups()[0]):
        if is_baseline(result_set, entry):
            shown.append(entry.label)
            continue
        family = family_of(entry.method)
        if family not in families:
            shown.append(entry.label)
        families.setdefault(family, []).append(entry.label)
    return shown, {family: labels[1:] for family, labels in families.items()}


def count(best: list[str], rest: dict[str, list[str]]) -> int:
    """Return how many rows there are."""
    return len(best) + sum(map(len, rest.values()))


def test_families_fold_to_their_best_row_and_open_by_key(wide: Visit, large: Path) -> None:
    page, (best, rest) = wide.go(), folded(large)
    assert len(best) < 20 and count(best, rest) > 40
    assert {"joint", "unimodal", "ensemble"} <= set(best)
    assert sorted(seen(page)) == sorted(best)
    one = [name for name in BOARDS if name != "all"]  # that of all data has bests of its own: by the mean rank
    assert all(set(seen(page, named(name))) <= set(best) for name in one)
    assert len(seen(page, named("all"))) <= len(best)
    button = page.locator(f"{ANSWER} tr.more button", has_text="gradient modulation")
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    assert page.evaluate("document.activeElement.textContent") == button.inner_text()
    opened = [*best, *rest["gradient modulation"]]
    for name in one:  # on all tables at once, below the best of the family
        labels = seen(page, named(name))
        assert set(labels) <= set(opened) and set(rest["gradient modulation"]) <= set(labels)
    labels = seen(page)
    at = [labels.index(label) for label in rest["gradient modulation"]]
    assert at == list(range(at[0], at[0] + len(at)))
    numbers = [int(word) for word in re.findall(r"\d+", page.locator("#said").inner_text())]
    assert len(numbers) == 2 and sum(numbers) == count(best, rest)
    wide.go("#" + page.url.split("#", 1)[1])
    assert sorted(seen(page)) == sorted(opened), "the address brings it back"
    page.locator("#filters [name=rows]").select_option("rank")
    assert len(seen(page)) == count(best, rest) and page.locator("tr.more").count() == 0
    page.locator("button[type=reset]").click()
    page.wait_for_function("() => document.querySelectorAll('tr.more').length > 0", timeout=20000)
    assert sorted(seen(page)) == sorted(best)
    page.add_style_tag(content="tr.folded { display: table-row !important; }")
    assert sorted(seen(page)) != sorted(best), "rows that do not fold would be seen"


def test_sorting_keeps_a_family_below_its_best(wide: Visit, large: Path) -> None:
    page, (best, rest) = wide.go("#?rows=family"), folded(large)
    page.locator(f"{ANSWER} thead th").nth(2).click()
    page.locator(f"{ANSWER} thead th").nth(2).click()
    page.wait_for_function("() => location.hash.includes('asc')", timeout=20000)
    labels, found = seen(page), ResultSet.open(large)
    assert len(labels) == count(best, rest)
    accuracy = {row.label: row.value or 0.0 for row in found.entries(found.groups()[0])}
    for family in filter(None, rest.values()):
        places = sorted(labels.index(label) for label in family)
        assert places == list(range(places[0], places[0] + len(places)))
        assert labels[places[0] - 1] in best and labels[places[0] - 1] not in family
        worst = min(accuracy[label] for label in family)
        assert accuracy[labels[places[0]]] == worst, "the worst of the others first; some are equal"


def test_a_search_finds_folded_rows_in_every_table(wide: Visit, large: Path) -> None:
    page, (_, rest) = wide.go(), folded(large)
    hidden = [family[-1] for family in rest.values() if len(family) > 1][:2]
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "find"
    page.keyboard.type(f"{hidden[0]}, {hidden[1]}")
    for name in BOARDS:
        assert set(hidden) <= set(seen(page, named(name)))
        assert all(any(word in label for word in hidden) for label in seen(page, named(name)))
    page.locator("#filters [name=find]").fill("joint")
    shown = page.locator("#literature tr[data-words]:visible").evaluate_all("rows => rows.map(r => r.dataset.words)")
    assert shown and all("joint" in words for words in shown)
    page.locator("#filters [name=find]").fill("no such method")
    assert [seen(page, named(name)) for name in BOARDS] == [[]] * 4
    assert page.locator("#literature tr[data-words]:visible").count() == 0


def test_ticked_methods_stand_side_by_side_on_all_data(visit: Visit, results: Path) -> None:
    page, result_set = visit.go(), ResultSet.open(results)
    tray, beside = page.locator("#tray"), page.locator("#beside")
    assert not tray.is_visible()
    page.locator("#answer-1").get_by_label("Compare joint", exact=True).check()
    assert page.locator("#answer-2").get_by_label("Compare joint", exact=True).is_checked()
    assert tray.is_visible() and page.locator("#side-by-side").count() == 0, "one method is no comparison"
    page.locator("#answer-2").get_by_label("Compare di_mml", exact=True).check()
    page.locator("#side-by-side").press("Enter")
    assert beside.is_visible() and beside.locator("h3").count() == 2
    for place, group in enumerate(result_set.groups()):
        facts, differences = beside.locator("table").nth(2 * place), beside.locator("table").nth(2 * place + 1)
        assert set(facts.locator("thead th").all_inner_texts()[1:]) == {"joint", "di_mml"}
        heads = facts.locator("tbody th").all_inner_texts()
        assert [head for head in heads if head.startswith("visual: gap,")] and heads[0] == "rank"
        pairs = result_set.ranked_pairs(group)
        pair = pairs.get(("joint", "di_mml")) or pairs["di_mml", "joint"]
        assert f"[{signed(pair.ci_low)}, {signed(pair.ci_high)}]" in differences.inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.id === 'side-by-side'", timeout=20000)
    tray.get_by_label("Untick joint").click()
    assert page.locator("#side-by-side").count() == 0
    assert not page.locator("#answer-1").get_by_label("Compare joint", exact=True).is_checked()


def test_a_ticked_row_stays_when_its_family_folds(wide: Visit, large: Path) -> None:
    page, (best, rest) = wide.go("#?rows=family"), folded(large)
    hidden = rest["loss"][-1]
    page.locator("#answer-1").get_by_label(f"Compare {hidden}", exact=True).check()
    page.locator("#filters [name=rows]").select_option("")
    assert sorted(seen(page)) == sorted([*best, hidden])


def test_a_small_board_folds_nothing(visit: Visit) -> None:
    page = visit.go()
    assert page.locator("#filters [name=rows], tr.more, tr.folded, #answers .tall").count() == 0


def test_every_row_is_there_without_a_script_and_in_print(browser: Any, large: Path) -> None:
    best, rest = folded(large)
    one = Visit(browser, large, java_script_enabled=False)
    assert one.go().locator(f"{ANSWER} > tbody > tr[data-row]:visible").count() == count(best, rest)
    one.context.close()
    one = Visit(browser, large)
    page = one.go()
    assert len(seen(page)) == len(best)
    page.emulate_media(media="print")
    assert len(seen(page)) == count(best, rest)
    assert page.locator("tr.more:visible, #tray:visible").count() == 0
    one.context.close()
    assert one.faults == []


HEADING = """(board) => {
  const head = document.querySelector(board + " thead"), rows = document.querySelector(board).tBodies[0].rows;
  rows[rows.length - 3].scrollIntoView({ block: "center", behavior: "instant" });
  const box = head.rows[0].cells[1].getBoundingClientRect();
  const there = document.elementFromPoint(box.left + 5, box.bottom - 5);
  return box.top >= 0 && box.bottom <= innerHeight && there?.closest("thead") === head;
}"""


@pytest.mark.parametrize("width", [1280, 400])
def test_headings_stay_in_sight_and_no_page_is_too_wide(browser: Any, large: Path, width: int) -> None:
    one = Visit(browser, large, viewport={"width": width, "height": 500})
    page = one.go("#?rows=rank")
    page.wait_for_function("() => document.querySelector('.tall.fits')", timeout=20000)
    assert page.evaluate(HEADING, ANSWER)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.add_style_tag(content="thead th { position: static !important; }")
    assert not page.evaluate(HEADING, ANSWER)
    one.context.close()
    assert one.faults == []


def test_axe_finds_no_serious_fault_on_a_large_board(wide: Visit) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page = wide.go()
    for label in ("joint", "ensemble"):
        page.locator("#answer-1").get_by_label(f"Compare {label}", exact=True).check()
    for opened in (False, True):
        if opened:
            page.locator("#side-by-side").click()
        found = axe.Axe().run(page).response["violations"]
        assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []


def test_a_large_page_stays_below_its_size(large: Path) -> None:
    assert (large / "leaderboard.html").stat().st_size < 2_000_000
