"""The form of plan.json and run.json: each key, each way to be wrong, through import, verify and tables.

Every value of a plan and of a record is taken away, made null, another type, nested, huge, empty or NaN, and every
mapping gets an unknown key; hashes follow as a careful forger makes them follow. Each such file is refused in one
line by every reader, or it is a legal one, and these are listed here.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from bad_input import refused, run
from fake_runs import small
from hypothesis import given
from hypothesis import strategies as st
from made_archives import Files, read_files, reseal, write_archive

from mmlbench.errors import DataError, brief
from mmlbench.results import archive
from mmlbench.results.load import load, read_plan
from mmlbench.results.record import parse_record
from mmlbench.results.verify import verify_run
from mmlbench.storage.atomic import json_text, read_json
from mmlbench.storage.form import Item
from mmlbench.storage.hashing import digest, file_digest
from mmlbench.study.plan import parse_plan

Path_ = tuple[str | int, ...]
GONE, EXTRA = object(), object()
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
#: How a value is made wrong: name -> what stands there instead.
WRONG: dict[str, Any] = {
    "missing": GONE,
    "unknown key": EXTRA,
    "null": None,
    "another type": True,
    "text": "evil",
    "a number": -7.5,
    "nested": {"a": {"b": [1]}},
    "in a list": ["x"],
    "deep": DEEP,
    "huge": 10**400,
    "long": "x" * 200_000,
    "empty text": "",
    "empty list": [],
    "empty mapping": {},
    "NaN": float("nan"),
    "infinite": float("inf"),
    "control": "a\x1b[31m\nb",
}
#: What stays legal: keys that are free text, free numbers or may be empty; each with the ways that are no fault.
LEGAL = {
    "plan": {
        r"title": {"missing", "empty text", "text"},
        r"name|baseline": {"text"},
        r"plugins": {"empty list", "in a list"},
        r"plugins\.\d+": {"missing", "text"},
        r"round": {"missing"},
        r"robustness": {"missing", "empty list"},
        r"robustness\.\d+": {"missing"},
        r"cells\.\d+": {"missing"},
        r"cells\.\d+\.(label|encoder)": {"text"},
        r"cells\.\d+\.tuned\.(command|scores|chosen)": {"missing"},
        r"cells\.\d+\.tuned\.scores": {"empty list"},
        r"cells\.\d+\.tuned\.scores\.\d+": {"missing"},
        r"cells\.\d+\.(tuned\.)?command\.\d*[13579]": {"text", "empty text"},
        r"methods\.\w+\.family": {"text", "empty text"},
        r"methods\.\w+\.requires": {"empty list", "in a list"},
        r"methods\.\w+\.requires\.\d+": {"missing", "text"},
        r"methods\.\w+\.trains_encoders": {"another type"},
        r"methods\.\w+\.defaults": {"empty mapping"},
        r"datasets\.\w+\.[\w.]+": {"text", "empty text"},
    },
    "record": {
        r"code\.version": set(),
        r"packages": {"empty mapping"},
        r"packages\.\w+": {"missing", "text"},
        r"class_names\.\d+": {"missing", "text"},
        r"parameters\.(heads|encoder/\w+)": {"missing"},
        r"flops\.train_per_sample": {"empty mapping"},
        r"flops\.train_per_sample\.\w+": {"missing"},
        r"logits\.\d+": {"missing"},
        r"selected\.(val|test)": {"missing"},
        r"selected\.\w+": {"empty list"},
        r"selected\.\w+\.\d+": {"missing"},
        r"selected\.\w+\.\d+\.stage": {"text"},
        r"mechanisms": {"empty mapping"},
        r"mechanisms\.\w+": {"missing", "a number"},
        r"probe": {"empty mapping"},
        r"probe\.\w+": {"missing", "empty mapping"},
        r"probe\.\w+\.\w+": {"missing"},
        r"probe\.\w+\.\w+\.accuracy\.(train|val)": {"missing"},
        r"requires": {"empty mapping"},
        r"requires\.\w+": {"missing"},
        r"bayes": {"empty mapping"},
        r"bayes\.\w+": {"missing"},
        r"evaluation\.reason": {"text", "empty text"},
        r"arithmetic\.deterministic": {"another type"},
        r"lengths": {"empty mapping"},
        r"lengths\.\w+": {"missing"},
        r"notes": {"empty list", "in a list"},
        r"notes\.\d+": {"missing", "text"},
    },
}  # fmt: skip
#: Hyper-parameters are free: any number, text, true, false or null; those of a plan's defaults and draws, too.
FREE = r"(.*\.)?(dataset_params|params|defaults|chosen|draws\.\d+)\.\w+"
#: Of a configuration, wherever it stands; a forger renames the run's folder with it.
CONFIG = {
    r"(.*\.)?config\.(params|dataset_params)": {"empty mapping"},
    r"(.*\.)?config\.recipe\.name": {"text"},
    r"(.*\.)?config\.recipe\.encoder\.\w+\.name": {"text"},
    r"(.*\.)?config\.recipe\.encoder\.\w+\.pretrained": {"another type"},
    r"(.*\.)?config\.recipe\.encoder\.\w+\.freeze": {"empty list", "in a list"},
    r"cells\.\d+\.config\.recipe\.encoder\.\w+": {"missing"},
    r"config\.(dataset|method|split)": {"text"},
}
FREE_WAYS = {"missing", "null", "another type", "text", "a number", "empty text"}
#: Mappings whose keys are names: an unknown one is one more name (its value here is a number).
NAMED = r".*(params|defaults|draws\.\d+|mechanisms|train_per_sample|parameters|bayes)"


def places(value: Any, at: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of every value, of a list only the first and the last."""
    if at:
        yield at
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, one in inner if isinstance(value, dict) else inner[:1] + inner[1:][-1:]:
        yield from places(one, (*at, key))


