"""The one reader of YAML: what it takes, what it refuses with file, line and fix, and that nothing gets past it."""

from __future__ import annotations

import datetime
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from bad_input import ROOT, refused
from clone import environment
from quick import quick_first

from mmlbench.analysis.literature import read_source
from mmlbench.cli import main
from mmlbench.cli.doctor import study_findings
from mmlbench.errors import MmlbenchError
from mmlbench.study import config as configs
from mmlbench.study import guard
from mmlbench.study.yaml import DEEPEST, EXPONENT, LARGEST, parse_yaml, read_yaml

STUDY = (ROOT / "config" / "quick.yaml").read_text(encoding="utf-8")
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12)
)
LONG = "a0: &a0 " + "x" * 1000 + "\na1: &a1 [" + "*a0, " * 300 + "]\na2: [" + "*a1, " * 300 + "]\n"
#: What is refused: (bytes or text, the line, what is said, the fix).
REFUSED: list[tuple[str | bytes, int, str, str]] = [
    ("name: 2024-13-01\n", 1, "'2024-13-01' looks like a date and is none", "Put it in quotes"),
    ("name: 2024-01-01T25:00:00\n", 1, "looks like a date and is none", "Put it in quotes"),
    ("a: 1\nb: !!int ''\n", 2, "'' is no plain number", "Put it in quotes"),
    ("a: !!int x\n", 1, "'x' is no plain number", "Put it in quotes"),
    ("a: !!float x\n", 1, "'x' is no float", "Put it in quotes"),
    ("a: !!timestamp ''\n", 1, "'' looks like a date and is none", "Put it in quotes"),
    ("a: !!bool maybe\n", 1, "the tag !!bool is not taken for 'maybe'", "Remove the tag"),
    ("a: !!null x\n", 1, "the tag !!null is not taken for 'x'", "Remove the tag"),
    ("a: !!binary aGk=\n", 1, "the tag !!binary is not taken", "Remove the tag"),
    ("a: !!set {x: null}\n", 1, "the tag 'tag:yaml.org,2002:set' is not taken", "plain data only"),
    ("a: !!omap [x: 1]\n", 1, "the tag 'tag:yaml.org,2002:omap' is not taken", "plain data only"),
    ("a: !!python/object/apply:os.system ['true']\n", 1, "object/apply:os.system' is not taken", "plain data"),
    ("a: !!python/name:os.system ''\n", 1, "the tag !!python/name:os.system is not taken", "plain data only"),
    ("a: !mine 3\n", 1, "the tag '!mine' is not taken for '3'", "Remove the tag"),
    ("a: !unknown! 3\n", 1, "", ""),
    ("a: " + "9" * 5000 + "\n", 1, "a number of 5,000 digits", "Put it in quotes"),
    ("a: 0x" + "f" * 5000 + "\n", 1, "a number of 5,002 digits", "Put it in quotes"),
    ("a: 010\n", 1, "'010' is no plain number", "write a number in decimal"),
    ("a: 1:30\n", 1, "'1:30' is no plain number", "write a number in decimal"),
    ("a: 1:30.5\n", 1, "'1:30.5' is no plain number", "write a number in decimal"),
    ("a: =\n", 1, "'=' stands where a value is", "Put it in quotes"),
    ("a: <<\n", 1, "'<<' stands where a value is", "Put it in quotes"),
    ("a:\n  <<: 3\n", 2, "<< takes an alias of a mapping", "Write `<<: *NAME`"),
    ("a: " + "[" * 100_000, 1, f"more than {DEEPEST} levels of nesting", "Correct the brackets"),
    ("a: " + "{a: " * 100_000, 1, f"more than {DEEPEST} levels of nesting", "Correct the brackets"),
    ("".join("  " * k + "a:\n" for k in range(DEEPEST + 1)), 33, "levels of nesting", "Correct the brackets"),
    (BOMB, 1, "its aliases expand to too many values", "Write out what is meant"),
    (LONG, 1, "its aliases expand to too many values", "Write out what is meant"),
    ("a: &a [1, *a]\n", 1, "an alias holds itself", "Write out what is meant"),
    ("a: *b\n", 1, "found undefined alias", "Correct that line"),
    ("name: x\ngrid: []\nname: y\n", 3, "the key 'name' stands twice in one mapping, first in line 1", "Keep one"),
    ("grid:\n- dataset: a\n  methods: [x]\n  dataset: b\n", 4, "the key 'dataset' stands twice", "new entry"),
    ("1: a\ntrue: b\n", 2, "the key True stands twice", "Keep one"),
    ("? [a, b]\n: 1\n", 1, "a key is a sequence", "Keys are names"),
    ("{{a: 1}: 2}\n", 1, "a key is a mapping", "Keys are names"),
    ("a: 1\n---\nb: 2\n", 2, "a second document begins", "Keep one"),
    ("a:\n\tb: 1\n", 2, "cannot start any token", "Indent with spaces, not tabs"),
    ("a: b: c\n", 1, "mapping values are not allowed here", "in quotes"),
    ("a: [1\n", 2, "expected ',' or ']'", "Correct that line or the one above it"),
    ("a: 'x\n", 2, "unexpected end of stream", "Correct that line or the one above it"),
    ("a: 1\nb: \x00\n", 2, "the control character U+0000", "is it a text file"),
    ("a: 1\nb: \x1b[31m\n", 2, "the control character U+001B", "is it a text file"),
    ('a: "\\0"\n', 1, "a text holds the control character U+0000", "Remove it"),
    ('a: "\\e[2J"\n', 1, "a text holds the control character U+001B", "Remove it"),
    ('a: "\\ud800"\n', 1, "a text holds the control character U+D800", "Remove it"),
    ('a: "\\U00110000"\n', 0, "", "Correct the file"),
    (STUDY.encode("utf-16"), 1, "it is UTF-16 text", "Save it as UTF-8"),
    (STUDY.encode("utf-32"), 1, "it is UTF-32 text", "Save it as UTF-8"),
    ("a: 1\nb: grün\n".encode("latin-1"), 2, "byte 0xfc is no UTF-8", "Save the file as UTF-8"),
    (STUDY.encode("utf-16-le"), 1, "the control character U+0000", "is it a text file"),
    (b"a: " + b"x" * LARGEST, 0, "has more than 1 MiB", "Is it the right file"),
    ("[" + "1, " * 100_001 + "]", 1, "more than 100,000 values", "Split the file"),
    ("", 0, "is empty", "A study has a grid"),
    ("# only a comment\n", 0, "is empty", "A study has a grid"),
    ("- 1\n", 0, "is a list, not a mapping", "A study has a grid"),
    ("grid\n", 0, "is a text, not a mapping", "A study has a grid"),
    ("3\n", 0, "is a number, not a mapping", "A study has a grid"),
]  # fmt: skip


