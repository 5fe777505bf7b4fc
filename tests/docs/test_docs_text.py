"""What README and docs name is there: links, files, configs, commands, encoders of a recipe."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import shipped
import yaml
from shipped import not_the_same, of_the_project

from mmlbench.cli.parser import make_parser, settings
from mmlbench.errors import ConfigError
from mmlbench.registry.index import Index, load_index
from mmlbench.study.config import read_study
from mmlbench.study.declared import dataset_facts
from mmlbench.study.recipe import RecipeFile, resolve_recipe
from mmlbench.study.run_spec import Request, resolve

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Folders of the project whose files are in the working tree; those of results/ and cache/ are generated.
FOLDERS = (
    "benchmarks",
    "config",
    "containers",
    "datasets",
    "docs",
    "methods",
    "mmlbench",
    "profiles",
    "published",
    "slurm",
    "tests",
    "tools",
    "workflow",
)
#: Names that stand for the reader's own.
OWN = re.compile(
    r"[A-Z]|my_|path/to|<|logit_norm|hard_again|look_ahead|mean_teacher|leave_one_out|mean_colour|stored_colour|two_views"
)


def fences(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a page without its code blocks, and the blocks as (language, text)."""
    pieces = re.split(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(pieces[::3]), list(zip(pieces[1::3], pieces[2::3], strict=True))


def snippets(text: str) -> list[str]:
    """Return a page's code: the lines of its blocks without a language, and what stands between backticks."""
    plain, blocks = fences(text)
    lines = [line.strip() for language, block in blocks if not language for line in block.splitlines()]
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", plain)]
    return [code for code in (*lines, *inline) if code]


def all_snippets(pattern: str) -> list[str]:
    """Return the snippets of all pages that match, each once."""
    found = [code for page in PAGES for code in snippets(page.read_text(encoding="utf-8"))]
    return sorted({code for code in found if re.match(pattern, code)})


COMMANDS = all_snippets(r"mmlbench [a-z]")


@pytest.fixture
def index() -> Index:
    """Return all that ships."""
    return load_index()


def test_the_readme_has_at_most_100_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", fences(page.read_text(encoding="utf-8"))[0])
    targets = [link.partition("#")[0] for link in links if "://" not in link]
    missing = [link for link in targets if link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    words = [word for code in snippets(page.read_text(encoding="utf-8")) for word in code.split()]
    paths = {word.strip("'\",.:;()") for word in words if word.startswith(tuple(f"{name}/" for name in FOLDERS))}
    named = {path for path in paths if not OWN.search(path)}
    assert [path for path in sorted(named) if not list(ROOT.glob(path.rstrip("/")))] == []


def test_there_is_something_to_check():
    assert len(COMMANDS) >= 10
    assert {command.split()[1] for command in COMMANDS} >= {
        "train",
        "list",
        "describe",
        "new",
        "prepare",
        "reproduce",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse_and_ask_for_what_is_there(command, index):
    given = shlex.split(command, comments=True)[1:]
    if len(given) == 1:  # a command's name in a sentence
        with pytest.raises(SystemExit) as done:
            make_parser().parse_args([*given, "--help"])
        assert done.value.code == 0
        return
    words = make_parser().parse_args(given)
    if command.split()[1] == "describe" and not OWN.search(words.name):
        assert [entry for entry in index.entries if entry.name == words.name and not entry.error]
    if command.split()[1] == "train" and words.method and not OWN.search(words.method):
        resolve(
            Request(
                dataset=words.dataset,
                method=words.method,
                seed=words.seed,
                split=words.split,
                recipe=words.recipe,
                params=settings(words.set),
                recipe_params=settings(words.recipe_set),
                dataset_params=settings(words.dataset_set),
            ),
            index,
        )


@pytest.mark.parametrize("command", all_snippets(r"snakemake "))
def test_snakemake_commands_name_a_target_and_a_config_that_are_there(command):
    words = shlex.split(command, comments=True)
    if words[1:2] == ["--lint"]:
        return
    assert "results/all_tables.csv" in words
    if "--configfile" in words:  # that each is a valid study is a test of its own
        assert (ROOT / words[words.index("--configfile") + 1]).is_file()


@pytest.mark.slow
def test_every_config_that_is_named_is_a_valid_study():
    named = {name for page in PAGES for name in re.findall(r"config/[\w-]+\.yaml", page.read_text(encoding="utf-8"))}
    assert "config/config.yaml" in named and len(named) >= 5
    for name in sorted(named):
        assert read_study(ROOT / name).runs


def test_make_targets_exist():
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = all_snippets(r"(\w+=\w+ )?make [a-z]")
    targets = {re.findall(r"make ([a-z-]+)", command)[0] for command in called}
    assert {"results", "test"} <= targets <= rules


def test_encoders_of_a_recipe_as_printed(index):
    printed = [yaml.safe_load(code)["encoder"] for code in all_snippets(r"encoder: ")]
    chosen = [encoder for encoder in printed if not OWN.search(str(encoder))]
    assert chosen
    modalities = dataset_facts(index.find("dataset", "avdigits")).modalities
    for encoder in chosen:
        found = resolve_recipe("embedded", RecipeFile({}, {}), {"encoder": encoder}, modalities, index).encoder
        assert set(found) == (set(encoder) if isinstance(encoder, dict) else {m.name for m in modalities})


def listed_methods(page: str) -> dict[str, str]:
    """Return method -> family, as the page on methods lists them."""
    return dict(re.findall(r"^\| `(\w+)` \| ([\w ]+) \|", page, re.MULTILINE))


def test_the_page_on_methods_lists_each_of_them_with_its_family(index):
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    there = {name: index.find("method", name).facts["family"] for name in of_the_project("methods")}
    fault = not_the_same(there, listed_methods(page), "docs/methods.md")
    assert not fault, fault
    assert listed_methods(page) == there, "a family in docs/methods.md is not that of the class"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"a file a method, {len(there)} of them" in readme, "README.md says another number of methods"
    missing = page.partition("## Not here yet")[2]
    assert not set(re.findall(r"`(\w+)`", missing)) & set(there)
    assert listed_methods(page.replace("| `agm` |", "| agm |")) != there


#: Dataset -> methods that need blocks of its encoders, which not all of them have.
NO_BLOCKS = {"avtdigits": {"greedy"}}


def method_of(entry: str | dict[str, Any]) -> str:
    """Return the method of an entry in a config's list."""
    return entry if isinstance(entry, str) else str(entry["method"])


@pytest.mark.parametrize("name", ["zoo", "zoo_tuned"])
def test_a_study_of_all_methods_leaves_none_out(name: str):
    study = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    for block in study["grid"]:
        there = {*of_the_project("methods")} - NO_BLOCKS.get(block["dataset"], set())
        named = [method_of(one) for one in block["methods"]]
        assert len(named) == len(set(named)), f"config/{name}.yaml names a method twice for {block['dataset']}"
        fault = not_the_same(there, named, f"config/{name}.yaml ({block['dataset']})")
        assert not fault, fault


def of_ours(block: dict[str, Any]) -> dict[str, Any]:
    """Return a block of a grid without the methods that its reader has added."""
    ours = of_the_project("methods")
    return block | {"methods": [one for one in block["methods"] if method_of(one) in ours]}


@pytest.mark.parametrize(
    ("name", "place"),
    [("zoo_avdigits", 0), ("zoo_gabor_nuisance", 1), ("zoo_avtdigits", 2), ("zoo_gabor_tones_pulse", 3)],
)
def test_a_study_of_shipped_scores_is_a_block_of_that_of_all_methods(name: str, place: int):
    whole, one = (yaml.safe_load((ROOT / "config" / f"{study}.yaml").read_text()) for study in ("zoo", name))
    (block,), own = one["grid"], [*one["grid"][0]["methods"], "of_a_reader"]
    assert of_ours(block) == whole["grid"][place]
    assert of_ours(block | {"methods": own}) == whole["grid"][place]
    assert of_ours(block | {"methods": own[1:]}) != whole["grid"][place]
    assert {key: one[key] for key in ("headline", "baseline")} == {
        key: whole[key] for key in ("headline", "baseline")
    }
    assert (ROOT / "published" / "baselines" / f"{name.replace('_', '-', 1)}.mmlb.tar.gz").exists()


def test_the_page_on_methods_says_how_many_runs_the_study_of_all_has():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    study = yaml.safe_load((ROOT / "config" / "zoo.yaml").read_text(encoding="utf-8"))
    runs = sum(len(block["seeds"]) * len(block["methods"]) for block in study["grid"])
    assert re.search(rf"\b{runs}\s+runs", page), f"docs/methods.md does not say that config/zoo.yaml has {runs} runs"


def test_what_is_missing_or_strange_in_a_list_is_named():
    assert not not_the_same(["joint", "mine"], ["mine", "joint"], "a page")
    fault = not_the_same(["joint", "mine"], ["joint", "theirs"], "a page")
    assert "a page" in fault and "mine" in fault and "theirs" in fault and "joint" not in fault.replace("joints", "")


def test_a_method_that_git_does_not_know_is_its_authors_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("kept", "own"):
        (tmp_path / "methods").mkdir(exist_ok=True)
        (tmp_path / "methods" / f"{name}.py").touch()
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    assert shipped.of_the_project("methods") == ["kept", "own"]  # no checkout
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "methods/kept.py"], check=True)
    assert shipped.of_the_project("methods") == ["kept"]


def test_the_checks_see_what_is_not_there():
    assert OWN.search("methods/my_idea.py") and not OWN.search("config/quick.yaml")
    with pytest.raises(SystemExit):
        make_parser().parse_args(["train", "--metod", "joint"])
    text = "see `docs/none.md` and\n```\nmmlbench trian --seed 0\n```\n"
    assert snippets(text) == ["mmlbench trian --seed 0", "docs/none.md"]
    with pytest.raises(SystemExit):
        make_parser().parse_args(shlex.split(snippets(text)[0])[1:])


def durations(text: str) -> dict[str, set[str]]:
    """Return command -> how long a text says that it takes."""
    found: dict[str, set[str]] = {}
    pattern = r"make (test|results|quick)(?![-\w])[^\n;]{0,110}?about (\d+ (?:minutes|seconds))"
    for name, duration in re.findall(pattern, text):
        found.setdefault(name, set()).add(duration)
    return found


def test_how_long_a_command_takes_is_said_in_one_way():
    places = [*PAGES, ROOT / "Makefile"]
    found: dict[str, set[str]] = {}
    for place in places:
        for name, said in durations(place.read_text(encoding="utf-8")).items():
            found.setdefault(name, set()).update(said)
    assert set(found) == {"test", "results", "quick"}
    assert all(len(said) == 1 for said in found.values()), found
    both = durations(
        "make test  # about 12 minutes\n`make test`: the tests, about 9 minutes\nmake test-long about 1 minutes\n"
    )
    assert both == {"test": {"12 minutes", "9 minutes"}}


def unknown_values(page: str, source: str) -> list[str]:
    """Return the values with an interval that one page prints and the other does not."""
    return [value for value in re.findall(r"[+−]?\d+\.\d \[[^\]]+\]", page) if value not in source]


def test_values_of_the_readme_are_those_of_the_measured_results():
    page, source = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    assert len(re.findall(r"\d \[", page)) > 20
    assert unknown_values(page, source) == []
    first = re.findall(r"\d+\.\d \[", page)[0]
    assert unknown_values(page.replace(first, "99.9 ["), source)


def studies(page: Path) -> list[str]:
    """Return the studies that a page prints whole, those with names of the reader's own left out."""
    printed = [block for language, block in fences(page.read_text(encoding="utf-8"))[1] if language == "yaml"]
    return [
        block for block in printed if "grid" in yaml.safe_load(block) and not OWN.search(block.partition("grid")[2])
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if studies(page)], ids=lambda page: page.name)
def test_a_printed_study_is_a_valid_one(page, tmp_path, monkeypatch):
    monkeypatch.setattr("mmlbench.study.config.check_runs", lambda *_, **__: None)  # the models are built elsewhere
    for block in studies(page):
        (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
        assert read_study(tmp_path / "study.yaml").runs


def test_the_tutorial_and_the_pages_on_how_to_print_studies():
    assert {"tutorial.md", "config.md", "robustness.md", "tuning.md"} <= {
        page.name for page in PAGES if studies(page)
    }


def test_a_printed_study_with_a_wrong_key_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```yaml\ngrid:\n  - {dataset: avdigits, seed: [0], methods: [joint]}\n```\n", encoding="utf-8")
    (block,) = studies(page)
    (tmp_path / "study.yaml").write_text(block, encoding="utf-8")
    with pytest.raises(ConfigError):
        read_study(tmp_path / "study.yaml")
