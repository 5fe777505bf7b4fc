"""What the licences of datasets allow: `sharing.yaml` in the folder of the dataset's file.

It lies beside the code, not in it, so that writing down what a licence allows makes no prepared cache stale::

    my_lab:
      sharing: features             # none, features or all
      source: the consent form of 2021, section 4
      media: [words]                # only where a vector or sequence gives back what it was made from
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import brief, nearest
from ..prepare.sharing import Sharing, Terms
from ..registry.index import Entry
from ..storage.form import WORD, Item
from ..study.yaml import read_mapping

FILE = "sharing.yaml"
EXAMPLE = "See docs/share.md: NAME: {sharing: features, source: where that was read}"


def terms_file(path: Path) -> Path:
    """Return where the terms of a dataset stand: in the folder that its file, or its folder, lies in.

    Args:
        path: of the dataset's file; of a folder its `__init__.py`.
    """
    return (path.parent.parent if path.name == "__init__.py" else path.parent) / FILE


def terms_of(entry: Entry) -> Terms:
    """Return what the licence of a dataset allows; nothing, where nobody has written it down.

    Raises:
        ConfigError: the file can't be read. DataError: it is of another form, or names a modality that is none.
    """
    return terms_at(Path(entry.path), entry.name, entry.facts)


def terms_at(place: Path, name: str, facts: Mapping[str, Any]) -> Terms:
    """Return what `terms_of` does, of a dataset by its file, its name and its facts in the index."""
    path = terms_file(place)
    if not path.is_file():
        return Terms()
    found = Item(read_mapping(path, EXAMPLE), path, fix=EXAMPLE).named(WORD, "the name of a dataset")
    if name not in found:
        return Terms()
    fields = found[name].fields(("sharing", "source"), ("media",))
    media = (
        fields["media"].tuple_of("modality", lambda one: one.text("a modality", WORD)) if "media" in fields else ()
    )
    declared = [modality["name"] for modality in facts["modalities"]]
    for one in media:
        if one not in declared:
            fields["media"].fail(f"names {brief(one)}, which {name} does not have: {nearest(one, declared)}")
    return Terms(Sharing(fields["sharing"].one_of(tuple(Sharing))), fields["source"].text("a source"), media)
