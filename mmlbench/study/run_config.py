"""The configuration of a run, as plan.json and run.json hold it: one parser, for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ConfigError
from ..files import contents
from ..params import Field, Scalar, check, expected
from ..storage.form import SPLIT, WORD, Item
from ..storage.hashing import digest
from .recipe import FIELDS as RECIPE_FIELDS
from .recipe import STEPS, EncoderChoice, Recipe

#: Version of the run folder's schema; see docs/run-folder.md.
RUN_SCHEMA = 3
CONFIG_KEYS = ("schema", "dataset", "dataset_params", "split", "recipe", "method", "params", "seed")

#: Fields of a recipe by name; a stored recipe has all of them.
FIELDS = {field.name: field for field in RECIPE_FIELDS}
LR = next(field for field in STEPS if field.name == "lr")
RECIPE_KEYS = ("name", "encoder", *FIELDS)


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines the numbers of a run; its hash is the run's identity.

    `metric` picks epochs and penalties; '' for that of the dataset, so that a run without one keeps its identity.
    """

    dataset: str
    dataset_params: Mapping[str, Scalar]
    split: str
    recipe: Recipe
    method: str
    params: Mapping[str, Scalar]
    seed: int
    metric: str = ""

    def plain(self) -> dict[str, object]:
        """Return it as plain data, as it is hashed and stored."""
        return {
            "schema": RUN_SCHEMA,
            "dataset": self.dataset,
            "dataset_params": dict(self.dataset_params),
            "split": self.split,
            "recipe": self.recipe.plain(),
            "method": self.method,
            "params": dict(self.params),
            "seed": self.seed,
            **({"metric": self.metric} if self.metric else {}),
        }

    @cached_property
    def hash(self) -> str:
        """Hash of it, 16 hex digits."""
        return digest(self.plain())[:16]

    @cached_property
    def setting(self) -> str:
        """Hash of all but the seed: runs that share it differ by their seeds alone."""
        return digest({key: value for key, value in self.plain().items() if key != "seed"})

    @property
    def run(self) -> str:
        """Folder of the run below the results folder."""
        return f"runs/{self.dataset}/{self.split}/{self.method}/s{self.seed}-{self.hash[:10]}"

    @cached_property
    def contents(self) -> list[str]:
        """Contents of the files that it names, `sha256:<hex>`, each once."""
        encoders = [chosen.params for chosen in self.recipe.encoder.values()]
        return contents([self.dataset_params, *encoders, self.params])

    @property
    def seed_key(self) -> tuple[str, int]:
        """What the run's random numbers are derived from: the dataset and the seed, never the method."""
        return self.dataset, self.seed


def parameters(item: Item, least: int = 0) -> dict[str, Scalar]:
    """Return hyper-parameters: name -> number, text, true, false or null."""
    found = item.named(r"[A-Za-z_]\w{0,79}", "the name of a parameter", least)
    return {name: one.scalar() for name, one in found.items()}


def _encoder(item: Item) -> EncoderChoice:
    found = item.fields(("name", "params", "pretrained", "freeze", "lr"))
    held = found["freeze"].tuple_of("part", lambda one: one.text("the name of a part", WORD))
    if list(held) != sorted(held):
        found["freeze"].wrong("names of parts in order")
    lr: Any = _field(found["lr"], LR)
    return EncoderChoice(
        found["name"].text("the name of an encoder", WORD),
        parameters(found["params"]),
        found["pretrained"].truth(),
        held,
        lr,
    )


def _field(item: Item, field: Field) -> Scalar:
    """Return a field of a recipe in its own type; what would have to be converted was not written by mmlbench."""
    try:
        taken = check([field], {field.name: item.value}, "")[field.name]
    except ConfigError:
        item.wrong(expected(field))
    if taken != item.value or type(taken) is not type(item.value):
        item.wrong(expected(field))
    return item.scalar()


def _recipe(item: Item) -> Recipe:
    found = item.fields(RECIPE_KEYS)
    encoders = found["encoder"].named(WORD, "a modality", 1)
    if found["noise_on"].value is not None:
        found["noise_on"].one_of(encoders)
    fields: dict[str, Any] = {name: _field(found[name], field) for name, field in FIELDS.items()}
    return Recipe(
        **fields,
        name=found["name"].text("the name of a recipe"),
        encoder={modality: _encoder(one) for modality, one in encoders.items()},
    )


def parse_config(item: Item) -> RunConfig:
    """Read the configuration of a run.

    Raises:
        DataError: a key is missing or unknown, or a value of another form; with the path of its keys.
    """
    item.check_schema(RUN_SCHEMA)
    found = item.fields(CONFIG_KEYS, ("metric",))
    return RunConfig(
        found["dataset"].text("the name of a dataset", WORD),
        parameters(found["dataset_params"]),
        found["split"].text("the name of a split", SPLIT),
        _recipe(found["recipe"]),
        found["method"].text("the name of a method", WORD),
        parameters(found["params"]),
        found["seed"].integer(0, 2**31 - 1),
        found["metric"].text("the name of a metric", WORD) if "metric" in found else "",
    )