def written(folder: Path, content: str | bytes, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(("content", "line", "message", "fix"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_names_file_line_and_fix_within_a_second(content, line, message, fix, tmp_path, capsys):
    path = written(tmp_path, content)
    began = time.process_time()
    output = refused(capsys, "estimate", path, "--seconds", "0")
    assert time.process_time() - began < 10
    assert (f"{path}, line {line}: " in output) if line else (str(path) in output), output
    assert message in output and fix in output and len(output) < 500


def test_each_place_that_reads_yaml_has_the_same_reader(tmp_path, capsys, monkeypatch):
    """Config, recipe, profile of SLURM, published figures: one sentence for a key that stands twice."""
    twice = written(tmp_path, "a: 1\na: 2\n")
    message = f"{twice}, line 2: the key 'a' stands twice in one mapping"
    words = ["--dataset", "avdigits", "--method", "joint", "--seed", "0", "--results", tmp_path, "--cache", tmp_path]
    assert message in refused(capsys, "train", *words, "--recipe", twice)
    assert message in refused(
        capsys, "estimate", ROOT / "config" / "quick.yaml", "--seconds", "0", "--profile", twice
    )
    with pytest.raises(MmlbenchError, match="stands twice in one mapping"):
        read_source(twice)
    (finding,) = study_findings(twice, tmp_path, tmp_path)
    assert finding.verdict == "wrong" and message in finding.what
    named = [p for p in (ROOT / "mmlbench").rglob("*.py") if "yaml.safe_load" in p.read_text(encoding="utf-8")]
    assert named == []


def test_what_is_taken():
    """Dates stay text, numbers with an exponent are numbers, merge keys merge, a byte order mark is no matter."""
    text = (
        "\ufeffdate: 2024-01-02\nwhen: 2001-12-14t21:59:43.10-05:00\nlr: 1e-3\n"
        "same: [1.0e-3, .1E-2, 10e-4]\nplain: [5, 0.5, -3, 1_000, 0x10]\n"
        "truth: [true, no, On]\nempty: [~, null, ]\nquoted: ['1e-3', '010', \"2024-13-01\"]\nmany: |\n  a\n  \tb\n"
        "base: &base {seeds: [0, 1], split: x}\nblock: {<<: *base, split: y}\ntwo: {<<: [{a: 1}, {a: 2, b: 3}]}\n"
        "json: {\"a\": [1, {\"b\": null}]}\nname: grün 😀\n3: number\n"
    )  # fmt: skip
    found = parse_yaml(text.encode(), "x.yaml")
    assert found["date"] == "2024-01-02" and found["when"] == "2001-12-14t21:59:43.10-05:00"
    assert found["lr"] == 1e-3 and isinstance(found["lr"], float) and found["same"] == [1e-3] * 3
    assert found["plain"] == [5, 0.5, -3, 1000, 16] and found["truth"] == [True, False, True]
    assert found["empty"] == [None, None] and found["quoted"] == ["1e-3", "010", "2024-13-01"]
    assert found["block"] == {"seeds": [0, 1], "split": "y"} and found["two"] == {"a": 1, "b": 3}
    assert found["many"] == "a\n\tb\n" and found["name"] == "grün 😀" and found[3] == "number"
    assert parse_yaml(b"", "x") is None and parse_yaml(b"runtime: 1:30\n", "x", as_snakemake=True) == {"runtime": 90}


def test_what_is_read_is_a_copy(tmp_path):
    path = written(tmp_path, "a: [1]\n")
    read_yaml(path)["a"].append(2)
    assert read_yaml(path) == {"a": [1]}
    written(tmp_path, "a: [3]\n")
    assert read_yaml(path) == {"a": [3]}


# --- many files -----------------------------------------------------------------------------------------------
#: What is put into a study file at random places.
PIECES = [
    *(
        "[",
        "]",
        "{",
        "}",
        ":",
        ": ",
        "- ",
        "\n",
        "\n\n",
        "\t",
        " ",
        "  ",
        ",",
        "#",
        "&a ",
        "*a",
        "'",
        '"',
        "|",
        ">",
        "?",
        "%",
    ),
    *(
        "!!int ",
        "!!set ",
        "!!python/name:os.system ",
        "!x ",
        "@",
        "`",
        "<<: *a\n",
        "---\n",
        "...\n",
        "\x00",
        "\x1b[31m",
    ),
    *(
        "\x85",
        "\u2028",
        "\ufeff",
        "\u202e",
        "2024-13-01",
        "1:30",
        "010",
        "1e-3",
        "nan",
        ".inf",
        "-.inf",
        "~",
        "null",
        "yes",
    ),
    *("=", "9" * 5000, "0x", "1_", "x" * 300, "[" * 200, "grid:\n", "name: x\n", "seeds: ", "methods: ", "dataset: "),
    *("- joint\n", "\\ud800", "\U0001f600", "=cmd()", "+1", "@x"),
]


def mutated(text: str, rng: random.Random) -> bytes:
    """Return a study file with one to four accidents."""
    for _ in range(rng.randint(1, 4)):
        at, lines = rng.randrange(len(text) + 1), text.splitlines(keepends=True)
        kind = rng.randrange(5)
        if kind == 0:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 20) :]
        elif kind == 2 and lines:
            text += rng.choice(lines)
        elif kind == 3 and lines:
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            text = "".join(lines)
        else:
            word = rng.choice(text.split() or ["x"])
            text = text.replace(word, rng.choice(PIECES), 1)
    content = text.encode("utf-8", errors="surrogatepass")
    return content if rng.random() < 0.95 else content.replace(b"e", b"\xe9", 1)


def as_snakemake_reads(value: object) -> object:
    """Return what Snakemake's reader returns with its dates and its numbers with an exponent as ours."""
    if isinstance(value, dict):
        return {as_snakemake_reads(key): as_snakemake_reads(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_snakemake_reads(one) for one in value]
    if isinstance(value, datetime.date):
        return "a date"
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value


def test_whatever_is_taken_snakemake_reads_alike():
    """1,500 files: each is refused by one line, or read by Snakemake's reader too, to the same values."""
    taken = 0
    for number in range(1500):
        content = mutated(STUDY, random.Random(number))
        try:
            found = parse_yaml(content, "study.yaml")
        except MmlbenchError as error:
            assert error.exit_code == 2 and error.fix and "study.yaml" in error.what and "\n" not in str(error)
            continue
        taken += 1
        theirs = as_snakemake_reads(yaml.load(content.decode(), Loader=yaml.FullLoader))
        if "a date" not in str(theirs):
            assert str(theirs) == str(as_snakemake_reads(found)), number
    assert 150 < taken < 1400


@pytest.mark.parametrize("seed", quick_first(range(4), 1))
@pytest.mark.slow
def test_commands_answer_many_broken_studies_with_one_line(seed, tmp_path, capsys):
    """By `estimate`: exit code 2 and one line, or the file was no worse for it; `doctor` finds the same."""
    path, plain = tmp_path / "study.yaml", 0
    for number in range(60):
        path.write_bytes(mutated(STUDY, random.Random(f"{seed} {number}")))
        began = time.process_time()
        capsys.readouterr()
        code = main(["estimate", str(path), "--seconds", "0", "--results", str(tmp_path), "--cache", str(tmp_path)])
        out = capsys.readouterr()
        assert code in (0, 2) and "Traceback" not in out.err and time.process_time() - began < 20
        plain += code == 0
        lines = [line for line in out.err.splitlines() if line.startswith("mmlbench: ")]
        assert len(lines) == (code == 2) and all(str(path) in line and len(line) < 3000 for line in lines)
        found = [one.verdict for one in study_findings(path, tmp_path, tmp_path)]
        assert ("wrong" in found) == (code == 2)
        assert not set(out.err) & set("\x00\x1b\u202e\u2028")
    assert plain < 40


def called(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    streams = {"capture_output": True, "text": True, "timeout": 200, "check": False}
    return subprocess.run(command, cwd=folder, env=environment(), **streams)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: 2024-13-01\n", "line 1: '2024-13-01' looks like a date and is none"),
        ("a: " + "9" * 5000, "line 1: a number of 5,000 digits"),
        (BOMB, "line 1: its aliases expand"),
        ("a: " + "[" * 100_000, "line 1: more than 32 levels"),
        ("grid: []\ngrid: []\n", "line 2: the key 'grid' stands twice"),
        ("__use_yte__: true\n?import os: 1\n", "__use_yte__ makes it a template"),
    ],
    ids=["date", "digits", "bomb", "deep", "twice", "template"],
)
@pytest.mark.parametrize("how", ["configfile", "default", "profile"])
def test_under_snakemake_it_is_the_same_line(how, content, message, tmp_path):
    """For the config that the Snakefile names, for one of the command line, and for a profile."""
    for name in ("Snakefile", "config", "workflow", "pyproject.toml", "methods", "datasets"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = written(tmp_path, content, "mine.yaml")
    words = ["--configfile", "mine.yaml"] if how == "configfile" else ["--profile", "mine.yaml"]
    if how == "default":
        if "__use_yte__" in content:
            pytest.skip("a template in the default config is refused by its keys")
        (tmp_path / "config").unlink()
        (tmp_path / "config").mkdir()
        path, words = path.rename(tmp_path / "config" / "config.yaml"), []
    if how == "profile" and "__use_yte__" in content:
        pytest.skip("Snakemake's profiles may be templates")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert [line for line in lines if message in line] == lines[-1:] and lines[-1].startswith("mmlbench: "), (
        done.stderr
    )


def test_a_value_on_the_command_line_is_no_config_file(tmp_path, monkeypatch, capsys):
    """`--config seed=1` is no abbreviation: the files are looked at beside it, and nothing is said of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("import mmlbench\n", encoding="utf-8")
    written(tmp_path, "grid: []\ngrid: []\n", "mine.yaml")
    with pytest.raises(MmlbenchError, match="stands twice"):
        guard.check(["--cores", "1", "--configfile", "mine.yaml", "--config", "seed=1"])
    guard.check(["--config", "seed=1"])
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_study_reads_the_same_under_snakemake(tmp_path):
    """Dates and exponents reach the plan as the command line reads them."""
    for name in ("Snakefile", "config", "workflow", "pyproject.toml", "methods", "datasets"):
        (tmp_path / name).symlink_to(ROOT / name)
    path = written(
        tmp_path,
        "name: 2024-01-02\nrobustness: {noise: [5e-1, 1]}\ngrid:\n- dataset: avdigits\n  seeds: [0]\n"
        "  recipe_set: {lr: 1e-3}\n  methods: [joint]\n",
        "mine.yaml",
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--configfile", "mine.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    plan = read_yaml(tmp_path / "results" / "plan.json")
    assert plan["name"] == "2024-01-02" and plan["robustness"] == [0.5, 1.0]
    assert plan["cells"][0]["config"]["recipe"]["lr"] == 1e-3
    assert plan["cells"] == configs.read_study(path).plan().plain()["cells"]


def test_a_target_behind_the_profile_is_no_profile(tmp_path, monkeypatch):
    """`snakemake --profile slurm results/all_tables.csv`, typed again when the tables are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    Path("Snakefile").write_text("# mmlbench\n")
    for name in ("slurm", "more"):
        Path(name).mkdir()
        Path(name, "config.yaml").write_text("jobs: 3\n")
    Path("results").mkdir()
    Path("results/all_tables.csv").write_text('a,b\nx: y: z,"{"\n')
    guard.check(["--profile", "slurm", "results/all_tables.csv"])
    guard.check(["--profile", "slurm", "--profile", "more", "results/all_tables.csv"])
    Path("more/config.yaml").write_text("jobs: 3\njobs: 4\n")
    with pytest.raises(MmlbenchError, match=r"more/config\.yaml"):
        guard.check(["--profile", "slurm", "--profile", "more", "results/all_tables.csv"])