def changed(value: Any, at: Path_, to: Any) -> Any | None:
    """Return a copy with one value made wrong; None where that changes nothing, or is no such thing."""
    found = copy.deepcopy(value)
    parent = found
    for key in at[:-1]:
        parent = parent[key]
    old = parent[at[-1]]
    if to is GONE:
        del parent[at[-1]]
    elif to is EXTRA:
        if not isinstance(old, dict):
            return None
        old["evil"] = 1
    elif type(old) is type(to) and old == to:
        return None
    else:
        parent[at[-1]] = to
    return found


def legal(kind: str, at: Path_, way: str) -> bool:
    name = ".".join(map(str, at))
    if way == "unknown key":
        return bool(re.fullmatch(NAMED, name))
    if re.fullmatch(FREE, name):
        return way in FREE_WAYS
    return any(re.fullmatch(pattern, name) and way in ways for pattern, ways in (LEGAL[kind] | CONFIG).items())


# ---- what is mutated -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    """Return a study of one run with everything in its record, and its archive's files."""
    results = tmp_path_factory.mktemp("formed") / "results"
    methods = [m for m in fake_runs.default_methods() if m.label == "joint"]
    methods[0].notes, methods[0].params = ["a note"], {"fusion": "concat"}
    fake_runs.write_study(results, [small(methods=methods, seeds=(0,), bayes={"audio": 0.9, "fused": 0.95})])
    archive.pack(results, results.parent / "study.tar.gz")
    return results, read_files(results.parent / "study.tar.gz")


def full_plan(results: Path) -> dict[str, Any]:
    """Return the plan with every key that there is."""
    plan = read_json(results / "plan.json")
    plan |= {"title": "A title", "round": 2, "plugins": ["mine"], "robustness": [0.5, 1.0]}
    cell = copy.deepcopy(plan["cells"][0])
    config, code = cell["config"], cell["code"]
    run = f"runs/{config['dataset']}/{config['split']}/{config['method']}"
    trials = [f"{run}/s1000-{digest(k)[:10]}" for k in range(2)]
    tuned = {"key": "0123456789", "rule": "last", "draws": [{"p": 0.1, "q": 1}, {"p": 0.2, "q": 1}], "trials": trials}
    tuned |= {"command": cell["command"]}
    plan["cells"].append(cell | {"label": "tuned", "tuned": tuned})
    plan["cells"][-1]["run"] = f"tuned/{run[5:]}/s{config['seed']}-0123456789-{code[:6]}"
    return plan


def full_record(results: Path) -> dict[str, Any]:
    record = read_json(next(results.glob("runs/*/*/*/*/run.json")))
    record |= {"evaluation": {"missing": "inputs", "probe": "nothing", "reason": "it mixes"}}
    record |= {"mechanisms": {"acts": 3.0}, "requires": {"unimodal": {"run": record["run"], "run_hash": "0" * 64}}}
    record |= {"probe": {"last": {"audio": {"penalty": 0.1, "accuracy": {"val": 0.5, "test": 0.5}}}}}
    return record | {"lengths": {"audio": 100}}


