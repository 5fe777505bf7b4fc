"""The page without a browser: its policy, the bundled library, rows, details, addresses; `test_browser.py` clicks."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import fake_runs
import pytest
from fake_runs import gabor, small

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.registry.index import load_index
from mmlbench.report import make_all
from mmlbench.report import page as page_module
from mmlbench.report.comparison import comparison_data
from mmlbench.report.curves import drawing
from mmlbench.results.load import read_plan

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "mmlbench" / "report" / "vendor"
VOID = ("meta", "input", "img", "wbr", "br", "line", "path", "circle")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("board") / "results"
    fake_runs.write_study(made, [small(seeds=(0, 1), epochs=6), gabor(seeds=(0, 1))])
    make_all(made, made.parent / "cache", lambda line: None)
    return made


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return (results / "leaderboard.html").read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Checks that elements close in order and that ids are used once."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


@pytest.mark.slow
def test_elements_close_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    found = Balance()
    found.feed(page)
    assert found.faults == [] and found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_only_the_scripts_of_the_page_may_run(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    wanted = " ".join(f"'sha256-{one}'" for one in hashes)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and len(scripts) == 2
    assert f"script-src {wanted};" in policy[1]
    assert "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]


def test_the_bundled_library_is_the_file_that_its_note_names() -> None:
    note = (VENDOR / "README.md").read_text(encoding="utf-8")
    library = (VENDOR / "dataTables.min.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() in note
    version = re.search(rb"DataTables (\d+\.\d+\.\d+)", library)
    assert version is not None and f"| {version[1].decode()} |" in note
    assert "Permission is hereby granted" in (VENDOR / "dataTables.LICENSE.txt").read_text(encoding="utf-8")


def test_without_a_script_the_headline_is_shown(page: str) -> None:
    rows = re.findall(r'<tr class="[^"]*" data-rule="(\w+)"[^>]*?( hidden)?>', page)
    assert {rule for rule, hidden in rows if not hidden} == {"last"}
    assert {rule for rule, hidden in rows if hidden} == {"val", "test"}
    assert '<form id="filters" role="search" aria-label="Filters" hidden>' in page


def test_the_answer_comes_before_any_words(page: str) -> None:
    first = [page.index(f'data-name="{name}"') for name in ("answer", "all", "accuracy", "competition_gap")]
    assert first == sorted(first)
    assert page.count('data-name="answer"') == page.count('class="answer"') == 2
    assert page.rindex('data-name="answer"') < page.index('class="story')


def test_details_tell_runs_curves_classes_configuration_and_how_to_make_it_again(results: Path, page: str) -> None:
    result_set = ResultSet.parse(read_plan(results), *make_frame(results, results))
    group = result_set.groups()[0]
    for entry in result_set.entries(group):
        body = page.split(f'<details class="one" id="row-{entry.row_id}"', 1)[1].split("\n</div>\n</details>", 1)[0]
        body = html.unescape(body)
        assert f"mmlbench reproduce {entry.row_id}" in body
        assert ("accuracy on each class" in body) == (entry.method != "unimodal")
        if entry.method == "logit_mean":  # made of the runs of others
            assert "no runs of its own" in body and "mmlbench train" not in body
            continue
        assert f"mmlbench train --dataset avdigits --method {entry.method}" in body
        assert f"runs/avdigits/speaker/{entry.method}/s1-" in body and '"split": "speaker"' in body
        assert entry.config_hash in body and entry.data_fingerprint in body
        assert ("Learning curves" in body) == (entry.method != "ensemble")
        assert ("accuracy on each class" in body) == (entry.method != "unimodal")


def test_recall_of_a_class_is_counted_from_the_predictions(results: Path, page: str) -> None:
    import numpy as np

    from mmlbench.results.run_folder import RunFolder

    recalls, accuracies = [], []
    for cell in read_plan(results).cells:
        if cell.label == "joint" and cell.config.dataset == "avdigits":
            found = RunFolder.open(results / cell.run).predictions
            label = found["test/label"]
            accuracies.append(float((found["last/test/fused"].argmax(1) == label).mean()))
            recalls.append(float((found["last/test/fused"].argmax(1) == label)[label == 2].mean()))
    message = f"{100 * np.mean(recalls):.1f} ± {100 * np.std(recalls, ddof=1):.1f}"
    body = page.split('data-title="joint on avdigits / speaker"', 1)[1].split("\n</div>\n</details>", 1)[0]
    value = 100 * accuracies[0]
    assert f'<tr><th scope="row">0</th><td>{value:.1f} (epoch 6)</td>' in body
    assert f'<th scope="row">c2</th><td>20</td><td>{message}</td>' in body.replace(' class="t"', "")


@pytest.mark.slow
def test_a_page_too_full_names_what_it_leaves_out(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(results, tmp_path / "results"))
    monkeypatch.setattr(page_module, "DETAIL_BYTES", 20_000)
    monkeypatch.setattr(page_module, "PICTURE_BYTES", 0)
    make_all(copy, tmp_path / "cache", lambda line: None)
    text = (copy / "leaderboard.html").read_text(encoding="utf-8")
    assert "make them again with mmlbench reproduce" in text and "See figures/accuracy-avdigits-speaker.svg" in text
    assert len(text) < 0.7 * len((results / "leaderboard.html").read_text(encoding="utf-8"))


def answers_of(results: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, list[str]]]:
    """Return of each dataset whether its methods can be ticked, and the calls that its answer names instead."""
    monkeypatch.setattr(page_module, "PAIR_BYTES", room)
    text = page_module.write_page(ResultSet.open(results), results / "leaderboard.html", {}, {}, lambda method: "")
    found = re.split(r'<div class="answer"', text.split('<section id="overall"', 1)[0])[1:]
    calls = [[html.unescape(call) for call in re.findall(r"<code>(mb\..*?)</code>", one)] for one in found]
    return [('data-pairs=""' not in one, call) for one, call in zip(found, calls, strict=True)]


def test_a_page_without_room_to_compare_names_the_call_that_does(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmlbench as mb

    result_set = ResultSet.open(results)
    first = len(comparison_data(result_set, result_set.groups()[0]))
    assert answers_of(results, page_module.PAIR_BYTES, monkeypatch) == [(True, []), (True, [])]
    one, other = answers_of(results, first, monkeypatch)
    assert one == (True, []) and not other[0] and len(other[1]) == 1
    call = other[1][0].replace('"results"', repr(str(results)))
    call = call.replace('"first"', '"joint"').replace('"second"', '"di_mml"')
    frame = eval(call, {"mb": mb})
    assert {"joint", "di_mml"} == {*frame["first"], *frame["second"]} and frame.value.notna().all()


def test_every_shipped_method_names_its_family() -> None:
    families = {entry.name: entry.facts["family"] for entry in load_index().of("method") if "methods" in entry.module}
    assert families["joint"] == "joint" and families["ogm_ge"] == families["ogm"] == "gradient modulation"
    assert [name for name, family in families.items() if family == "other"] == []


@pytest.mark.parametrize("lines", [{}, {"fused": [{1: 50.0}]}, {"a<b": [{1: 0.0, 2: 100.0}, {1: 5.0}]}])
def test_curves_of_any_length_are_drawn(lines: dict[str, list[dict[int, float]]]) -> None:
    drawn = drawing("a & b", lines)
    assert "nan" not in drawn and "a<b" not in drawn and ("a &amp; b" in drawn) == bool(lines)
