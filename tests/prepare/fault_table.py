"""The page `docs/raw-faults.md`: what `mmlbench prepare` says of each fault of a raw file, a list, a text.

Each row is a real preparation of a miniature, in this process. `PYTHONPATH=tests/support python
tests/prepare/fault_table.py` writes the page anew, in about three minutes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from bad_input import nothing_but_progress
from harmed_lists import DRESSES
from mini_texts import FILLER, TELLING
from raw_forms import FORMS, At, Form, Victim

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

PAGE = Path(__file__).resolve().parents[2] / "docs" / "raw-faults.md"
ANEW = "PYTHONPATH=tests/support python tests/prepare/fault_table.py"
#: Words of texts, and of what lies in place of a file or an id: no line may show them.
TEXTS = (*TELLING, *FILLER, "RT @", "caf\xe9", "title that no list")
IN_PLACE = ("Google Drive", "a whole sentence", "annex/objects", "sha256:4d7a")
#: A whole file or list that is another one than the finished cache was made of.
CHANGED = "changed after the preparation"
BARE = "not the official ones, without --lists"
#: Figures that hang on the encoder that wrote a miniature.
FIGURES = re.compile(r"\b[1-9]\d*(?= bytes)|(?<=at least )\d+|(?<=bytes of )\d+|(?<=byte )\d+|(?<=number )\d+")
#: How most lines about raw files end; the page has a word for it.
FETCH = re.compile(
    r"Fetch them again, or leave them out on purpose with --allow-missing CACHE/\S+\.faults\.csv "
    r"\(the tables will say so\)"
)


@dataclass(frozen=True)
class Seen:
    """A row: what befell which file, and the line that the user saw.

    Attributes:
        taken: whether `prepare` went on; the line then says what it counted or noted, if anything.
    """

    form: str
    file: str
    fault: str
    line: str
    taken: bool


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, and what it wrote."""

    code: int
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines that begin with the program's name."""
        return [line for line in self.err.splitlines() if line.startswith("mmlbench: ")]


#: The plug-ins are looked for once, not with each command: nothing here changes them.
plugins = functools.cache(load_index)


def run(words: list[str]) -> Outcome:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    once = mock.patch("mmlbench.api.plugins.load_index", plugins)
    with once, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return Outcome(code, err.getvalue())


@dataclass(frozen=True)
class Facts:
    """What a finished cache says of its raw files: notes, counts of texts, and its splits."""

    notes: tuple[str, ...]
    counts: Mapping[str, int]
    splits: Mapping[str, bytes]

    @classmethod
    def of(cls, root: Path) -> Facts:
        """Read those of the one cache in a folder."""
        (path,) = root.glob("*/manifest.json")
        cache = Cache.open(path.parent)
        texts = cache.manifest["raw"].get("texts", {})
        counts = {name: count for name, count in texts.items() if isinstance(count, int)}
        splits = {one.name: one.read_bytes() for one in path.parent.glob("split-*.csv")}
        return cls(tuple(cache.notes), counts, splits)

    def beside(self, plain: Facts) -> str:
        """Return what is said or counted here and not of the whole files."""
        found = [f"note: {note}" for note in self.notes if note not in plain.notes]
        changed = {name: count - plain.counts.get(name, 0) for name, count in self.counts.items()}
        if not found:
            found = [f"counted: {more:+d} {name}" for name, more in changed.items() if more > 0]
        if not found and self.splits != plain.splits:
            found = ["the splits follow the list"]
        return "; ".join(found)


