"""Datasets from a table: a line a sample, with the names of its files or its text.

`mmlbench new dataset NAME --from TABLE.csv` writes the dataset's file by what it finds; that file's `prepare` decodes
what the table names with `Table.store`. The table has a header. Its columns:

    label, part      the class by its name, or a number, or names of labels with ; between; 'train', 'val' or 'test'
    id, group        where there are any
    NAME             a modality: files below the table's folder, all of one kind, or text

Files are pictures (.jpg, .jpeg, .png), sound (.wav, .flac, .mp3, .ogg, .m4a) or arrays (.npy): vectors (d,), or
sequences (T, d) whose T may differ. Everything else is text, in characters.

`label` and `group` may have other names, which `Table.open` is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..dataset import CacheWriter, Sample
from ..decode.fault import Fault, FaultKind
from ..decode.image import read_image, square
from ..decode.sound import read_sound
from ..decode.spectrograms import FRONT_ENDS, PADS
from ..decode.text import CHARACTERS, Characters, id_dtype
from ..errors import ConfigError, DataError, brief, nearest
from ..modality import Modality
from ..prepare.items import fill
from ..prepare.task import PIXELS, Item, Stored
from ..storage.words import plural
from ..task import Task
from . import targets
from .arrays import TABLES
from .lists import read_rows
from .targets import (
    GROUP,
    ID,
    LABEL,
    PART,
    Ends,
    check_modality_names,
    check_names,
    check_parts,
    check_there,
    counts_of,
    make_task,
    state,
    texts,
)

#: What a file is, by its ending.
PICTURE, SOUND, ARRAY = (".jpg", ".jpeg", ".png"), (".wav", ".flac", ".mp3", ".ogg", ".m4a"), (".npy",)
#: Pixels of a picture's sides, and what sound becomes, where the dataset's file says nothing else.
SIZE, FRONT_END = 64, "fbank_128"


def is_table(place: Path) -> bool:
    """Whether data come as a table."""
    return place.suffix.lower() in TABLES


@dataclass(frozen=True)
class Table:
    """The lines of a table: column -> cells.

    Args:
        label, group: names of the columns of targets and of groups.
    """

    place: Path
    cells: Mapping[str, Sequence[str]]
    label: str = LABEL
    group: str = GROUP

    @classmethod
    def open(cls, place: Path, label: str = LABEL, group: str = GROUP) -> Table:
        """Read a table.

        Args:
            label, group: names of the columns of targets and of groups; a group of the usual name may be missing.

        Raises:
            ConfigError: one column can't be both of them, or is another one's name.
            DataError: it is missing, has no lines, or lacks what every dataset needs.
        """
        check_names(label, group, (PART, ID))
        if not place.is_file():
            raise DataError(f"the table {place} does not exist", "Name a .csv file with a header")
        rows = read_rows(place, "\t" if place.suffix.lower() == ".tsv" else ",")
        header, lines = (rows[0], rows[1:]) if rows else ([], [])
        check_there(place, "column", header, label, group)
        if len(set(header)) < len(header):
            raise DataError(f"{place}: columns repeat in {', '.join(header)}", "Name each column once")
        for number, line in enumerate(lines, 2):
            if len(line) != len(header):
                what = f"{place}, line {number} has {plural(len(line), 'cell')}, the header has {len(header)}"
                raise DataError(what, "Give every line a cell for each column; quote cells with commas")
        cells = dict(zip(header, zip(*lines, strict=True), strict=True)) if lines else {}
        table = cls(place, cells, label, group)
        table._check()
        return table

    def _check(self) -> None:
        if not self.cells:
            raise DataError(f"{self.place} has no lines below its header", "Add a line a sample")
        if not self.names:
            raise DataError(f"{self.place} holds no modality", "Add a column of file names, or of text")
        check_parts(f"{self.place}: the column part", self.cells[PART])

    def __len__(self) -> int:
        return len(self.cells[self.label])

    @property
    def names(self) -> list[str]:
        """Names of the modalities, in their order."""
        return [name for name in self.cells if name not in (self.label, PART, ID, self.group)]

    def task(self, told: str = "", ends: Ends | None = None) -> Task:
        """Return the task that the column of targets is of; `told` is its name where the cells do not tell.

        Args:
            ends: the range of a number, where it has one.

        Raises:
            ConfigError: they are not of that task.
            DataError: a target is none that the task can have.
        """
        return make_task(self.place, np.array(self.cells[self.label]), None, told, self.label, ends)

    @property
    def ids(self) -> Sequence[str]:
        """Names of the samples; the numbers of their lines where the table names none."""
        return self.cells.get(ID) or [f"line {number}" for number in range(2, len(self) + 2)]

    def columns(self, kinds: Mapping[str, str]) -> list[Column]:
        """Return what the columns are.

        Raises:
            ConfigError: files of several kinds in a column, or a type that such files can't be of.
            DataError: an array can't be read, or is of another shape than the others.
        """
        check_modality_names(self.place, "column", self.names)
        for name in kinds:
            if name not in self.names:
                raise ConfigError(f"{self.place} has no column {brief(name)}", nearest(name, self.names))
        found = [self._column(name) for name in self.names]
        for column in found:
            if kinds.get(column.modality.name, column.modality.kind) != column.modality.kind:
                what = f"{self.place}: {column.modality.name} is {column.modality.kind}"
                raise ConfigError(what, "Leave out --kind, or bring other files")
        return found

    def _column(self, name: str) -> Column:
        cells = self.cells[name]
        endings = {Path(cell).suffix.lower() for cell in cells}
        if endings <= set(PICTURE):
            return Column(Modality(name, (3, SIZE, SIZE), "image"))
        if endings <= set(SOUND):
            return Column(Modality(name, (1, *FRONT_ENDS[FRONT_END].shape), "spectrogram"))
        if endings <= set(ARRAY):
            return Column(self._array(name))
        known = {*PICTURE, *SOUND, *ARRAY}
        if endings & known and all(" " not in cell for cell in cells):
            odd = next(cell for cell in cells if Path(cell).suffix.lower() not in known) if endings - known else ""
            what = f"{self.place}: the column {name} holds files of several kinds"
            raise ConfigError(f"{what} ({brief(odd)})" if odd else what, "Give each kind a column of its own")
        characters = Characters.of(cells)
        longest = max(len(cell) for cell in cells)
        declared = Modality(
            name,
            (max(1, longest),),
            "tokens",
            vocabulary=characters.vocabulary,
            tokenizer=CHARACTERS,
            tokenizer_hash=characters.hash,
        )
        return Column(declared, characters.alphabet)

    def _array(self, name: str) -> Modality:
        shapes = [self._shape(cell) for cell in self.cells[name]]
        first = shapes[0]
        for cell, shape in zip(self.cells[name], shapes, strict=True):
            if (
                len(shape) not in (1, 2)
                or shape[len(shape) - 1 :] != first[len(first) - 1 :]
                or len(shape) != len(first)
            ):
                what = f"{self.place}: {cell} is {list(shape)}, and {self.cells[name][0]} is {list(first)}"
                raise DataError(what, "Bring vectors (d,), or sequences (T, d) of one d")
        if len(first) == 1:
            return Modality(name, first, "vector")
        return Modality(name, (max(shape[0] for shape in shapes), first[1]), "sequence")

    def _shape(self, cell: str) -> tuple[int, ...]:
        try:
            return tuple(_array(self.place.parent / cell).shape)
        except Fault as fault:
            raise DataError(f"{self.place}: {cell} {fault.what}", "Bring the file, or correct the table") from None

    # ---- storing -----------------------------------------------------------------------------------------------
    def store(self, out: CacheWriter, split: str, columns: Sequence[Column]) -> None:
        """Decode all files into a cache, in parallel, and store the split.

        Raises:
            DataError: files or texts can't be used (all of them are listed), or a column is missing.
        """
        for column in columns:
            if column.modality.name not in self.cells:
                raise DataError(
                    f"{self.place} has no column {column.modality.name!r}", nearest(column.modality.name, self.names)
                )
        in_cells = [column for column in columns if column.is_text]
        in_files = [column for column in columns if not column.is_text]
        items = [
            Item(
                self.ids[k],
                tuple(self.cells[column.modality.name][k] for column in in_files),
                tuple(self.cells[column.modality.name][k] for column in in_cells),
            )
            for k in range(len(self))
        ]
        decoder = Decoder(tuple(in_files), tuple(in_cells), self.place.name)
        fill(out, self.place.parent, items, decoder.decode, {c.modality.name: c.stored for c in columns})
        for column in columns:
            if column.modality.type.has_length:
                cells = self.cells[column.modality.name]
                lengths = [
                    1 if row in out.left_out else len(cell) if column.is_text else self._shape(cell)[0]
                    for row, cell in enumerate(map(column.shown, cells))
                ]
                out.lengths(column.modality.name, np.array(lengths))
        groups = texts(np.array(self.cells[self.group])) if self.group in self.cells else [""] * len(self)
        labels = state(self.place, np.array(self.cells[self.label]), out.dataset.asks(), self.label)
        facts = zip(self.ids, self.cells[PART], labels, groups, strict=True)
        width = len(columns)
        out.split(split, [Sample(i, part, label, (k,) * width, g) for k, (i, part, label, g) in enumerate(facts)])

    def counts(self) -> dict[str, int]:
        """Return part -> number of samples."""
        return counts_of(list(self.cells[PART]))


@dataclass(frozen=True)
class Column:
    """A column of a table: the modality that it becomes, and the alphabet of a text."""

    modality: Modality
    alphabet: str = ""

    @property
    def is_text(self) -> bool:
        """Whether its cells are the input, not names of files."""
        return bool(self.alphabet)

    def shown(self, cell: str) -> str:
        """Return a cell as its characters are counted."""
        import unicodedata

        return unicodedata.normalize("NFC", cell) if self.is_text else cell

    @property
    def stored(self) -> Stored:
        """How its values are kept."""
        if self.modality.type.ids:
            return Stored(id_dtype(self.modality.vocabulary))
        dtype = self.modality.type.stored
        return PIXELS if dtype == PIXELS.dtype else Stored(dtype)

    def read(self, path: Path) -> np.ndarray:
        """Return a file's one view, (1, *shape).

        Raises:
            Fault: it can't be used.
        """
        shape = self.modality.shape
        ending = path.suffix.lower()
        if ending in PICTURE:
            return square(read_image(path, "RGB" if shape[0] == 3 else "L"), shape[1])[None]
        if ending in SOUND:
            front_end = FRONT_ENDS[FRONT_END]
            return front_end.spectrogram(read_sound(path, front_end.rate), PADS[0])[None, None].astype(np.float16)
        values = _array(path)
        if (
            values.shape[-1:] != shape[-1:]
            or values.ndim != len(shape)
            or (values.ndim == 2 and len(values) > shape[0])
        ):
            raise Fault(path, f"has the shape {list(values.shape)}, declared is {list(shape)}")
        found = np.zeros((1, *shape), np.float32)
        found[0, : len(values)] = values
        return found


@dataclass(frozen=True)
class Decoder:
    """Decodes the cells of a line; other processes can import it.

    Args:
        table: name of the table, for messages about texts.
    """

    files: tuple[Column, ...]
    texts: tuple[Column, ...]
    table: str

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        """Return modality -> its view (1, *shape).

        Raises:
            Fault: a file or a text can't be used.
        """
        found = {
            column.modality.name: column.read(raw / name) for column, name in zip(self.files, item.files, strict=True)
        }
        for column, text in zip(self.texts, item.about, strict=True):
            try:
                ids, _ = Characters(column.alphabet).ids(text, column.modality.shape[0])
            except ValueError as error:
                raise Fault(self.table, f"{column.modality.name} {error}", FaultKind.CELL) from None
            found[column.modality.name] = ids[None]
        return found


def _array(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Fault(path, "is missing") from None
    except (OSError, ValueError, EOFError) as error:
        raise Fault(path, f"can't be read ({' '.join(str(error).split())[:60]})") from None
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise Fault(path, "holds values that are no numbers")
    return found


def written(table: Table, columns: Sequence[Column], task: Task) -> dict[str, str]:
    """Return the words that the template of such a dataset takes."""
    lines = []
    for column in columns:
        one = column.modality
        more = ""
        if one.vocabulary:
            more = f",\n            vocabulary={one.vocabulary}, tokenizer={one.tokenizer!r}, "
            more += f"tokenizer_hash={one.tokenizer_hash!r}"
        alphabet = f", alphabet={column.alphabet!r}" if column.is_text else ""
        lines.append(f"    Column(Modality({one.name!r}, {one.shape!r}, {one.kind!r}{more}){alphabet}),")
    return {
        "columns": "\n".join(lines),
        **targets.written(task),
        **targets.written_names(table.label, table.group, table.group in table.cells),
        "counts": repr(table.counts()),
        "samples": plural(len(table), "sample"),
        "source": table.place.name,
    }