def follow(config_of: dict[str, Any]) -> None:
    """Let the hash of a configuration, and the run's name, follow from it, as a forger would."""
    config = config_of.get("config")
    try:
        key = digest(config)[:16]
        run = f"runs/{config['dataset']}/{config['split']}/{config['method']}/s{config['seed']}-{key[:10]}"
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    config_of["config_hash"] = key
    if str(config_of.get("run", "")).startswith("runs/"):
        config_of["run"] = run


def mutations(kind: str, whole: dict[str, Any]) -> Iterator[tuple[Path_, str, Any]]:
    for at in places(whole):
        for way, to in WRONG.items():
            made = changed(whole, at, to)
            if made is None:
                continue
            if "config" in at and at[-1] != "config_hash":
                place = made
                for key in at[: at.index("config")]:
                    place = place[key]
                follow(place)
            yield at, way, made
    for way in ("null", "text", "in a list", "NaN", "empty mapping", "huge", "deep"):
        to = WRONG[way]
        yield ("",), way, dict(to) if isinstance(to, dict) else to  # who takes it may write into it


def tally(kind: str, whole: dict[str, Any], read: Any) -> tuple[int, list[str], list[str]]:
    """Return how many mutations were read, those wrongly taken or wrongly refused, and those with another error."""
    count, wrong, other = 0, [], []
    for at, way, made in mutations(kind, whole):
        count += 1
        name = f"{'.'.join(map(str, at))}: {way}"
        try:
            read(made)
            fine = True
        except DataError as error:
            fine = False
            if len(str(error)) > 1500 or "\x1b" in str(error) or "\n" in str(error):
                other.append(f"{name}: a message of {len(str(error))} characters")
        except Exception as error:
            other.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
            continue
        if fine != legal(kind, at, way):
            wrong.append(f"{name}: {'taken' if fine else 'refused'}")
    return count, wrong, other


def test_every_mutation_of_a_plan(studied: tuple[Path, Files]) -> None:
    plan = full_plan(studied[0])
    parse_plan(plan, "plan.json")
    count, wrong, other = tally("plan", plan, lambda made: parse_plan(made, "plan.json"))
    assert (wrong, other) == ([], []) and count > 1500, count


def test_every_mutation_of_a_record(studied: tuple[Path, Files], tmp_path: Path) -> None:
    record = full_record(studied[0])
    parse_record(record, tmp_path / "run.json")
    count, wrong, other = tally("record", record, lambda made: parse_record(made, tmp_path / "run.json"))
    assert (wrong, other) == ([], []) and count > 1500, count


# ---- the same through the commands -----------------------------------------------------------------------------
def text_of(value: Any) -> str:
    """Return what a forger writes: JSON with NaN, where it has to be."""
    try:
        return json_text(value)
    except ValueError:
        return json.dumps(value, indent=1, sort_keys=True) + "\n"


def sampled(kind: str, whole: dict[str, Any], step: int) -> list[tuple[Path_, str, Any]]:
    """Return every step-th mutation that is no legal one."""
    return [m for m in mutations(kind, whole) if not legal(kind, m[0], m[1])][::step]