@dataclass
class Bench:
    """A miniature on disk, and the folders of caches of its preparations: `plain` of whole files, and `harmed`."""

    form: Form
    folder: Path
    raw: Path = field(init=False)
    lists: Path | None = field(init=False)
    plain: Facts = field(init=False)

    def __post_init__(self) -> None:
        self.raw, self.lists = self.form.build(self.folder / "mini")
        whole = self.prepared("plain")
        assert whole.code == 0, whole.err
        self.plain = Facts.of(self.folder / "plain")
        again = self.prepared("plain")
        assert again.code == 0, again.err

    def path(self, victim: Victim) -> Path:
        """Return where a file lies."""
        base = self.raw if victim.at is At.RAW else self.lists
        assert base is not None, victim
        return base / victim.path

    def prepared(self, root: str) -> Outcome:
        """Prepare from the files as they are."""
        return run(self.form.words(self.raw, self.lists, self.folder / root))

    def shown(self, line: str) -> str:
        """Return a line with words in place of this machine's paths, and of figures that hang on an encoder."""
        places = [(self.raw, "RAW")] + ([(self.lists, "LISTS")] if self.lists and self.lists != self.raw else [])
        for path, word in sorted(places, key=lambda place: -len(str(place[0]))):
            line = line.replace(str(path), word)
        line = re.sub(rf"{re.escape(str(self.folder))}/\w+", "CACHE", line)
        line = line.replace(self.form.dataset, family_of(self.form.dataset))
        line = re.sub(r"(CACHE/\w+)-[0-9a-f]+", r"\1-KEY", line)
        return FIGURES.sub("N", line)

    @property
    def unseen(self) -> tuple[str, ...]:
        """What no line may show: texts, where the dataset has any, and what lies in place of a file."""
        texts = any("an emoji" in victim.harms for victim in self.form.victims)
        return (*IN_PLACE, *(TEXTS if texts else ()))

    @contextlib.contextmanager
    def harmed(self, victims: Sequence[Victim], fault: str) -> Iterator[None]:
        """Let a fault befall some files, and put them back."""
        spare = self.folder / "spare"
        spare.mkdir()
        places = [self.path(victim) for victim in victims]
        for number, path in enumerate(places):
            shutil.copy2(path, spare / str(number))
        try:
            for victim, path in zip(victims, places, strict=True):
                (victim.altered if fault == CHANGED else victim.faults()[fault][0])(path)
            yield
        finally:
            for number, path in enumerate(places):
                for other in [one for one in path.parent.iterdir() if one.name.casefold() == path.name.casefold()]:
                    other.rmdir() if other.is_dir() and not other.is_symlink() else other.unlink()
                shutil.copy2(spare / str(number), path)
            shutil.rmtree(spare)

    def row(self, file: str, fault: str, found: Outcome, root: Path) -> Seen:
        """Check what a command did, and return it as a row.

        Raises:
            AssertionError: it is not one line with exit code 2 and nothing half-written; a text or what runs shows.
        """
        where = (self.form.dataset, file, fault)
        assert "Traceback" not in found.err and "Exception ignored" not in found.err, (where, found.err)
        assert not list(self.folder.rglob("it_ran")), where
        if found.code == 0:
            facts = Facts.of(root)
            assert fault not in DRESSES or facts.splits == self.plain.splits, where
            line = self.shown(facts.beside(self.plain))
        else:
            assert found.code == 2 and len(found.lines) == 1, (where, found)
            assert root == self.folder / "plain" or nothing_but_progress(root), where
            line = self.shown(found.lines[0].removeprefix("mmlbench: "))
        assert not [word for word in self.unseen if word in found.err], (where, line)
        assert str(self.folder) not in line, (where, line)
        return Seen(self.form.name, file, fault, line, found.code == 0)

    def seen(self, victims: Sequence[Victim], fault: str) -> list[Seen]:
        """Return the rows of a fault that befalls some files at once."""
        root = self.folder / ("plain" if fault == CHANGED else "harmed")
        with self.harmed(victims, fault):
            found = self.prepared(root.name)
        rows = [self.row(victim.what, fault, found, root) for victim in victims]
        if found.code and len(victims) == 1 and fault != CHANGED:
            (victim,) = victims
            assert victim.faults()[fault][1] in found.lines[0], (self.form.dataset, victim.what, fault, found.lines)
            assert fault not in victim.taken, (self.form.dataset, victim.what, fault, found.lines)
        if found.code == 0 and fault != CHANGED:
            shutil.rmtree(root)
        return rows

    def rows(self) -> list[Seen]:
        """Return a row for each fault of each file; another dress befalls all lists at once where it is taken."""
        dressed: dict[tuple[str, str], Seen] = {}
        for fault in DRESSES:
            own = [victim for victim in self.form.victims if fault in victim.faults()]
            together = self.seen(own, fault) if len(own) > 1 else []
            dressed |= {(row.file, fault): row for row in together if row.taken}
        made = []
        for victim in self.form.victims:
            for fault in (*victim.faults(), CHANGED):
                row = dressed.get((victim.what, fault))
                made += [row] if row else self.seen([victim], fault)
        if self.form.own_lists:
            words = self.form.words(self.raw, None, self.folder / "harmed")
            made.append(self.row("the lists", BARE, run(words), self.folder / "harmed"))
        return made


