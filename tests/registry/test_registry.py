"""Plug-ins: how they are found, what is said of those that fail, and what finding them costs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from quick import quick_first
from written_datasets import dataset

from mmlbench import registry
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.modality import Modality, built_in
from mmlbench.registry import describe, index
from mmlbench.storage import paths
from mmlbench.storage.hashing import imported, statements

ROOT = Path(__file__).resolve().parents[2]


def listed(folder: Path, capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(["list", *words, "--plugins", str(folder)]) == 0
    return capsys.readouterr().out


def refused(capsys, *words: str) -> str:
    """Run a command that must be refused; return its one line."""
    capsys.readouterr()
    assert main(list(words)) == 2
    out = capsys.readouterr()
    assert out.out == "" and out.err.count("\n") == 1 and "Traceback" not in out.err
    return out.err


# --- cost ------------------------------------------------------------------------------------------------


def test_list_and_describe_import_no_torch_and_take_less_than_a_second():
    index.load_index()  # whatever is new costs its one import here
    code = (
        "import resource, sys\n"
        "from mmlbench.cli import main\n"
        "assert main(['list']) == main(['describe', 'joint']) == main(['describe', 'avdigits']) == 0\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = [name for name in ('torch', 'numpy', 'pandas', 'snakemake') if name in sys.modules]\n"
        "print('\\nSAYS', used.ru_utime + used.ru_stime, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    _, seconds, heavy = done.stdout.splitlines()[-1].split(maxsplit=2)
    assert heavy == "[]"
    assert float(seconds) < 1.0, "seconds of processor time for three commands"


@pytest.fixture
def imports(monkeypatch):
    """Count the files that are imported to be described, by name."""
    found: list[list[str]] = []
    real = index._describe_in_child

    def counted(wanted):
        found.append([source.path.name for source in wanted])
        return real(wanted)

    monkeypatch.setattr(index, "_describe_in_child", counted)
    return found


def test_a_new_or_edited_file_costs_one_import(plugin_folder, imports):
    index.load_index()
    del imports[:]
    first, second = dataset(plugin_folder, "one"), dataset(plugin_folder, "two")
    index.use_plugins([plugin_folder])
    index.load_index()
    index.load_index()
    first.touch()
    index.load_index()
    assert imports == [["one.py", "two.py"]]
    second.write_text(second.read_text() + "\n# edited\n")
    assert index.load_index().find("dataset", "two").summary == "Made for a test."
    index.load_index()
    assert imports[1:] == [["two.py"]]


def test_a_file_that_another_imports_counts_as_its_own(plugin_folder, imports):
    dataset(plugin_folder, "two", extra="from mmlbench.plugins.one import VALUE", doc="plain")
    helper = plugin_folder / "_one.py"
    helper.write_text("VALUE = 1\n")
    (plugin_folder / "two.py").write_text(
        (plugin_folder / "two.py").read_text().replace("plugins.one", "plugins._one")
    )
    index.use_plugins([plugin_folder])
    before = index.load_index().find("dataset", "two").fingerprint
    helper.write_text("VALUE = 1  # a comment\n")
    assert index.load_index().find("dataset", "two").fingerprint == before
    helper.write_text("VALUE = 2\n")
    assert index.load_index().find("dataset", "two").fingerprint != before
    assert [names for names in imports if "_one.py" in names] == []


@pytest.mark.parametrize(
    "edited", quick_first(["sub/deep.py", "sub/__init__.py", "sub/far.py", "sub/more/below.py"], 1)
)
def test_modules_of_a_package_beside_a_plugin_count_as_its_code(edited, plugin_folder):
    texts = {
        "sub/__init__.py": "from .far import FAR\n",
        "sub/deep.py": "from .more import below\nW = 1.0\n",
        "sub/far.py": "FAR = 1\n",
        "sub/more/__init__.py": "",
        "sub/more/below.py": "LOW = 1\n",
        "sub/other.py": "NOT_IMPORTED = 1\n",
    }
    for name, text in texts.items():
        (plugin_folder / name).parent.mkdir(exist_ok=True)
        (plugin_folder / name).write_text(text)
    dataset(plugin_folder, "two", extra="from mmlbench.plugins.sub.deep import W", doc="plain")
    index.use_plugins([plugin_folder])
    before = index.load_index().find("dataset", "two").fingerprint
    (plugin_folder / "sub/other.py").write_text("NOT_IMPORTED = 2\n")
    assert index.load_index().find("dataset", "two").fingerprint == before
    (plugin_folder / edited).write_text(texts[edited] + "CHANGED = 1\n")
    assert index.load_index().find("dataset", "two").fingerprint != before


def test_a_broken_file_costs_an_import_only_when_something_around_it_changes(plugin_folder, imports, monkeypatch):
    index.load_index()  # what is there anyway has its entries before
    (plugin_folder / "one.py").write_text("import a_package_that_is_missing\n")
    index.use_plugins([plugin_folder])
    index.load_index()
    index.load_index()
    assert [names for names in imports if "one.py" in names] == [["one.py"]]
    site = plugin_folder.parent / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))  # a further place
    index.load_index()
    assert len([names for names in imports if "one.py" in names]) == 2
    (site / "a_package_that_is_missing.py").write_text("")  # it is installed now
    assert "registers nothing" in next(one.error for one in index.load_index().entries if one.name == "one")
    assert len([names for names in imports if "one.py" in names]) == 3


def test_what_is_described_anew_is_what_is_read_back_in_its_order_too(plugin_folder, tmp_path, monkeypatch):
    """Else the first `mmlbench list --json` after an edit would print other bytes than the next one."""
    monkeypatch.setenv("MMLBENCH_INDEX", str(tmp_path / "own"))
    index.use_plugins([plugin_folder])
    dataset(plugin_folder, "birds")
    first, again = (json.dumps([one.__dict__ for one in index.load_index().entries]) for _ in range(2))
    assert first == again


def test_what_files_import_is_kept_until_one_is_edited(plugin_folder, tmp_path, monkeypatch):
    """To parse all files takes most of the time of an index that is up to date."""
    monkeypatch.setenv("MMLBENCH_INDEX", str(tmp_path / "own"))
    (plugin_folder / "_one.py").write_text("VALUE = 1\n")
    dataset(plugin_folder, "two", extra="from mmlbench.plugins._one import VALUE", doc="plain")
    index.use_plugins([plugin_folder])
    parsed, real = list[str](), index.imported

    def counted(text: str, module: str, path: Path):
        parsed.append(path.name)
        return real(text, module, path)

    monkeypatch.setattr(index, "imported", counted)
    index.load_index()
    assert {"two.py", "_one.py"} <= set(parsed)
    del parsed[:]
    index.load_index()
    assert parsed == []
    (plugin_folder / "_one.py").write_text("import json\n\nVALUE = 1\n")
    index.load_index()
    assert parsed == ["_one.py"]


def test_damage_of_what_files_import_costs_time_only(plugin_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MMLBENCH_INDEX", str(tmp_path / "own"))
    (plugin_folder / "_one.py").write_text("VALUE = 1\n")
    dataset(plugin_folder, "two", extra="from mmlbench.plugins._one import VALUE", doc="plain")
    index.use_plugins([plugin_folder])
    before = index.load_index().find("dataset", "two").fingerprint
    kept = paths.index_folder() / "imports.json"
    whole = kept.read_bytes()
    for damage in (b"garbage", b"\xff", b"[]", b"1", b'{"a": 1}', b"{" * 9999):
        kept.write_bytes(damage)
        assert index.load_index().find("dataset", "two").fingerprint == before
        assert json.loads(kept.read_bytes()) == json.loads(whole)
    (plugin_folder / "_one.py").write_text("VALUE = 2\n")
    assert index.load_index().find("dataset", "two").fingerprint != before


@pytest.mark.parametrize("damage", ["garbage", "{}", '{"surroundings": "", "entries": [{"kind": 1}]}'])
def test_a_damaged_index_is_made_again(damage, plugin_folder, own_index):
    index.load_index()  # what is there anyway has its entries before
    dataset(plugin_folder, "one")
    index.use_plugins([plugin_folder])
    before = set(own_index.rglob("*.json"))
    index.load_index()
    fresh = set(own_index.rglob("*.json")) - before  # other workers of the tests may write there too
    (entry,) = [path for path in fresh if str(plugin_folder) in path.read_text()]
    entry.write_text(damage)
    assert index.load_index().find("dataset", "one").facts["class_names"] == ["a", "b"]
    assert json.loads(entry.read_text())["entries"][0]["name"] == "one"


def test_an_index_that_cannot_be_written_costs_time_only(plugin_folder, monkeypatch):
    dataset(plugin_folder, "one")
    index.use_plugins([plugin_folder])
    monkeypatch.setenv("MMLBENCH_INDEX", "/dev/null")
    monkeypatch.setattr(
        index, "_folder_sources", lambda real=index._folder_sources: [s for s in real() if s.label == "one"]
    )
    assert index.load_index().find("dataset", "one").name == "one"


# --- what fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise ValueError('the reason')\n", "ValueError: the reason (line 2)"),
        ("def f(:\n", "SyntaxError"),
        ("import a_package_that_is_missing\n", "No module named 'a_package_that_is_missing' (line 1)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (line 2)"),
        ("import os\nos._exit(4)\n", "ended the process with status 4"),
        ("import sys\nsys.exit()\n", "SystemExit"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt (line 1)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines"),
        ("input('a question')\n", "EOFError"),
        ("x = 1\n", "it registers nothing: put @register above its class"),
        (
            "from mmlbench.registry import register\n@register\nclass A: ...\n",
            "no Method, Dataset, Encoder or ModalityType",
        ),
        ("\x00\n", "source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_fails_is_listed_with_its_error_and_refused_when_used(text, message, plugin_folder, capsys):
    path = plugin_folder / "broken.py"
    path.write_text(text)
    dataset(plugin_folder, "whole")
    out = listed(plugin_folder, capsys)
    line = next(line for line in out.splitlines() if line.split()[:2] == ["broken", "FAILS:"])
    assert str(path) in line and message in line
    assert "Made for a test." in out
    line = refused(capsys, "describe", "broken", "--plugins", str(plugin_folder))
    assert str(path) in line and message in line and "Fix the file" in line


@pytest.mark.parametrize("kind", [ValueError, SyntaxError])
def test_null_bytes_are_an_error_of_either_kind(kind, plugin_folder, capsys, monkeypatch):
    """Python's early patch versions (3.11.2 is Debian 12's) raise ValueError for them, later ones SyntaxError."""
    real = index.imported

    def parse(text, module, path):
        if "\x00" in text:
            raise kind("source code string cannot contain null bytes")
        return real(text, module, path)

    monkeypatch.setattr(index, "imported", parse)
    (plugin_folder / "broken.py").write_text(f"\x00{kind.__name__}\n")
    dataset(plugin_folder, "whole")
    out = listed(plugin_folder, capsys)
    assert "cannot contain null bytes" in next(
        line for line in out.splitlines() if line.split()[:2] == ["broken", "FAILS:"]
    )
    assert "Made for a test." in out


@pytest.mark.usefixtures("real_children")
def test_an_import_that_does_not_end_is_given_up(plugin_folder, capsys, monkeypatch):
    (plugin_folder / "slow.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(index, "LIMIT_S", -9)  # 1 s for one file
    assert "FAILS" in (out := listed(plugin_folder, capsys)) and "the import took more than 1 s" in out


def test_a_name_with_what_a_terminal_obeys_is_one_line_of_the_list(plugin_folder, capsys):
    (plugin_folder / "red\x1b[31m\nthe joint\u202e.py").write_text("raise ValueError('the reason')\n")
    out = listed(plugin_folder, capsys)
    assert "\x1b" not in out and "\u202e" not in out
    (line,) = [line for line in out.splitlines() if "the reason" in line]
    assert line.startswith("  red the joint")


def test_a_file_that_fails_is_in_every_list(plugin_folder, capsys):
    (plugin_folder / "broken.py").write_text("raise ValueError('the reason')\n")
    assert "the reason" in listed(plugin_folder, capsys, "encoders")
    found = json.loads(listed(plugin_folder, capsys, "datasets", "--json"))
    assert "the reason" in next(entry["error"] for entry in found if entry["name"] == "broken")


def test_what_a_file_prints_while_it_is_imported_goes_nowhere(plugin_folder, capfd):
    dataset(plugin_folder, "loud", extra="import os\nprint('NOISE')\nos.write(1, b'NOISE')\nos.write(2, b'NOISE')\n")
    assert main(["list", "--json", "--plugins", str(plugin_folder)]) == 0
    out = capfd.readouterr()
    assert "NOISE" not in out.out + out.err
    assert any(entry["name"] == "loud" and not entry["error"] for entry in json.loads(out.out))


def test_bytes_that_are_no_text_may_be_written_while_a_file_is_imported(plugin_folder, capsys):
    dataset(plugin_folder, "loud", extra="import os\nos.write(1, b'\\xff\\xfe')\nos.write(2, b'\\xff')\n")
    assert "FAILS" not in listed(plugin_folder, capsys)


DESCRIBED = {
    "keys of several types": ("super().describe() | {'more': {1: 'a', 'b': 2, None: 3}}", "what JSON can't hold"),
    "NaN": ("super().describe() | {'more': float('nan')}", "what JSON can't hold"),
    "an infinite number": ("super().describe() | {'more': [float('inf')]}", "what JSON can't hold"),
    "an object": ("super().describe() | {'more': object()}", "object is not JSON serializable"),
    "too deep": ("super().describe() | {'more': deep(2000)}", "nests more than 50 deep"),
    "what holds itself": ("super().describe() | {'more': itself()}", "nests more than 50 deep"),
    "a huge number": ("super().describe() | {'more': 10**5000}", "what JSON can't hold"),
    "nothing": ("None", "returns NoneType, no dict"),
    "a list": ("[1]", "returns list, no dict"),
    "too little": ("{'params': []}", "lacks 'modalities'"),
    "another type": ("super().describe() | {'splits': 5}", "'splits' as int, not as dict"),
}
HELPERS = """
import sys

