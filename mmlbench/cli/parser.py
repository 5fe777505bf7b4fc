"""The commands and their options."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from ..params import read_value
from ..version import __version__

#: The names of the tasks, as `mmlbench.task.ALL_TASKS` has them, which would import numpy before any command runs.
TASKS = ("classification", "multilabel", "regression")
#: The selection rules, and what stands for probes of untrained encoders: as `mmlbench.results.logits_key` has them.
SELECTIONS = ("last", "val", "test", "initial")


class Parser(argparse.ArgumentParser):
    """Says a wrong option or command in one line, with the nearest right one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what a command does not know, where its options are at hand."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            options = [word for action in self._actions for word in action.option_strings if word.startswith("--")]
            word = unknown[0].split("=")[0]
            self.error(
                f"unknown option {word!r}. {_capital(nearest(word, options))}"
                if word[:1] == "-"
                else f"unexpected argument {word!r}"
            )
        return found, unknown

    def error(self, message: str) -> Any:
        """Leave with exit code 2."""
        commands = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        if commands and "invalid choice: '" in message:
            word = message.split("invalid choice: '", 1)[1].split("'", 1)[0]
            message = f"unknown command {word!r}. {_capital(nearest(word, commands[0].choices))}"
        end = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"{self.prog}: {message}{end} See {self.prog} --help\n")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _call(module: str, function: str) -> Callable[[argparse.Namespace], int | None]:
    """Return a command that is imported when it is called."""

    def command(arguments: argparse.Namespace) -> int | None:
        return getattr(importlib.import_module(f"mmlbench.cli.{module}"), function)(arguments)

    return command


