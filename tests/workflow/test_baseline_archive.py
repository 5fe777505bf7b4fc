"""An archive of scores under the real Snakemake: what it holds is made; the commands of docs/baselines.md work."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from clone import TABLES, Clone, study

from mmlbench.analysis.rows import NoValue, parse_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "baselines.md"
#: A study whose config has the name that the page uses, with a row that reuses another's runs.
ZOO = study(["ensemble", "joint"]) | {"name": "zoo_avdigits"}
PLUGINS = ("--plugins", "mmlbench/testing/plugins")


def commands() -> list[list[str]]:
    """Return the commands of the page's first section, in order, each in its words; without comments."""
    section = PAGE.read_text(encoding="utf-8").partition("## See your method")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.split() for line in lines if line]


@pytest.mark.slow
def test_the_commands_of_the_page_show_a_row_beside_imported_ones(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    zoo = clone.folder / "config" / "zoo_avdigits.yaml"
    zoo.write_text(yaml.safe_dump(ZOO), encoding="utf-8")
    snakemake = ("snakemake", "--cores", "1", TABLES, "--configfile", "config/zoo_avdigits.yaml")
    assert clone.call(*snakemake).code == 0
    full = {row.row_id: row for row in parse_rows((clone.folder / TABLES).read_text())}
    place = "published/baselines/zoo-tiny.mmlb.tar.gz"
    assert clone.call("mmlbench", "export", "--scores", "--to", place).code == 0
    for name in ("results", "cache", ".snakemake"):
        shutil.rmtree(clone.folder / name)

    found = commands()
    assert [words[:2] for words in found][:2] == [["mmlbench", "prepare"], ["mmlbench", "import"]]
    own = study(["ensemble", "joint", "ogm"]) | {"name": "zoo_avdigits"}
    zoo.write_text(yaml.safe_dump(own), encoding="utf-8")  # the user adds a method, by hand
    for words in found:
        words = [{"avdigits": "tiny", "zoo-avdigits": "zoo-tiny"}.get(word, word) for word in words]
        answer = clone.call(*words, *(PLUGINS if words[1] == "prepare" else ()))
        assert answer.code == 0, answer.text
        if words[1] == "import":
            before = clone.made()
        if words[0] == "snakemake":
            assert answer.jobs == ["ogm 0", "tables"], "what was imported is made"
            assert clone.trained_since(before) == {"ogm 0"}

    rows = {row.row_id: row for row in parse_rows((clone.folder / TABLES).read_text())}
    assert any(row.label == "ogm" and row.metric == "accuracy" for row in rows.values())
    same = [one for one in full.values() if one.table == "accuracy" and one.metric == "accuracy"]
    assert same and all(rows[one.row_id].value == one.value for one in same)
    assert {row.label for row in rows.values() if row.no_value is NoValue.SCORES_ONLY} >= {"joint", "ensemble"}

    # a method that reuses weights needs them: the line says how to train the run, and then it is trained in full
    own = study(["ensemble", "joint", "ogm", "umt"]) | {"name": "zoo_avdigits"}
    zoo.write_text(yaml.safe_dump(own), encoding="utf-8")
    log = clone.call(*snakemake)
    assert log.code != 0 and "--whole" in clone.log("umt 0")
    told = re.search(r"mmlbench train --spec (\S+) --whole", clone.log("umt 0"))
    assert told is not None and "unimodal" in told[1]
    answer = clone.call(*told[0].split(), *PLUGINS)
    assert answer.code == 0, answer.text
    assert (clone.run_folder("unimodal 0") / "weights-last.npz").exists()
    assert not (clone.run_folder("unimodal 0") / "scores.npz").exists()
    assert clone.call(*snakemake).code == 0
    assert clone.call("mmlbench", "verify").code == 0