sys.setrecursionlimit(5000)

def deep(count):
    return [deep(count - 1)] if count > 1 else []

def itself():
    found = []
    found += [found, found]
    return found
"""


@pytest.mark.parametrize("case", quick_first(DESCRIBED, 3))
def test_what_the_index_can_not_keep_of_a_plugin_is_a_fault_of_that_one(case, plugin_folder, capsys):
    returned, message = DESCRIBED[case]
    path = dataset(plugin_folder, "odd", extra=HELPERS)
    path.write_text(f"{path.read_text()}\n    @classmethod\n    def describe(cls):\n        return {returned}\n")
    dataset(plugin_folder, "whole")
    out = listed(plugin_folder, capsys)
    line = next(line for line in out.splitlines() if line.split()[:2] == ["odd", "FAILS:"])
    assert str(path) in line and message in line
    assert "Made for a test." in out and "avdigits" in out


WHOLE = {
    "static": "    @staticmethod\n    def describe():\n        return FACTS\n",
    "a function": "    describe = lambda: FACTS\n",
    "without faults": (
        "    @classmethod\n    def describe(cls):\n"
        "        return {key: value for key, value in super().describe().items() if key != 'faults'}\n"
    ),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_description_may_be_made_in_any_way(case, plugin_folder, capsys):
    path = dataset(plugin_folder, "whole")
    facts = index.load_index().find("dataset", "avdigits").facts
    path.write_text(f"FACTS = {facts!r}\n{path.read_text()}\n{WHOLE[case]}")
    assert "whole" in listed(plugin_folder, capsys) and "FAILS" not in listed(plugin_folder, capsys)


def test_what_the_usual_description_can_not_say_is_left_to_the_own_one(plugin_folder, capsys):
    path = dataset(plugin_folder, "whole")
    facts = index.load_index().find("dataset", "avdigits").facts
    own = "    splits = {}\n    @classmethod\n    def describe(cls):\n        return FACTS\n"
    path.write_text(f"FACTS = {facts!r}\n{path.read_text()}\n{own}")
    assert "FAILS" not in listed(plugin_folder, capsys)


@pytest.mark.parametrize(
    ("encoding", "first"), [("utf-8-sig", ""), ("latin-1", "# -*- coding: latin-1 -*-\n"), ("utf-8", "")]
)
def test_a_file_is_read_in_the_encoding_in_which_python_reads_it(encoding, first, plugin_folder, capsys):
    path = dataset(plugin_folder, "whole")
    path.write_bytes(f"{first}{path.read_text()}# caf\u00e9\n".encode(encoding))
    assert "whole" in listed(plugin_folder, capsys) and "FAILS" not in listed(plugin_folder, capsys)


def test_a_class_that_changes_its_name_later_is_a_fault_of_that_one(plugin_folder, capsys):
    path = dataset(plugin_folder, "odd")
    path.write_text(path.read_text() + "\nMade.name = 5\n")
    assert "odd" in (out := listed(plugin_folder, capsys)) and "kind and name with which it was registered" in out


def test_a_docstring_that_is_no_text_counts_as_none(plugin_folder, capsys):
    path = dataset(plugin_folder, "odd")
    path.write_text(path.read_text() + "    __doc__ = 5\n")
    dataset(plugin_folder, "whole")
    out = listed(plugin_folder, capsys)
    assert "FAILS" not in out and "Made for a test." in out


def test_a_file_that_fails_only_later_is_refused_in_one_line(plugin_folder, monkeypatch):
    dataset(plugin_folder, "moody", extra="import os\nassert 'MOOD' not in os.environ, 'not today'")
    index.use_plugins([plugin_folder])
    known = index.load_index()
    monkeypatch.setenv("MOOD", "bad")
    with pytest.raises(ConfigError, match=r"moody\.py can't be used: AssertionError: not today"):
        known.load("dataset", "moody")


def test_a_name_registered_twice_names_both_files(plugin_folder, capsys):
    one, two = dataset(plugin_folder, "one", "same"), dataset(plugin_folder, "two", "same")
    assert "registered twice" in listed(plugin_folder, capsys)
    line = refused(capsys, "describe", "same", "--plugins", str(plugin_folder))
    assert str(one) in line and str(two) in line and "Rename one of the two" in line


def test_a_plugin_that_takes_a_shipped_name_names_both_files(plugin_folder, capsys):
    path = dataset(plugin_folder, "mine", "avdigits")
    line = refused(capsys, "prepare", "avdigits", "--plugins", str(plugin_folder))
    assert str(path) in line and str(ROOT / "datasets" / "avdigits" / "__init__.py") in line


def test_a_broken_file_does_not_hide_a_whole_one_of_its_name(plugin_folder):
    (plugin_folder / "gabor_tones.py").write_text("raise ValueError\n")
    index.use_plugins([plugin_folder])
    assert index.load_index().find("dataset", "gabor_tones").path == str(ROOT / "datasets" / "gabor_tones.py")


def test_an_unknown_name_gets_the_nearest_ones(capsys):
    assert "unknown dataset 'avdigit'. Did you mean avdigits or avtdigits?" in refused(capsys, "prepare", "avdigit")
    assert "named 'di_mlm'. Did you mean di_mml" in refused(capsys, "describe", "di_mlm")
    assert "Known: " in refused(capsys, "describe", "zzzzzz")


def test_an_unknown_name_points_to_files_that_fail(plugin_folder, capsys):
    (plugin_folder / "broken.py").write_text("raise ValueError\n")
    line = refused(capsys, "prepare", "renamed", "--plugins", str(plugin_folder))
    assert "1 plug-in file fails to import: mmlbench list" in line


def test_names_that_start_with_an_underscore_are_not_discovered(plugin_folder, capsys):
    dataset(plugin_folder, "_hidden")
    assert "hidden" not in listed(plugin_folder, capsys)


@pytest.mark.parametrize("name", ["Big", "with space", "1st", "a" * 41, "a/b", "a-b", ""])
def test_a_name_that_is_none_is_refused(name, plugin_folder, capsys):
    dataset(plugin_folder, "one", name or " ")
    assert "can't name a dataset" in listed(plugin_folder, capsys)


def test_plugin_folders_that_are_not_there_or_share_a_file_name(plugin_folder, capsys):
    line = refused(capsys, "list", "--plugins", str(plugin_folder / "nowhere"))
    assert "nowhere does not exist" in line
    other = plugin_folder / "other"
    other.mkdir()
    dataset(plugin_folder, "one"), dataset(other, "one")
    line = refused(capsys, "list", "--plugins", str(plugin_folder), "--plugins", str(other))
    assert str(other / "one.py") in line and str(plugin_folder / "one.py") in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modalities": []}, "no modality"),
        ({"modalities": [{"name": "Fused", "shape": [1, 2], "views": 1}]}, "small letters"),
        ({"modalities": [{"name": "fused", "shape": [1, 2], "views": 1}]}, "the tables use it"),
        ({"modalities": [{"name": "a", "shape": [1, 2], "views": 1}] * 2}, "share a name"),
        ({"faults": ["its class names are fewer than two, or repeat"]}, "class names"),
        ({"splits": {"a/b": {"counts": {"train": 1, "test": 1}}}}, "the split 'a/b'"),
        ({"splits": {"iid": {"counts": {"train": 1}}}}, "no train or no test"),
        ({}, ""),
    ],
)
def test_facts_of_a_dataset_that_would_break_later_are_refused_at_once(change, message):
    whole = {
        "modalities": [{"name": "a", "shape": [1, 2, 2], "views": 1}],
        "class_names": ["x", "y"],
        "splits": {"iid": {"counts": {"train": 1, "val": 0, "test": 1}}},
    }
    faults = describe._faults_of_dataset({**whole, **change})
    assert message in "; ".join(faults) and bool(faults) == bool(message)


# --- ways in ---------------------------------------------------------------------------------------------


def test_a_second_import_name_is_an_error_that_says_so(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    before = set(sys.modules)
    try:
        with pytest.raises(
            ConfigError, match=r"'methods\.joint', a second name of 'mmlbench\.methods\.joint'"
        ) as caught:
            importlib.import_module("methods.joint")
        assert "Import it as mmlbench.methods.joint" in str(caught.value)
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "methods":
                del sys.modules[name]


@pytest.mark.parametrize("name", ["gabor_tones", "avdigits"])  # a file, and a folder
def test_the_second_name_is_seen_in_a_fresh_process_too(name):
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import datasets.{name}"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False)
    assert f"second name of 'mmlbench.datasets.{name}'" in done.stderr


@pytest.fixture
def distribution(plugin_folder, monkeypatch):
    """Install a distribution that announces plug-ins, by hand: a package and its metadata on sys.path."""
    site = plugin_folder.parent / "site"
    package, info = site / "their_plugins", site / "their_plugins-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_shared.py").write_text("VALUE = 1\n")
    dataset(package, "birds", extra="from ._shared import VALUE")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plugins\nVersion: 1.0\n")
    points = "[mmlbench.datasets]\nbirds = their_plugins.birds\nghost = their_plugins.ghost:Ghost\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(site))
    return package


def test_plugins_come_in_by_entry_points(distribution):
    found = index.load_index()
    birds = found.find("dataset", "birds")
    assert (birds.module, birds.path) == ("their_plugins.birds", str(distribution / "birds.py"))
    assert found.load("dataset", "birds").class_names == ("a", "b")
    (distribution / "_shared.py").write_text("VALUE = 2\n")
    assert index.load_index().find("dataset", "birds").fingerprint != birds.fingerprint
    with pytest.raises(ConfigError, match=r"No module named 'their_plugins\.ghost'"):
        found.find("dataset", "ghost")


def test_a_distribution_that_is_installed_later_is_seen(distribution, monkeypatch):
    """What the installed packages announce is kept within a process, until a place of `sys.path` changes."""
    info = distribution.parent / "their_plugins-1.0.dist-info"
    apart = distribution.parent.parent / info.name
    info.rename(apart)
    assert not any(one.name == "birds" for one in index.load_index().of("dataset"))
    apart.rename(info)
    assert index.load_index().find("dataset", "birds").module == "their_plugins.birds"


def test_the_folder_of_a_checkout_is_trusted_only_where_it_is_ours(tmp_path, monkeypatch):
    """In a wheel the neighbour of the package is site-packages: its `datasets` may be somebody else's."""
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "mmlbench")
    paths.checkout.cache_clear()
    try:
        (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
        assert paths.checkout() is None and paths.plugin_folders("datasets") == [tmp_path / "mmlbench" / "datasets"]
        paths.checkout.cache_clear()
        (tmp_path / "pyproject.toml").write_text('[project]\nname = "mmlbench"\n')
        assert paths.plugin_folders("datasets")[1] == tmp_path / "datasets"
    finally:
        paths.checkout.cache_clear()


def test_registering_what_is_no_plugin_is_refused():
    with pytest.raises(ConfigError, match="is no Method, Dataset, Encoder or ModalityType"):
        registry.register(type("Thing", (), {}))


def test_the_children_of_a_process_see_its_plugin_folders(plugin_folder):
    dataset(plugin_folder, "one")
    index.use_plugins([plugin_folder])
    assert str(plugin_folder) in os.environ["MMLBENCH_PLUGINS"].split(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-m", "mmlbench", "list", "datasets"], capture_output=True, text=True, check=True
    )
    assert "one" in done.stdout.split()


def test_imports_are_found_however_deep_they_stand():
    source = """
def outer():
    if True:
        import a.b
    else:
        from c import d
    try:
        from . import e
    except ImportError:
        import f
    finally:
        with open("x") as file:
            import g
    match 1:
        case 1:
            while True:
                import h
    return lambda: 1
class Inner:
    async def method(self):
        async for _ in self:
            import i
"""
    found = set(imported(source, "mmlbench.methods.x", Path("x.py")))
    assert found == {"a.b", "a", "c.d", "c", "mmlbench.methods.e", "mmlbench.methods", "mmlbench", *"fghi"}
    for file in sorted(paths.PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        there, ours = ({id(n) for n in walk(tree) if "Import" in type(n).__name__} for walk in (ast.walk, statements))
        assert there == ours, file


def test_a_kind_of_input_that_nothing_handles_is_refused() -> None:
    """Its frames, crops and noise would silently be left out."""
    for kind in built_in():
        assert Modality("audio", (1, 4), kind).type.name == kind
    with pytest.raises(ConfigError, match=r"'audio' is of the unknown kind 'sygnal'.* Did you mean signal\?"):
        Modality("audio", (1, 4), "sygnal")
