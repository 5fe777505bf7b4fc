"""The examples of the documentation, as printed, from their files to the tables, and other ways in from outside.

One study through the real Snakemake, in a copy of the working tree: the method, the dataset and the encoder of
`docs/add-a-*.md`, the same method once more through an entry point, and the three plug-ins of `tests/plugins/`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clone import GENERATED, copy_tree, environment

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ("alternating", "reinit", "missing_history")
RECIPES = {
    "brief": {"encoder": "small_cnn", "epochs": 3},
    "colour": {"encoder": {"signal": "small_cnn", "picture": "mean_colour"}, "epochs": 2},
}
GATED = {"method": "logit_norm", "label": "logit_norm, gated", "params": {"fusion": "gated", "weight": 0.05}}
STUDY = {
    "name": "docs",
    "plugins": ["tests/plugins"],
    "grid": [
        {
            "dataset": "two_views",
            "recipe": "brief",
            "seeds": [0],
            "methods": ["unimodal", "joint", "logit_norm", "logit_norm_copy", *PLUGINS],
        },
        {"dataset": "two_views", "recipe": "colour", "seeds": [0], "methods": [GATED]},
    ],
}
Rows = list[dict[str, str]]


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page, as printed."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def hashes(folder: Path) -> dict[str, str]:
    """Return path -> sha256 of everything in the working tree that is not generated."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = sorted(path for path in files if not GENERATED & set(path.parts))
    return {path.as_posix(): hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in kept}


@dataclass(frozen=True)
class World:
    """The copy after its study; `site` holds the other distribution, `before` the hashes of the untouched copy."""

    folder: Path
    site: Path
    before: dict[str, str]

    def call(self, *command: str) -> str:
        """Run a command in the copy, as a user would in a clone, and return what it printed."""
        env = environment(self.folder, self.site)
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def rows(self, **wanted: str) -> Rows:
        """Return the rows of all_tables.csv that have some values."""
        with (self.folder / "results" / "all_tables.csv").open(encoding="utf-8", newline="") as file:
            return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())]

    def run(self, method: str, recipe: str = "brief") -> Path:
        """Return the run folder of a method."""
        for path in sorted(self.folder.glob(f"results/runs/two_views/iid/{method}/*/run.json")):
            if json.loads(path.read_text(encoding="utf-8"))["config"]["recipe"]["name"] == recipe:
                return path.parent
        raise AssertionError(f"no run of {method} with the recipe {recipe}")

    def record(self, method: str, recipe: str = "brief") -> dict:
        """Return run.json of a method."""
        return json.loads((self.run(method, recipe) / "run.json").read_text(encoding="utf-8"))


def add_examples(folder: Path) -> None:
    """Save the printed examples where their pages say."""
    for page, place in (
        ("add-a-method", "methods/logit_norm.py"),
        ("add-a-dataset", "datasets/two_views.py"),
        ("add-an-encoder", "mmlbench/encoders/mean_colour.py"),
    ):
        assert not (folder / place).exists()
        (folder / place).write_text(blocks(page, "python")[0], encoding="utf-8")


