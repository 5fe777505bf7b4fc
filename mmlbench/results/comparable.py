"""Can imported scores stand beside the runs that are here? By data, recipe, code and packages, told in one line."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..prepare.cache import fingerprint_of
from ..storage.cache_places import cache_folder
from ..storage.hashing import digest
from ..study.plan import Plan
from .engines import bits_of
from .load import read_plan
from .record import RunRecord, read_record


def made_otherwise(one: RunRecord, other: RunRecord) -> list[str]:
    """Return in words what was not the same when two runs were made; the order is that of weight."""
    found = ["code of the method"] if one.code.method != other.code.method else []
    found += ["code of the engine"] if bits_of(one.code.engine) != bits_of(other.code.engine) else []
    found += ["data"] if one.data_fingerprint != other.data_fingerprint else []
    versions = {**one.packages, **other.packages}
    return found + [name for name in versions if one.packages.get(name) != other.packages.get(name)]


def what_differs(one: RunRecord, other: RunRecord) -> str:
    """Return why two records of one run are not the same, in words."""
    found = made_otherwise(one, other)
    return f"other {', '.join(found)}" if found else "from the same code, data and packages, so one is not as trained"


def terms(record: RunRecord) -> dict[str, str]:
    """Return what runs of one dataset, split and recipe have to share to be compared, by its name."""
    config = record.config
    return {
        "data": record.data_fingerprint,
        "recipe": digest([config.recipe.plain(), dict(config.dataset_params)]),
        "metric": record.metric.name,
    }


def check_comparable(archive: Path, plan: Plan, folder: Path, results: Path, cache: Path | None) -> None:
    """Refuse scores that can't be compared with the runs that are here, or with the data that is prepared here.

    Args:
        plan: of the archive. folder: where it is unpacked. results, cache: the user's.

    Raises:
        DataError: naming a run of either side, what differs, and how to go on.
    """
    here: dict[tuple[str, ...], tuple[str, dict[str, str]]] = {}
    for cell in read_plan(results).cells if (results / "plan.json").exists() else ():
        if (results / cell.run / "run.json").exists() and cell.group not in here:
            here[cell.group] = (cell.run, terms(read_record(results / cell.run)))
    seen: set[tuple[str, ...]] = set()
    for cell in plan.cells:
        if cell.group in seen:
            continue
        seen.add(cell.group)
        theirs = terms(read_record(folder / cell.run))
        run, ours = here.get(cell.group, ("", theirs))
        for name, value in theirs.items():
            if ours[name] != value:
                what = f"{archive} has {cell.run} from another {name} than {results / run}: they can't be compared"
                raise DataError(what, "Import it into a folder of its own by --results")
        manifest = cache_folder(cache, cell.cache) / "manifest.json" if cache else Path()
        if cache and manifest.exists() and fingerprint_of(manifest) != theirs["data"]:
            what = f"{archive} has {cell.run} from another data than {manifest.parent}: they can't be compared"
            raise DataError(what, f"Remove {manifest.parent}, or import into a folder of its own by --results")