def family_of(dataset: str) -> str:
    """Return the dataset whose raw files a dataset reads."""
    return re.sub(r"^(mosi|mosei|iemocap)_\d$", r"\1", dataset)


def rows_of(dataset: str, folder: Path) -> list[Seen]:
    """Return the rows of a dataset, whose miniatures are written into a folder."""
    found = []
    for number, form in enumerate(FORMS[dataset]):
        (folder / str(number)).mkdir()
        found += Bench(form, folder / str(number)).rows()
    return found


# ---- the page ----------------------------------------------------------------------------------------------------
HEAD = f"""# Faults of raw files, and what you see

`mmlbench prepare` stops at a fault with one line and exit code 2. What is decoded is kept for the next try.
The tables show that line for each fault, file by file. Miniatures of the datasets made them (`{ANEW}`).

- `RAW`, `LISTS` and `CACHE` stand for your folders, `N` for a figure.
- `FILE` stands for each file in the first column, and `file` for its name in the other case.
- `FETCH`: "Fetch them again, or leave them out on purpose with --allow-missing REPORT (the tables will say so)".
- **Taken** means that the preparation goes on. Behind it stands what the notes of the cache say or count then.
- Lists in another dress give the same splits: with a BOM, CRLF or LF, UTF-16, semicolons between the cells.
- No line shows a text of a dataset. Nothing in a pickle or in a list is run.
"""


def page(sections: Mapping[str, str]) -> str:
    """Return the page of family -> its section."""
    return HEAD + "".join(f"\n{text}" for text in sections.values())


def section(family: str, rows: Sequence[Seen]) -> str:
    """Return a family's part of the page: a table a form."""
    names = ", ".join(f"`{name}`" for name in FORMS if family_of(name) == family)
    made = [f"## {family}\n"] + ([f"The same for {names}.\n"] if "," in names else [])
    for form in dict.fromkeys(row.form for row in rows):
        made += [f"### {family}: {form}\n"] if form else []
        made.append("| file | what is wrong | the line that you see |\n|---|---|---|")
        own = [row for row in rows if row.form == form]
        made += [f"| {files} | {fault} | {cell} |" for files, fault, cell in _merged(own, family)]
        made[-1] += "\n"
    return "\n".join(made)


def _merged(rows: Sequence[Seen], family: str) -> Iterator[tuple[str, str, str]]:
    """Yield (files, fault, cell); files of which the same is said in one row."""
    paths = {victim.what: victim.path for form in FORMS[family] for victim in form.victims}
    groups: dict[tuple[str, str], list[Seen]] = {}
    for row in rows:
        cell = _cell(row)
        path = paths.get(row.file, "")
        name, bare = path.rpartition("/")[2], cell
        for shown, word in ((path, "FILE"), (name, "FILE"), (name.swapcase(), "file")):
            bare = bare.replace(shown, word) if shown else bare
        groups.setdefault((row.fault, bare), []).append(row)
    for (fault, bare), own in groups.items():
        yield ", ".join(row.file for row in own), fault, bare if len(own) > 1 else _cell(own[0])


def _cell(row: Seen) -> str:
    line = FETCH.sub("FETCH", row.line).replace("`", "'").replace("|", "\\|")
    return ("**taken**" + (f"; `{line}`" if line else "")) if row.taken else f"`{line}`"


def sections_of(text: str) -> dict[str, str]:
    """Return family -> its part of a page."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.strip() for part in parts}


def write() -> None:
    """Write the page anew."""
    made = {}
    for family in dict.fromkeys(map(family_of, FORMS)):
        with tempfile.TemporaryDirectory() as folder:
            made[family] = section(family, rows_of(family, Path(folder)))
    PAGE.write_text(page(made), encoding="utf-8")


if __name__ == "__main__":
    write()
