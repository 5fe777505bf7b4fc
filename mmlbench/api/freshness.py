"""Is a run folder the run that is asked for: a full one, or the scores of one from an archive? No torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError, RunError
from ..results.run_folder import RunFolder, scores_only_error
from ..results.stored_scores import FILE, is_scores_only
from ..storage.hashing import file_digest
from ..storage.lease import Lease
from ..study.run_spec import RunSpec
from ..train.complete import Freshness, State, completeness


def freshness(folder: Path, spec: RunSpec, data_fingerprint: str) -> Freshness:
    """Return whether a folder holds this very run, in full or as scores, and else what is the matter.

    Raises:
        DataError: as `completeness`.
    """
    if not is_scores_only(folder):
        return completeness(folder, spec, data_fingerprint)
    try:
        record = RunFolder.open(folder).record
    except DataError as error:
        return Freshness(State.UNREADABLE, error.what)
    if record.config.hash != spec.config.hash:
        return Freshness(State.OTHER_CONFIG)
    if record.data_fingerprint != data_fingerprint:
        return Freshness(State.OTHER_DATA)
    if record.code.method != spec.code:
        return Freshness(State.OTHER_CODE)
    results = folder.parents[len(spec.path.parts) - 1]
    for name, used in record.requires.items():
        source = results / used.run / "run.json"
        if source.exists() and file_digest(source) != used.run_hash:
            return Freshness(State.REUSED_RUN_CHANGED, name)
    return Freshness(State.UP_TO_DATE)


def check_scores(folder: Path, found: Freshness) -> None:
    """Refuse to train over scores that an archive has brought and that are of another run than is asked for.

    Raises:
        DataError: they are; saying what differs, and how to train the run.
    """
    if is_scores_only(folder) and not found.up_to_date:
        error = scores_only_error(folder)
        what = f"{folder} holds the scores of an imported run that can't be compared with what is made here: {found}"
        raise DataError(what, f"{error.fix.replace('Train it', 'Train it here')}. Or import into another folder")


def check_weights(spec: RunSpec, results: Path) -> None:
    """Refuse to train a run that reuses weights of runs of which only the scores are here.

    Raises:
        RunError: naming the first such run, and how to train it.
    """
    for required in spec.requires.values():
        if is_scores_only(results / required.path):
            error = scores_only_error(results / required.path)
            raise RunError(f"{spec.path} reuses the weights of {required.path}: {error.what}", error.fix)


def forget_scores(folder: Path) -> None:
    """Remove the scores that an archive has brought, so that the run is made in full.

    run.json stays until the run is made, since it may be the very file that says what is to be trained.

    Raises:
        RunError: a process works on that run.
    """
    if is_scores_only(folder):
        with Lease(folder, lambda line: None, wait=0) as lease:
            lease.remove(folder / FILE)