STEPS = [pytest.param(13, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", STEPS)
def test_a_malformed_record_through_verify_and_tables(studied: tuple[Path, Files], tmp_path: Path, step: int) -> None:
    results = Path(shutil.copytree(studied[0], tmp_path / "results"))
    folder = next(results.glob("runs/*/*/*/*"))
    whole = read_json(folder / "run.json")
    assert verify_run(folder, results) == [] and load(results, tmp_path)
    for at, way, made in sampled("record", whole, step):
        if isinstance(made, dict) and at != ("record_hash",):
            made.pop("record_hash", None)
            with contextlib.suppress(ValueError, RecursionError):  # NaN has no hash
                made["record_hash"] = digest(made)[:16]
        (folder / "run.json").write_text(text_of(made))
        for stamp in folder.glob("done-*"):
            stamp.write_text(file_digest(folder / "run.json") + "\n")
        faults = verify_run(folder, results)
        assert faults and all("\n" not in line and len(line) < 1500 for line in faults), (at, way, faults)
        with pytest.raises(DataError):
            load(results, tmp_path)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.slow
def test_a_malformed_plan_through_the_commands(
    studied: tuple[Path, Files], tmp_path: Path, step: int, capsys
) -> None:
    results = Path(shutil.copytree(studied[0], tmp_path / "results"))
    for k, (at, way, made) in enumerate(sampled("plan", full_plan(results), step)):
        (results / "plan.json").write_text(text_of(made))
        with pytest.raises(DataError, match=r"plan\.json"):
            read_plan(results)
        for words in (
            (["verify"], ["tables"], ["leaderboard"], ["export", "--to", tmp_path / "x"]) if k % 9 == 0 else ()
        ):
            line = refused(capsys, *words, "--results", results)
            assert len(line) < 1500 and "\x1b" not in line, (at, way, line)


@pytest.mark.parametrize("kind", ["plan", "record"])
@pytest.mark.parametrize("step", [pytest.param(67, id="some"), pytest.param(5, id="more", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_malformed_files_through_import(
    studied: tuple[Path, Files], tmp_path: Path, capsys, kind: str, step: int
) -> None:
    results, packed = studied
    name = next(name for name in packed if name.endswith("run.json")) if kind == "record" else "plan.json"
    whole = json.loads(packed[name]) if kind == "record" else full_plan(results)
    for at, way, made in sampled(kind, whole, step):
        if at == ("record_hash",):
            continue  # a forger who seals the record writes it anew
        files = {**packed, name: text_of(made).encode()}
        if kind == "record" and isinstance(made, dict):
            with contextlib.suppress(ValueError, KeyError, RecursionError, AttributeError, TypeError):
                reseal(files, name.rpartition("/")[0], {})
        bad = write_archive(tmp_path / "bad.tar.gz", files)
        line = refused(capsys, "import", bad, "--results", tmp_path / "in")
        assert len(line) < 1500 and "\x1b" not in line and str(tmp_path / "in" / ".") not in line, (at, way, line)
        assert not list((tmp_path / "in").glob("*")), (at, way)


@pytest.mark.parametrize(
    "name", ["plan.json", "run.json", pytest.param("provenance.json", marks=pytest.mark.slow), "archive.json"]
)
@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 100_000, "9" * 5000, "[" + "9" * 5000 + "]", "\xff", "", "{"]
)
def test_json_that_python_itself_refuses(
    studied: tuple[Path, Files], tmp_path: Path, capsys, name: str, text: str
) -> None:
    """Deep nesting ends in a RecursionError, long numbers in a ValueError: one line, from every reader."""
    results = Path(shutil.copytree(studied[0], tmp_path / "results"))
    if name != "archive.json":
        file = next(p for p in results.rglob("*.json") if p.name == name)
        file.write_text(text, encoding="latin-1")
        message = run(capsys, "verify", "--results", results)
        assert message[0] in (1, 2)
        assert run(capsys, "tables", "--results", results)[0] == (0 if name == "provenance.json" else 2)
    whole = next(n for n in studied[1] if n.endswith(name))
    bad = tmp_path / "bad.tar.gz"
    if name == "archive.json":
        with tarfile.open(bad, "w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(text.encode("latin-1"))
            tar.addfile(member, io.BytesIO(text.encode("latin-1")))
    else:
        write_archive(bad, {**studied[1], whole: text.encode("latin-1")})
    refused(capsys, "import", bad, "--results", tmp_path / "in")


def test_what_is_shown_of_a_value_is_short() -> None:
    for value in (
        10**6000,
        -(10**5000),
        "x" * 10**6,
        "\x1b[2J" * 99,
        DEEP,
        {"a": DEEP},
        [10**5000] * 99,
        float("nan"),
    ):
        assert len(brief(value)) <= 300 and "\x1b" not in brief(value), value
    with pytest.raises(DataError, match="a number of more than 60 digits"):
        Item(10**6000, "f").integer()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.dictionaries(st.integers(), inner),
        max_leaves=20,
    )
)
def test_json_text_is_that_of_json_dumps(value):
    twice = {"b": [value, value], "a": OrderedDict(deeper=value, d=(value,))}  # the same object at three places
    assert json_text(twice) == json.dumps(twice, indent=1, sort_keys=True) + "\n"


def test_json_text_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": [float("nan")]})
    with pytest.raises(TypeError):
        json_text({"a": {1, 2}})