def add_distribution(site: Path) -> None:
    """Put the example method into an installed package of another name, announced as the page prints it."""
    (group,) = (tomllib.loads(text)["project"]["entry-points"] for text in blocks("add-a-method", "toml"))
    ((name, module),) = group["mmlbench.methods"].items()
    package = site / module.partition(".")[0]
    info = site / f"{package.name}-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (package / f"{name}_copy.py").write_text(blocks("add-a-method", "python")[0], encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[mmlbench.methods]\n{name}_copy = {module}_copy\n", encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Copy the working tree, add the examples, and type the one command."""
    base = tmp_path_factory.mktemp("docs")
    folder, site = base / "clone", base / "site"
    copy_tree(folder)
    world = World(folder, site, hashes(folder))
    add_examples(folder)
    add_distribution(site)
    (folder / "config" / "docs.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    for name, fields in RECIPES.items():
        (folder / "config" / "recipes" / f"{name}.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    grid = ("--configfile", "config/docs.yaml")
    world.call("snakemake", "--cores", "1", "--quiet", "all", *grid, "--", "results/all_tables.csv")
    return world


def test_the_example_method_is_short():
    example, *_ = blocks("add-a-method", "python")
    assert len(example.splitlines()) <= 25


def test_no_file_of_the_project_was_touched(world):
    after = hashes(world.folder)
    added = {name: after.pop(name) for name in set(after) - set(world.before)}
    assert after == world.before
    examples = {"methods/logit_norm.py", "datasets/two_views.py", "mmlbench/encoders/mean_colour.py"}
    assert set(added) == examples | {"config/docs.yaml", *(f"config/recipes/{name}.yaml" for name in RECIPES)}


def test_the_examples_pass_the_linter(world):
    examples = ["methods/logit_norm.py", "datasets/two_views.py", "mmlbench/encoders/mean_colour.py"]
    world.call("ruff", "check", "--no-cache", *examples)
    world.call("ruff", "format", "--check", "--no-cache", *examples)


def test_the_example_method_reaches_its_row(world):
    import numpy as np

    (row,) = world.rows(
        table="accuracy", metric="accuracy", recipe="brief", label="logit_norm", kind="fused", selection="last"
    )
    with np.load(world.run("logit_norm") / "predictions.npz") as stored:
        right = stored["last/test/fused"].argmax(1) == stored["test/label"]
    assert len(right) == 60 and float(row["value"]) == pytest.approx(right.mean(), abs=1e-6)
    assert float(row["ci_low"]) < float(row["value"]) < float(row["ci_high"])
    history = (world.run("logit_norm") / "history.csv").read_text(encoding="utf-8")
    assert "diagnostic/penalty" in history and world.record("logit_norm")["mechanisms"]["penalty"] > 0
    ours = {"recipe": "brief", "label": "logit_norm", "selection": "last"}
    assert world.rows(table="accuracy", metric="difference", baseline="joint", **ours)
    gaps = world.rows(table="competition_gap", metric="gap", **ours)
    assert {gap["modality"] for gap in gaps} == {"signal", "picture", "mean", "worst"}


def test_all_of_them_stand_on_the_leaderboard(world):
    texts = [
        (world.folder / "results" / f"leaderboard.{kind}").read_text(encoding="utf-8") for kind in ("md", "html")
    ]
    for text in (*texts, world.call("mmlbench", "leaderboard")):
        plain = text.replace("\\_", "_").replace("<wbr>", "")  # where Markdown escapes and HTML may break
        for label in ("logit_norm", "logit_norm_copy", GATED["label"], *PLUGINS):
            assert re.search(rf"(?<!\w){label}(?![\w,])", plain), label


def test_the_copy_through_an_entry_point_gives_the_same_numbers(world):
    described = json.loads(world.call("mmlbench", "describe", "logit_norm_copy", "--json"))
    assert Path(described["path"]).is_relative_to(world.site)
    ours, copy = world.record("logit_norm")["files"], world.record("logit_norm_copy")["files"]
    assert ours == copy

    keys = ("table", "modality", "metric", "kind", "selection", "value")

    def facts(label: str) -> list[list[str]]:
        return [[row[key] for key in keys] for row in world.rows(label=label, recipe="brief")]

    assert facts("logit_norm") and facts("logit_norm") == facts("logit_norm_copy")


@pytest.mark.parametrize("method", PLUGINS)
def test_the_plugins_reach_the_tables(method, world):
    (row,) = world.rows(table="accuracy", metric="accuracy", label=method, kind="fused", selection="last")
    assert 0 <= float(row["value"]) <= 1 and row["n_test"] == "60"
    count_mechanism = world.record(method)["mechanisms"]
    assert count_mechanism and all(amount > 0 for amount in count_mechanism.values())


def test_a_recipe_uses_the_example_encoder(world):
    record = world.record("logit_norm", "colour")
    chosen = record["config"]["recipe"]["encoder"]
    assert {m: encoder["name"] for m, encoder in chosen.items()} == RECIPES["colour"]["encoder"]
    assert record["parameters"]["encoder/picture"] == 1 * 16 + 16  # the printed linear layer: weights and biases
    rows = world.rows(table="accuracy", metric="accuracy", recipe="colour", kind="fused", selection="last")
    assert {row["label"]: row["params"] for row in rows} == {GATED["label"]: "fusion=gated;weight=0.05"}
    assert {row["encoder"] for row in rows} == {"signal=small_cnn+picture=mean_colour"}


def test_the_pages_show_how_to_look_at_it(world):
    text = world.call("mmlbench", "describe", "logit_norm")
    assert "weight = 0.01" in text and "of the penalty" in text
    listed = world.call("mmlbench", "list")
    assert "FAILS" not in listed
    assert all(f"  {name} " in listed for name in ("logit_norm", "logit_norm_copy", "two_views", "mean_colour"))


def test_weights_from_a_file_reach_their_column(tmp_path):
    """The example of `docs/add-an-encoder.md`, saved and typed as printed, in a clone of its own."""
    folder = tmp_path / "clone"
    copy_tree(folder)
    _, encoder, script = blocks("add-an-encoder", "python")
    (study,), (commands,) = blocks("add-an-encoder", "yaml"), blocks("add-an-encoder", "sh")
    saved = {"mmlbench/encoders/stored_colour.py": encoder, "make_colour.py": script, "stored.yaml": study}
    for name, text in saved.items():
        (folder / name).write_text(text, encoding="utf-8")
    world = World(folder, tmp_path / "site", {})
    printed = world.call("bash", "-e", "-c", commands)
    digits = hashlib.sha256((folder / "colour.pt").read_bytes()).hexdigest()[:10]
    assert f"audio=small_cnn+visual=stored_colour:weights={digits}" in printed
    names = [name for name in saved if name.endswith(".py")]
    world.call("ruff", "check", "--no-cache", *names)
    world.call("ruff", "format", "--check", "--no-cache", *names)
