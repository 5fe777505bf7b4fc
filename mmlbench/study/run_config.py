"""The configuration of a run, as plan.json and run.json hold it: one parser, for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..params import check, expected
from ..storage.form import SPLIT, WORD, Item
from ..storage.hashing import digest
from .recipe import FIELDS as RECIPE_FIELDS
from .run_spec import CONFIG_KEYS, RUN_SCHEMA

Scalar = bool | int | float | str | None

#: Fields of a recipe by name; a stored recipe has all of them.
FIELDS: dict[str, dict[str, Any]] = {field["name"]: field for field in RECIPE_FIELDS}
RECIPE_KEYS = ("name", "encoder", *FIELDS)


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder of a modality."""

    name: str
    params: Mapping[str, Scalar]
    pretrained: bool


@dataclass(frozen=True)
class StoredRecipe:
    """A resolved recipe: its name, its fields, the encoder of each modality."""

    name: str
    fields: Mapping[str, Scalar]
    encoder: Mapping[str, EncoderChoice]


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines the numbers of a run, and its hash."""

    dataset: str
    dataset_params: Mapping[str, Scalar]
    split: str
    recipe: StoredRecipe
    method: str
    params: Mapping[str, Scalar]
    seed: int
    hash: str

    @property
    def run(self) -> str:
        """Folder of the run below the results folder."""
        return f"runs/{self.dataset}/{self.split}/{self.method}/s{self.seed}-{self.hash[:10]}"


def parameters(item: Item, least: int = 0) -> dict[str, Scalar]:
    """Return hyper-parameters: name -> number, text, true, false or null."""
    found = item.named(r"[A-Za-z_]\w{0,79}", "the name of a parameter", least)
    return {name: one.scalar() for name, one in found.items()}


def _encoder(item: Item) -> EncoderChoice:
    found = item.fields(("name", "params", "pretrained"))
    return EncoderChoice(
        found["name"].text("the name of an encoder", WORD),
        parameters(found["params"]),
        found["pretrained"].truth(),
    )


def _field(item: Item, field: Mapping[str, Any]) -> Scalar:
    """Return a field of a recipe in its own type; what would have to be converted was not written by mmlbench."""
    try:
        taken = check([field], {field["name"]: item.value}, "")[field["name"]]  # type: ignore[list-item]
    except ConfigError:
        item.wrong(expected(dict(field)))
    if taken != item.value or type(taken) is not type(item.value):
        item.wrong(expected(dict(field)))
    return item.scalar()


def _recipe(item: Item) -> StoredRecipe:
    found = item.fields(RECIPE_KEYS)
    encoders = found["encoder"].named(WORD, "a modality", 1)
    if found["noise_on"].value is not None:
        found["noise_on"].one_of(encoders)
    return StoredRecipe(
        found.pop("name").text("the name of a recipe"),
        {name: _field(one, FIELDS[name]) for name, one in found.items() if name != "encoder"},
        {modality: _encoder(one) for modality, one in encoders.items()},
    )


def parse_config(item: Item) -> RunConfig:
    """Read the configuration of a run.

    Raises:
        DataError: a key is missing or unknown, or a value of another form; with the path of its keys.
    """
    found = item.fields(CONFIG_KEYS)
    if found["schema"].integer() != RUN_SCHEMA:
        found["schema"].wrong(f"the schema {RUN_SCHEMA}, which this version reads")
    return RunConfig(
        found["dataset"].text("the name of a dataset", WORD),
        parameters(found["dataset_params"]),
        found["split"].text("the name of a split", SPLIT),
        _recipe(found["recipe"]),
        found["method"].text("the name of a method", WORD),
        parameters(found["params"]),
        found["seed"].integer(0, 2**31 - 1),
        digest(item.value)[:16],
    )