def setting(text: str) -> tuple[str, Any]:
    """Read `key=value`: a number, true, false, null, JSON such as {"audio": "small_cnn"}, or else the text itself."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    return name, read_value(value)


def end(text: str) -> float:
    """Read an end of a range, a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def seconds(text: str) -> float:
    """Read a number of seconds, at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def number(text: str) -> float:
    """Read a finite number."""
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError
    return value


def count(text: str) -> int:
    """Read a number of processes, at least 1."""
    value = int(text)
    if not 1 <= value <= 1024:
        raise ValueError
    return value


def counts(text: str) -> list[int]:
    """Read '3,5,10': numbers of at least 2."""
    values = [int(word) for word in text.split(",")]
    if not values or min(values) < 2:
        raise ValueError
    return values


def strengths(text: str) -> list[float]:
    """Read '0.5,1,2': strengths of noise, above 0, rising, of at most six digits (by which they are named)."""
    values = [float(word) for word in text.split(",")]
    if any(value != float(f"{value:g}") for value in values):
        raise ValueError
    if not all(0 < one < two for one, two in zip(values, [*values[1:], float("inf")], strict=True)):
        raise ValueError
    return values


def settings(pairs: list[tuple[str, Any]] | None) -> dict[str, Any]:
    """Return `--set` options as a mapping; a key given twice is an error."""
    found: dict[str, Any] = {}
    for name, value in pairs or []:
        if name in found:
            raise ConfigError(f"{name} is set twice", "Set it once")
        found[name] = value
    return found


def _places(parser: argparse.ArgumentParser) -> None:
    folder: dict[str, Any] = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument("--results", "--out", default=Path("results"), help="of results (default: results)", **folder)
    parser.add_argument("--cache", default=Path("cache"), help="of prepared caches (default: cache)", **folder)


def _plugins(parser: argparse.ArgumentParser) -> None:
    help_text = "with plug-in files; may be given several times"
    parser.add_argument("--plugins", type=Path, action="append", default=[], metavar="FOLDER", help=help_text)


def _run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", metavar="NAME", help="see: mmlbench list datasets")
    parser.add_argument("--method", metavar="NAME", help="see: mmlbench list methods")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="from 0 (default: 0)")
    parser.add_argument("--split", metavar="NAME", help="default: the dataset's first")
    parser.add_argument("--metric", default="", metavar="NAME", help="that picks epochs (default: the dataset's)")
    parser.add_argument("--recipe", default="embedded", metavar="NAME", help="in config/recipes, or a .yaml file")
    pair: dict[str, Any] = {"type": setting, "action": "append", "metavar": "KEY=VALUE"}
    parser.add_argument("--set", help="a parameter of the method", **pair)
    parser.add_argument("--recipe-set", help="a field of the recipe", **pair)
    parser.add_argument("--dataset-set", help="a parameter of the preparation", **pair)
    help_text = "draw N settings of its parameters, try each, take the best on the validation part"
    parser.add_argument("--tune", type=int, metavar="N", help=help_text)
    parser.add_argument("--tune-seed", type=int, default=1000, metavar="N", help="of the trials (default: 1000)")
    parser.add_argument("--tune-rule", default="last", choices=["last", "val"], help="epoch that they are judged by")
    parser.add_argument("--spec", type=Path, metavar="FILE", help="a run.json: make that very run")
    text = "train it even where an archive has brought its scores, whose place it takes"
    parser.add_argument("--whole", action="store_true", help=text)
    parser.add_argument("--expect", help=argparse.SUPPRESS)
    _files(parser)


def _files(parser: argparse.ArgumentParser) -> None:
    help_text = "a file that a run names by its content, such as weights; may be given several times"
    parser.add_argument("--file", type=Path, action="append", default=[], metavar="PATH", help=help_text)


def _add(commands: Any, name: str, text: str, module: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_call(module, name.replace("-", "_")))
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _registry_commands(commands: Any) -> None:
    listing = _add(
        commands, "list", "list methods, datasets, encoders and modality types", "plugins", "mmlbench list methods"
    )
    listing.set_defaults(command=_call("plugins", "list_plugins"))
    listing.add_argument(
        "kind", nargs="?", choices=["methods", "datasets", "encoders", "modalities"], help="only one kind"
    )
    listing.add_argument("--json", action="store_true", help="as JSON")
    _plugins(listing)
    one = _add(commands, "describe", "everything about one plug-in", "plugins", "mmlbench describe ogm_ge")
    one.add_argument("name")
    one.add_argument("--json", action="store_true", help="as JSON")
    _plugins(one)
    text = "check that a method, dataset or encoder keeps the rules, by runs of a few seconds"
    check = _add(commands, "check", text, "check", "mmlbench check my_idea --plugins my_plugins")
    check.add_argument("name")
    help_text = "a parameter of the method, such as lets its mechanism act in three epochs"
    check.add_argument("--set", type=setting, action="append", metavar="KEY=VALUE", help=help_text)
    _plugins(check)
    new = _add(commands, "new", "write the skeleton of a plug-in and its test", "new", "mmlbench new method my_idea")
    new.add_argument("kind", choices=["method", "dataset", "encoder"])
    new.add_argument("name")
    new.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PLACE",
        help="of a dataset: an .npz file, a folder of .npy files, or a .csv table of files, whose data it will be",
    )
    new.add_argument(
        "--kind",
        dest="kinds",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help="with --from: the type of a modality, where the data do not tell (see: mmlbench list modalities)",
    )
    new.add_argument(
        "--task",
        default="",
        choices=TASKS,
        help="with --from: what a label is, where the data do not tell: a class, several labels, or a number",
    )
    text = "with --from: the array or column of the targets (default: label)"
    new.add_argument("--label", default="", metavar="NAME", help=text)
    text = "with --from: the array or column of what samples have in common, such as the speaker (default: group)"
    new.add_argument("--group", default="", metavar="NAME", help=text)
    text = "with --from: the range of a target that is a number, such as -3 3"
    new.add_argument("--range", type=end, nargs=2, metavar=("LOW", "HIGH"), help=text)


def _raw_options(prepare: argparse.ArgumentParser) -> None:
    """Options of datasets whose raw files the user brings."""
    text = "folder (or archive) with the raw files, where the dataset needs one"
    prepare.add_argument("--raw", type=Path, metavar="FOLDER", help=text)
    text = "processes that decode (default: one a core); the bytes do not depend on it"
    prepare.add_argument("--workers", type=count, metavar="N", help=text)
    text = "ids to leave out, one a line (a report of faults will do), also several times; the tables say so"
    prepare.add_argument("--allow-missing", type=Path, action="append", metavar="LIST", help=text)
    text = "folder with split lists to use although they differ from the official ones; the tables say so"
    prepare.add_argument("--lists", type=Path, metavar="FOLDER", help=text)
    parts = prepare.add_mutually_exclusive_group()
    parts.add_argument(
        "--shard", metavar="I/N", help="decode the I-th of N parts alone, such as 3/16, on any machine"
    )
    text = "take what --shard 1/N to N/N have decoded, each of which must be there"
    parts.add_argument("--shards", type=count, default=0, metavar="N", help=text)


def _run_commands(commands: Any) -> None:
    prepare = _add(commands, "prepare", "prepare a dataset's cache", "run", "mmlbench prepare avdigits")
    prepare.add_argument("dataset")
    _raw_options(prepare)
    help_text = "a parameter of the preparation"
    prepare.add_argument("--dataset-set", type=setting, action="append", metavar="KEY=VALUE", help=help_text)
    prepare.add_argument("--expect", help=argparse.SUPPRESS)
    example = "mmlbench train --dataset avdigits --method ogm_ge --seed 0 --set alpha=0.5"
    text = "what to download for a dataset, and get it; of published weights, where they lie"
    fetch = _add(commands, "fetch", text, "fetch", "mmlbench fetch cremad")
    fetch.add_argument("dataset", help="a dataset, or the word weights")
    text = "after `weights`: of which network or model; the names that are known if left out"
    fetch.add_argument("name", nargs="?", metavar="WEIGHTS", help=text)
    fetch.add_argument("--into", type=Path, metavar="FOLDER", help="check what is there and download what may be")
    train = _add(commands, "train", "make one run; a complete one returns at once", "run", example)
    _run_options(train)
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    every = "seconds between two checkpoints, whatever they cost (default: 10 to 300, for at most 5 %% of the time)"
    train.add_argument("--save-every", type=seconds, metavar="SECONDS", help=every)
    example = "mmlbench audit avdigits --split index"
    audit = _add(commands, "audit", "what the parts of a split share, and what is wrong with them", "audit", example)
    audit.add_argument("dataset")
    audit.add_argument("--split", action="append", metavar="NAME", help="only this one; may be given several times")
    audit.add_argument("--lists", action="store_true", help="the split lists alone, even where a cache is prepared")
    audit.add_argument("--raw", type=Path, metavar="FOLDER", help="with the raw files, where they hold the lists")
    text = "write the test samples' groups to it, near-duplicates put together (for mmlbench tables --groups)"
    audit.add_argument("--groups", type=Path, metavar="FILE", help=text)
    audit.add_argument("--strict", action="store_true", help="exit code 1 where a leak or a fault is found")
    audit.add_argument("--dataset-set", type=setting, action="append", metavar="KEY=VALUE", help=help_text)
    example = "mmlbench robustness --noise 0.25,0.5,1,1.5,2"
    noise = _add(commands, "robustness", "test runs under noise on one modality", "robustness", example)
    noise.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders (default: all of --results)")
    help_text = "strengths in standard deviations of the inputs (default: 0.25,0.5,1,1.5,2)"
    noise.add_argument("--noise", type=strengths, default=[0.25, 0.5, 1.0, 1.5, 2.0], metavar="X,X", help=help_text)
    noise.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    _files(noise)
    _places(noise)
    _plugins(noise)
    for parser in (prepare, train, audit):
        _places(parser)
    for parser in (prepare, train, audit, fetch):
        _plugins(parser)


def _trust_commands(commands: Any) -> None:
    verify = _add(commands, "verify", "check runs against their hashes and predictions", "trust", "mmlbench verify")
    verify.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders (default: all of --results)")
    differ = _add(
        commands, "diff", "compare two result sets cell by cell", "trust", "mmlbench diff results other/results"
    )
    differ.add_argument("a", type=Path, metavar="A", help="a results folder, or an exported archive")
    differ.add_argument("b", type=Path, metavar="B")
    differ.add_argument("--everything", action="store_true", help="show the cells that are equal, too")
    text = "pack a study, or prepared data, into one archive"
    export = _add(commands, "export", text, "trust", "mmlbench export --to study.tar.gz")
    text = "the archive (default: study.tar.gz; of prepared data NAME-KEY.mmld.tar)"
    export.add_argument("--to", type=Path, metavar="FILE", help=text)
    text = "in place of a study the prepared data of this dataset, where their licence allows it"
    export.add_argument("--data", metavar="NAME", help=text)
    text = "with --data: a parameter of the preparation"
    export.add_argument("--dataset-set", type=setting, action="append", metavar="KEY=VALUE", help=text)
    text = "the samples' scores alone, without logits and weights: enough for most tables, about 20 KB a run"
    export.add_argument("--scores", action="store_true", help=text)
    text = "with --scores: of this dataset alone; may be given several times"
    export.add_argument("--dataset", action="append", default=[], metavar="NAME", help=text)
    text = "with --scores: of the planned runs that are made; else all have to be"
    export.add_argument("--so-far", action="store_true", help=text)
    merge = _add(
        commands,
        "import",
        "take over the runs, or the prepared data, of an archive, if they verify",
        "trust",
        "mmlbench import study.tar.gz",
    )
    merge.set_defaults(command=_call("trust", "import_"))
    text = "a file, or the name of archives that are shipped: zoo"
    merge.add_argument("archive", type=Path, metavar="ARCHIVE", help=text)
    text = "mark its rows as handed in by somebody: self-reported, until mmlbench reproduce has trained them again"
    merge.add_argument("--contributed", action="store_true", help=text)
    text = "check whether an archive of scores can be handed in as a row beside the shipped baselines"
    example = "mmlbench check-row mine.mmlb.tar.gz --plugins my_plugins"
    row = _add(commands, "check-row", text, "trust", example)
    row.add_argument("archive", type=Path, metavar="ARCHIVE", help="of mmlbench export --scores")
    for parser in (export, merge, row):
        _plugins(parser)
    for parser in (verify, export, merge, row):
        _places(parser)
    _power_command(commands)


def _power_command(commands: Any) -> None:
    plan = _add(
        commands,
        "power",
        "plan a study: seeds and test samples",
        "power",
        "mmlbench power --difference 6 --seeds 3,5,10",
    )
    plan.add_argument("--difference", type=number, required=True, metavar="POINTS", help="the true one to be found")
    plan.add_argument("--seeds", type=counts, default=[3, 5, 10], metavar="N,N", help="default: 3,5,10")
    plan.add_argument(
        "--samples", type=counts, default=[1000], metavar="N,N", help="of the test part (default: 1000)"
    )
    plan.add_argument("--comparisons", type=int, default=1, metavar="N", help="pairs that are compared (default: 1)")
    plan.add_argument(
        "--seed-sd", type=number, default=1.5, metavar="POINTS", help="of accuracy, as tables print it (default: 1.5)"
    )
    plan.add_argument(
        "--seed-sd-samples",
        type=int,
        metavar="N",
        help="test samples it was printed for (default: the first of --samples)",
    )
    plan.add_argument(
        "--disagreement", type=number, default=0.28, metavar="SHARE", help="of two models (default: .28)"
    )
    plan.add_argument(
        "--shared", type=number, default=0.2, metavar="SHARE", help="of it, by the sample (default: .2)"
    )
    plan.add_argument("--like", type=Path, metavar="RESULTS", help="take all that from a study's own runs")
    plan.add_argument("--cache", type=Path, default=Path("cache"), metavar="FOLDER", help="of prepared caches")


def _score_command(commands: Any) -> None:
    score = _add(commands, "score", "metrics of run folders", "report", "mmlbench score results/runs/*/*/joint/*")
    score.add_argument("runs", nargs="+", type=Path)
    score.add_argument("--part", choices=("test", "val"), default="test", help="of the split (default: test)")
    text = "which epoch's weights (default: last); initial: probes of untrained encoders"
    score.add_argument("--selection", choices=SELECTIONS, default="last", help=text)
    score.add_argument("--json", action="store_true", help="all parts and epochs, one number a line")


def _report_commands(commands: Any) -> None:
    _score_command(commands)
    tables = _add(
        commands, "tables", "make tables, leaderboard and figures from results/plan.json", "report", "mmlbench tables"
    )
    text = "intervals over these groups of test samples, a file of mmlbench audit --groups"
    tables.add_argument("--groups", type=Path, metavar="FILE", help=text)
    tables.add_argument("--expect", help=argparse.SUPPRESS)
    _places(tables)
    board = _add(commands, "leaderboard", "show the leaderboard in the terminal", "report", "mmlbench leaderboard")
    board.add_argument("--open", action="store_true", help="open the page in the browser instead")
    text = "of the datasets whose runs are all made and, apart, of those with two complete seeds; writes nothing"
    board.add_argument("--so-far", action="store_true", help=text)
    board.add_argument("--measures", action="store_true", help="print macro-F1, NLL, ECE and fusion gain too")
    text = "only this family of methods, and those that all are measured by; may be given several times"
    board.add_argument("--family", action="append", default=[], metavar="NAME", help=text)
    text = "only rows of this label or method; may be given several times"
    board.add_argument("--only", action="append", default=[], metavar="NAME", help=text)
    text = "only the first N of the ranking, and those that all are measured by"
    board.add_argument("--top", type=count, metavar="N", help=text)
    _places(board)
    _trust_commands(commands)
    stale = _add(
        commands,
        "stale",
        "list runs that the present code, config or data would make anew",
        "report",
        "mmlbench stale",
    )
    _places(stale)
    _plugins(stale)
    again = _add(
        commands,
        "reproduce",
        "train the runs behind a row again and compare",
        "reproduce",
        "mmlbench reproduce 1a2b3c4d5e",
    )
    again.add_argument("row_id")
    again.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    again.add_argument("--into", type=Path, help="keep the second runs here (default: a temporary folder)")
    _places(again)
    _files(again)
    _plugins(again)
    doctor = _add(
        commands, "doctor", "what is installed, what would run, what is missing", "doctor", "mmlbench doctor"
    )
    text = "the study to look at (default: config/config.yaml), named as for snakemake"
    doctor.add_argument("--configfile", "--config", dest="config", type=Path, metavar="FILE", help=text)
    text = "and the data of the study: what is prepared, which raw files are there, what is missing of them"
    doctor.add_argument("--data", action="store_true", help=text)
    text = "and this cluster: what it offers, whether a profile's jobs fit (default: slurm), and one test job"
    doctor.add_argument("--slurm", nargs="?", const="slurm", metavar="PROFILE", help=text)
    _places(doctor)
    example = "mmlbench estimate config/paper.yaml"
    guess = _add(commands, "estimate", "hours, jobs and disk of the runs to make", "estimate", example)
    guess.add_argument("config", type=Path, nargs="?", help="default: config/config.yaml")
    guess.add_argument("--device", default="auto", help="to measure on: auto, cpu, cuda or cuda:N")
    text = "to measure, on this machine as it is now, a dataset and recipe of which no run is made "
    text += "(default: 3; 0: nothing is measured)"
    guess.add_argument("--seconds", type=seconds, default=3.0, metavar="SECONDS", help=text)
    text = "of SLURM: how many runs share a GPU (default: slurm/config.yaml)"
    guess.add_argument("--profile", type=Path, default=Path("slurm/config.yaml"), metavar="FILE", help=text)
    _places(guess)
    _plugins(guess)


#: The commands as `mmlbench --help` shows them.
GROUPS = {
    "Run": ("train", "robustness", "estimate"),
    "Report": ("tables", "leaderboard", "diff", "score", "power"),
    "Data": ("prepare", "fetch", "audit"),
    "Verify": ("verify", "reproduce", "stale", "export", "import", "check-row"),
    "Develop": ("list", "describe", "new", "check", "doctor"),
}


def _grouped(commands: Any) -> str:
    """Return the commands by group, each with what it does.

    Raises:
        ValueError: a command stands in no group, or a group names none; a fault of the program.
    """
    named = [name for names in GROUPS.values() for name in names]
    if sorted(named) != sorted(commands.choices):
        raise ValueError(f"the groups of --help and the commands differ: {set(named) ^ set(commands.choices)}")
    width = 2 + max(map(len, named))
    return "\n\n".join(
        "\n".join([f"{group}:", *(f"  {name:{width}}{commands.choices[name].description}" for name in names)])
        for group, names in GROUPS.items()
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    question = "Does a multimodal method beat joint training, and what does competition cost each modality?"
    parser = Parser(
        prog="mmlbench",
        usage="mmlbench [-h] [--version] COMMAND ...",
        epilog="example:\n  snakemake --cores all results/all_tables.csv    # the whole study\n"
        "  mmlbench describe di_mml                        # one method",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mmlbench {__version__}")
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=Parser, help=argparse.SUPPRESS, prog="mmlbench"
    )
    _registry_commands(commands)
    _run_commands(commands)
    _report_commands(commands)
    parser.description = f"{question}\n\n{_grouped(commands)}"
    return parser
