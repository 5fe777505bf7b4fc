"""Equal tuning: the same number of random draws for every method, chosen on the validation part alone.

`tune: {draws: n, seed: s}` in a config draws n settings per method from the ranges that its parameters declare
(`tune=`), trains each once with seed s under the recipe that all share, and trains the final runs, of other seeds,
with the one that did best on the validation part. Trials are ordinary runs. What is drawn for a parameter depends on
the method's and the parameter's name and the number of the draw: another parameter or method moves no draw.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..errors import ConfigError, brief, nearest
from ..params import Field, Scalar, fields_of
from ..storage.hashing import digest
from .plan import Tuning
from .run_spec import RunSpec, Setting
from .selection import VAL

#: Every draw is a run of each method: more are a slip of the keyboard, and would take minutes to plan.
MOST_DRAWS = 1000
TUNE_KEYS = ("draws", "seed")
NO_VAL = "Choose a split with a validation part, or leave it out"


@dataclass(frozen=True)
class Tune:
    """How many draws a method gets, and the seed of their runs.

    Raises:
        ConfigError: one of the two is no int, or out of range.
    """

    draws: int
    seed: int = 1000

    def __post_init__(self) -> None:
        for key, number, least, most in (("draws", self.draws, 2, MOST_DRAWS), ("seed", self.seed, 0, 2**31 - 1)):
            if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
                raise ConfigError(f"tune: {key} is {brief(number)}", f"It takes an int from {least} to {most}")


@dataclass(frozen=True)
class Tuned:
    """The tuning behind a final run: the settings drawn, and the run of each."""

    draws: tuple[Mapping[str, Scalar], ...]
    trials: tuple[RunSpec, ...]
    rule: str

    @functools.cached_property
    def key(self) -> str:
        """Hash of what the choice depends on."""
        return digest([self.rule, *([str(run.path), run.code, run.cache] for run in self.trials)])[:10]

    def stamp(self, final: RunSpec) -> PurePosixPath:
        """Return the file that says that a final run was chosen and made."""
        c = final.config
        return PurePosixPath("tuned", c.dataset, c.split, c.method, f"s{c.seed}-{self.key}-{final.code[:6]}")

    def planned(self) -> Tuning:
        """Return it as it stands in the plan."""
        return Tuning(self.key, self.rule, self.draws, tuple(str(run.path) for run in self.trials), ())

    @property
    def options(self) -> list[str]:
        """Options of `mmlbench train` by which it chooses among the trials, and makes those that are not there."""
        seed = self.trials[0].config.seed
        return ["--tune", str(len(self.draws)), "--tune-seed", str(seed), "--tune-rule", self.rule]


def read_tune(value: object) -> Tune | None:
    """Read `tune:` of a config; None where it is not there.

    Raises:
        ConfigError: another key, or no sensible number.
    """
    if value is None:
        return None
    for key in value if isinstance(value, Mapping) else ():
        if key not in TUNE_KEYS:
            raise ConfigError(f"config: tune: unknown key {brief(key)}", nearest(key, TUNE_KEYS))
    if not isinstance(value, Mapping) or "draws" not in value:
        raise ConfigError(f"config: tune is {brief(value)}", "Write `tune: {draws: 8, seed: 1000}`")
    return Tune(**value)


def draw(method: str, field: Field, number: int) -> Scalar:
    """Return the value that a parameter takes in the draw of a number."""
    import numpy as np  # not when a plan without tuning is read

    rng = np.random.default_rng([zlib.crc32(f"{method}.{field.name}".encode()), number])
    span = field.tune
    if field.type == "str":
        return str(span[int(rng.integers(len(span)))])
    low, high = float(span[0]), float(span[1])
    share = float(rng.random())
    value = low * (high / low) ** share if span[2:] == ("log",) else low + (high - low) * share
    return round(value) if field.type == "int" else float(f"{value:.3g}")


def draws_of(method: str, fields: Sequence[Field], fixed: Mapping[str, Any], count: int) -> list[dict[str, Scalar]]:
    """Return `count` drawn settings of what a method lets be tuned and the config does not fix; [] for nothing."""
    open_fields = [field for field in fields if field.tune and field.name not in fixed]
    if not open_fields:
        return []
    return [{field.name: draw(method, field, k) for field in open_fields} for k in range(count)]


def tuned(setting: Setting, tune: Tune, rule: str) -> Tuned | None:
    """Return the tuning of a setting's final runs, or None where its method has nothing to tune.

    Raises:
        ConfigError: the split has no validation part.
    """
    request = setting.request
    fields = fields_of(setting.terms.index.find("method", request.method).facts)
    drawn = draws_of(request.method, fields, request.params, tune.draws)
    if not drawn:
        return None
    config = setting.config
    VAL.check(setting.terms.facts.splits[config.split].counts, f"{config.dataset}/{config.split}", "tune", NO_VAL)
    trials = (
        setting.terms.setting(request.method, request.split, {**request.params, **values}).run(tune.seed)
        for values in drawn
    )
    return Tuned(tuple(drawn), tuple(trials), rule)


def check_apart(seed: int, tune: Tune) -> None:
    """Refuse a final run that has the seed of the trials.

    Raises:
        ConfigError: it has.
    """
    if seed == tune.seed:
        raise ConfigError(f"seed {seed} is that of the trials", "Give `tune:` another seed than the final runs")
