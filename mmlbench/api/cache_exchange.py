"""Prepared caches that are handed on: packed where the licence allows it, and checked in full where they arrive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dataset import Dataset
from ..errors import ConfigError, DataError, MmlbenchError, UnknownPluginError, brief
from ..files import is_content
from ..modality import Modality
from ..params import Field, check, fields_of, file_names, value_text
from ..prepare.archives import check_space
from ..prepare.cache import Cache, cache_key, made_once
from ..prepare.cache_archive import FIX, MANIFEST, About, Contents, Member, check_files, contents_of, pack
from ..prepare.cache_check import Declared, check_contents, form_of, paths_in
from ..prepare.sharing import FEATURE_KINDS, Sharing, Terms, media_in
from ..prepare.source_check import forget
from ..registry.index import Entry, Index
from ..storage.atomic import storage_error
from ..storage.cache_files import listed_files
from ..storage.cache_places import cache_folder
from ..storage.hashing import spot_digest
from ..storage.lease import Lease
from ..storage.paths import plugin_folders
from ..storage.temporaries import temporary_folder
from ..system.progress import log
from ..version import __version__
from .making import dataset_class, prepare_command
from .sharing import EXAMPLE, FILE, terms_file, terms_of


def _prepare_line(entry: Entry, params: Mapping[str, Any]) -> str:
    """Return the command that prepares a dataset with some parameters."""
    return prepare_command(entry.name, params, fields_of(entry.facts), raw=entry.facts["needs_raw"])


# ---- export ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Packed:
    """What an export has done: the archive, the bytes of the files in it, and what it is of."""

    archive: Path
    bytes: int
    about: About


def export_data(name: str, params: Mapping[str, Any], cache: Path, index: Index, to: Path | None = None) -> Packed:
    """Pack a prepared cache, where the licence of its data allows that.

    Args:
        params: of its preparation. cache: the folder of caches. to: the archive; NAME-KEY.mmld.tar by default.

    Raises:
        ConfigError: unknown dataset or parameter. DataError: the licence does not allow it, for all of it or for a
            modality; it is not prepared; it was changed since; it names paths of this machine; the disk is full.
    """
    entry = index.find("dataset", name)
    resolved = check(fields_of(entry.facts), params, f"dataset {name}")
    terms = terms_of(entry)
    if terms.sharing is Sharing.NONE:
        raise _not_allowed(entry, resolved)
    key = cache_key(name, resolved, entry.fingerprint)
    folder = cache_folder(cache, f"{name}-{key}")
    if not (folder / MANIFEST).exists():
        raise DataError(f"{name} is not prepared in {folder}", f"Run: {_prepare_line(entry, resolved)}")
    opened = Cache.open(folder)
    if terms.sharing is Sharing.FEATURES:
        _refuse_media(opened, terms, index, entry, resolved)
    for path in paths_in(opened.manifest, folder):
        what = f"{folder} names {brief(path)}, a path of this machine, and would hand it on"
        raise DataError(what, "Have the dataset's prepare note names below the folder of raw files, and prepare anew")
    facts = entry.facts
    about = About(
        name, key, resolved, entry.fingerprint, __version__, terms.sharing, terms.source,
        *(str(facts[one]) for one in ("licence", "citation", "origin")),
    )  # fmt: skip
    archive = to or Path(f"{about.cache}.mmld.tar")
    return Packed(archive, pack(opened, about, archive), about)


def _not_allowed(entry: Entry, params: Mapping[str, Any]) -> DataError:
    what = (
        f"{entry.name} may not be handed on: no licence that allows it is known (licence: {entry.facts['licence']})"
    )
    shipped = terms_file(Path(entry.path)).parent in [folder.resolve() for folder in plugin_folders("datasets")]
    if shipped:
        line = _prepare_line(entry, params)
        own = "Where you hold a licence that allows it, say so of a dataset of your own (docs/share.md)"
        return DataError(what, f"Hand on the command instead: {line}. {own}")
    return DataError(what, f"Write what their licence allows into {terms_file(Path(entry.path))}. {EXAMPLE}")


def _refuse_media(cache: Cache, terms: Terms, index: Index, entry: Entry, params: Mapping[str, Any]) -> None:
    """Refuse a cache of which only features may be handed on, and that holds something else.

    Raises:
        DataError: naming the modality, and how to prepare it as features where the dataset can.
    """
    only = f"only features of {entry.name} may be handed on (licence: {entry.facts['licence']})"
    modalities = [cache.modality(name) for name in cache.modalities]
    for modality in media_in(modalities, terms):
        why = f"stores {modality.kind}" if modality.kind not in FEATURE_KINDS else f"is media, as {FILE} says"
        how = "; or ".join(_as_features(index, entry, params, modality.name, terms))
        fix = f"Prepare it as features: {how}" if how else "It has no preparation as features: each one prepares it"
        raise DataError(f"{only}, and its modality {modality.name!r} {why}", fix)
    if extras := ", ".join(cache.manifest["extras"]):
        raise DataError(f"{only}, and it stores further facts: {extras}", "Prepare it without them")


def _as_features(index: Index, entry: Entry, params: Mapping[str, Any], modality: str, terms: Terms) -> Iterator[str]:
    """Yield the options of `prepare` with which a modality is features: of the parameter that is called like it."""
    kind = dataset_class(index, entry.name)
    for field in fields_of(entry.facts):
        for option in field.options if field.name == modality else ():
            try:
                made = kind(kind.Params(**{**params, field.name: option})).modalities
            except MmlbenchError as error:  # it needs more than this one
                if option in {one["value"] for one in entry.facts.get("other_kinds", ()) if one["param"] == modality}:
                    yield f"--dataset-set {field.name}={value_text(option)} ({error.fix})"
                continue
            if all(one.name != modality for one in media_in(made, terms)):
                yield f"--dataset-set {field.name}={value_text(option)}"


# ---- import ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Imported:
    """What an import has done.

    Attributes:
        folder: of the cache. fingerprint: of its data. new: False where it was there already.
        about: what the archive is of. command: finds the cache finished.
    """

    folder: Path
    fingerprint: str
    new: bool
    about: About
    command: str


def import_data(archive: Path, cache: Path, index: Index) -> Imported:
    """Take a prepared cache over from an archive, whole or not at all, if all of it is as its dataset would have it.

    Args:
        cache: the folder of caches; by default new ones go where those of `prepare` do.

    Raises:
        ConfigError: the dataset is unknown here. DataError: the archive is damaged or forged; the dataset's code here
            is another; a cache of that name is there with other data; a full disk.
    """
    contents = contents_of(archive)
    about = contents.about
    entry = _known(contents, index)
    _check_params(contents, fields_of(entry.facts))
    kind = dataset_class(index, entry.name)
    declared = Declared.of(kind, _modalities(kind, about.params))
    form = form_of(contents.manifest, declared, f"{archive}: {MANIFEST}", FIX)
    _check_listed(contents)
    folder = cache_folder(cache, about.cache)
    command = prepare_command(about.dataset, about.params, fields_of(entry.facts), raw=False)  # it is finished
    fingerprint = str(contents.manifest["fingerprint"])
    if (folder / MANIFEST).exists():
        check_files(contents)
        _check_same(folder, contents)
        return Imported(folder, fingerprint, False, about, command)
    root = folder.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_space(root, contents.bytes, f"to import {archive}")
        with temporary_folder(root, "import") as held:
            check_files(contents, held)
            check_contents(held, form, declared, str(archive), FIX)
            for path in paths_in(contents.manifest, held):
                raise DataError(f"{archive} names {brief(path)}, a path of some machine", FIX)
            _check_spots(held, contents)
            made = _put(contents, held, folder)
    except OSError as error:
        raise storage_error(error, root) from error
    if not made:  # somebody made it meanwhile
        _check_same(folder, contents)
    return Imported(folder, fingerprint, made, about, command)


def _known(contents: Contents, index: Index) -> Entry:
    """Return the dataset that an archive is of, whose code here is the code that made it.

    Raises:
        ConfigError: it is unknown here. DataError: its code here is another.
    """
    about = contents.about
    try:
        entry = index.find("dataset", about.dataset)
    except UnknownPluginError as error:
        fix = f"Name the folder with the dataset's file: --plugins FOLDER; {error.fix}"
        raise ConfigError(f"{contents.archive} is of the dataset {brief(about.dataset)}, unknown here", fix) from None
    if entry.fingerprint != about.code:
        codes = f"{about.code[:10]} of mmlbench {about.version}, here {entry.fingerprint[:10]} of {__version__}"
        what = f"{contents.archive} was made by other code of {about.dataset} than is here ({codes})"
        fix = (
            "Take the version that made it, and the same file of the dataset; or ask for an archive made by this one"
        )
        raise DataError(what, fix)
    return entry


def _check_params(contents: Contents, fields: tuple[Field, ...]) -> None:
    """Refuse parameters that are not whole, that name a path, or whose key is not that of the cache."""
    about, files = contents.about, file_names(fields)
    paths = [name for name in files if name in about.params and not is_content(about.params[name])]
    try:
        same = not paths and check(fields, about.params, f"dataset {about.dataset}") == about.params
    except ConfigError as error:
        raise DataError(f"{contents.archive}: {error.what}", FIX) from None
    if not same or cache_key(about.dataset, about.params, about.code) != about.key:
        raise DataError(f"{contents.archive}: its parameters are not those of the cache {about.cache}", FIX)


def _modalities(kind: type[Dataset], params: Mapping[str, Any]) -> tuple[Modality, ...] | None:
    """Return the modalities of a dataset; None where they hang on a file or folder that is not at hand here."""
    try:
        return tuple(kind(kind.Params(**params)).modalities)
    except MmlbenchError:
        if any(is_content(value) for value in params.values()):
            return None
        raise


def _check_listed(contents: Contents) -> None:
    """Refuse an archive whose files are not those of its manifest, with these sizes and hashes."""
    wanted = {name: Member(one["bytes"], one["sha256"]) for name, one in listed_files(contents.manifest).items()}
    found = {name: one for name, one in contents.files.items() if name != MANIFEST}
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) == found.get(name):
            continue
        why = f"is another file than {MANIFEST} says"
        if name not in wanted or name not in found:
            why = f"is {'not named by' if name in found else 'missing, and named by'} {MANIFEST}"
        raise DataError(f"{contents.archive}: {name} {why}", FIX)


def _check_spots(folder: Path, contents: Contents) -> None:
    """Refuse digests by which large files are known later, where they are not those of the files."""
    for name, facts in listed_files(contents.manifest).items():
        if spot_digest(folder / name) != facts["spot"]:
            raise DataError(f"{contents.archive}: {name} has another digest than {MANIFEST} says", FIX)


def _check_same(folder: Path, contents: Contents) -> None:
    """Refuse a cache that is there with other data than an archive of the same name."""
    here, packed = Cache.open(folder).manifest, contents.manifest
    if here == packed:
        return
    ours, theirs = listed_files(here), listed_files(packed)
    differ = [name for name in sorted(set(ours) | set(theirs)) if ours.get(name) != theirs.get(name)]
    shown = ", ".join(differ[:4]) + (" ..." if len(differ) > 4 else "") or "what its manifest says"
    what = f"{folder} is there with other data than {contents.archive} (fingerprint {here['fingerprint']}, "
    what += f"not {packed['fingerprint']}): {shown}"
    raise DataError(what, "Import into another folder by --cache, or remove the one that is there")


def _put(contents: Contents, held: Path, folder: Path) -> bool:
    """Let checked files be a cache, under the lease of `prepare`; return whether that was still to do.

    What a killed preparation has left of that cache goes: it would have made the same.
    """

    def make(building: Path, lease: Lease) -> dict[str, Any]:
        for left in building.iterdir():
            lease.remove(left)
        for file in sorted(held.iterdir()):
            lease.rename(file, building / file.name)
        forget(folder, lease)
        return contents.manifest

    return made_once(folder, log, make) is not None
