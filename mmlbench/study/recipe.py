"""Recipes: what all methods of a table share (encoder, epochs, batch, optimiser), and where they are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..dataset import PICTURES, Modality
from ..errors import ConfigError, brief, nearest
from ..params import Params, Scalar, bounded, check, choice, describe, fields_of, file_names, located, value_text
from ..registry.index import Index
from ..storage.paths import config_folder
from ..system.arithmetic import ARITHMETICS, NATIVE, PORTABLE, best, why_not_portable
from .declared import EncoderFacts, encoder_facts
from .yaml import read_mapping


class RecipeFields(Params):
    """The fields of a recipe; `config/recipes/<name>.yaml` sets them."""

    epochs: int = bounded(20, low=1, doc="passes over the train part")
    batch_size: int = bounded(64, low=2, doc="samples a step")
    optimizer: str = choice("sgd", ("sgd", "adam", "adamw"))
    lr: float = bounded(0.02, low=1e-12, high=10, doc="initial learning rate")
    momentum: float = bounded(0.9, low=0, high=1, doc="of SGD")
    weight_decay: float = bounded(1e-4, low=0, high=10)
    drop_at: float = bounded(
        0.75, low=0, high=1, doc="fraction of a stage's epochs at which the rate drops; 1: never"
    )
    drop_factor: float = bounded(0.1, low=0, high=1, doc="factor of the drop")
    threads: int = bounded(1, low=1, high=256, doc="CPU threads of a run; another number gives other bits")
    precision: str = choice("float32", ("float32", "bfloat16"), doc="of the forward pass (autocast)")
    noise_std: float = bounded(0.0, low=0, high=100, doc="of noise on inputs of `noise_on`, in standard deviations")
    drop_every: int = bounded(0, low=0, doc="epochs from drop to drop (StepLR) instead of drop_at; 0: drop_at")
    frames: int = bounded(1, low=1, high=32, doc="frames of a clip that are shown at once; features are averaged")
    flow_frames: int = bounded(1, low=1, high=32, doc="the same of optical flow")
    frame_pick: str = choice("random", ("random", "first", "uniform", "seed999"), doc="random: anew in each epoch")
    crop: str = choice("none", ("none", "resized", "random"), doc="of pictures in training; resized as torchvision's")
    crop_size: int = bounded(0, low=0, high=1024, doc="pixels of `crop: random`; evaluation takes the middle")
    flip: float = bounded(0.0, low=0, high=1, doc="probability of a horizontal flip in training")
    augment_per: str = choice("frame", ("frame", "clip"), doc="crop and flip each frame apart, or a clip as one")
    flow_flip: str = choice(
        "negate_u", ("negate_u", "released"), doc="a flip negates horizontal flow; or as DI-MML has it"
    )
    image_noise: float = bounded(0.0, low=0, high=10, doc="standard deviation on pixels 0..1, in evaluation too")
    arithmetic: str = choice(
        NATIVE, ARITHMETICS, doc="portable: the same bits on any x86-64 CPU with AVX2; auto: where this machine can"
    )
    class_weights: str = choice(
        "none", ("none", "balanced"), doc="of the loss; balanced: each class, or a label's two sides, counts alike"
    )
    sampling: str = choice("shuffle", ("shuffle", "balanced"), doc="of an epoch; balanced: classes are drawn alike")
    noise_on: str | None = None  # modality whose inputs get additive noise, in training and in evaluation


#: Says in a recipe file, or instead of a field's value, that the arithmetic is left to the machine.
AUTO = "auto"
#: What `describe` says of the fields.
FIELDS = tuple(describe(RecipeFields))
#: Keys of a recipe file beside its fields: settings for single datasets, and how these are prepared.
FOR, PREPARE, ENCODER = "for", "prepare", "encoder"


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder of a modality: its name, its parameters, and whether its weights come from a file."""

    name: str
    params: Mapping[str, Scalar]
    pretrained: bool

    def plain(self) -> dict[str, object]:
        """Return it as plain data, as a run's configuration is hashed and stored."""
        return {"name": self.name, "params": dict(self.params), "pretrained": self.pretrained}


class Recipe(RecipeFields):
    """A resolved recipe: its name, all of its fields, and the encoder of each modality."""

    name: str = "unnamed"
    encoder: Mapping[str, EncoderChoice] = field(default_factory=dict)

    def frames_of(self, kind: str) -> int:
        """How many frames of a modality of a kind are shown at once."""
        return {"image": self.frames, "flow": self.flow_frames}.get(kind, 1)

    def shape_of(self, modality: Modality) -> tuple[int, ...]:
        """Shape of one view of a modality as its encoder gets it: pictures are cropped to `crop_size`."""
        side = self.crop_size if modality.kind in PICTURES else 0
        return (modality.shape[0], side, side) if side else modality.shape

    @cached_property
    def _plain(self) -> dict[str, object]:
        fields = {one.name: getattr(self, one.name) for one in FIELDS}
        return {"name": self.name, **fields, "encoder": {m: chosen.plain() for m, chosen in self.encoder.items()}}

    def plain(self) -> dict[str, object]:
        """Return it as plain data, as a run's configuration is hashed and stored; it is not to be changed.

        It is one mapping for all runs that share the recipe: a plan of thousands of runs is written by identity.
        """
        return self._plain


def recipe_path(name: str) -> Path:
    """Return the file of a recipe, by name (in config/recipes) or by path."""
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    folder = config_folder() / "recipes"
    path = folder / f"{name}.yaml"
    if not path.exists():
        hint = nearest(name, [file.stem for file in folder.glob("*.yaml")])
        hint += "" if hint.endswith("?") else "."
        raise ConfigError(f"unknown recipe {brief(name)}", f"{hint} A path that ends in .yaml is taken too")
    return path


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe's file says for a dataset.

    Attributes:
        fields: those that it sets, `encoder` among them; a dataset's own under `for` replace the general ones.
        prepare: parameters of the dataset's preparation.
    """

    fields: Mapping[str, object]
    prepare: Mapping[str, object]


def read_recipe(name: str, dataset: str, index: Index) -> RecipeFile:
    """Read a recipe's file for a dataset; what it says of other datasets under `for` is checked, too.

    Raises:
        ConfigError: unknown recipe; a key that nothing reads; a file or an entry that is no mapping of fields.
    """
    values = read_mapping(recipe_path(name), "See config/recipes/embedded.yaml")
    where = f"recipe {brief(name)}"
    special = values.pop(FOR, None) or {}
    if not isinstance(special, Mapping) or not all(isinstance(value, Mapping) for value in special.values()):
        raise ConfigError(f"{where}: `for` is no mapping of datasets to fields", "See config/recipes/dimml.yaml")
    for other, own in special.items():
        _check_special(other, own, index, where)
    fields = {**values, **special.get(dataset, {})}
    prepare = fields.pop(PREPARE, None) or {}
    if not isinstance(prepare, Mapping):
        raise ConfigError(f"{where}: `prepare` is {brief(prepare)}, no mapping", "Write {name: value}")
    return RecipeFile(fields, dict(prepare))


def _check_special(dataset: str, values: Mapping[str, object], index: Index, where: str) -> None:
    """Refuse what is said under `for` of a dataset that nobody knows, or in keys that nothing reads.

    Raises:
        ConfigError: naming the dataset or the key, and the nearest one.
    """
    known = {entry.name: entry for entry in index.of("dataset")}
    if dataset not in known:
        fix = f"{nearest(dataset, known)} One of a plug-in folder needs `plugins: [FOLDER]` in the config"
        raise ConfigError(f"{where}: for: unknown dataset {brief(dataset)}", fix)
    fields = {key: value for key, value in values.items() if key not in (PREPARE, ENCODER)}
    check(FIELDS, _settled(fields, PORTABLE), f"{where}: for: {dataset}")
    prepare, entry = values.get(PREPARE), known[dataset]
    for key in prepare if isinstance(prepare, Mapping) and not entry.error else ():
        names = [field.name for field in fields_of(entry.facts)]
        if key not in names:
            what = f"{where}: for: {dataset}: prepare: unknown parameter {brief(key)}"
            raise ConfigError(what, nearest(key, names) if names else "it takes none")


def _encoders(
    value: object, modalities: Sequence[Modality], index: Index, where: str, stored: bool
) -> dict[str, EncoderChoice]:
    """Resolve `encoder`: a name for all, or modality -> name or {name, params}; a stored one has `pretrained`."""
    names = [modality.name for modality in modalities]
    chosen = value if isinstance(value, Mapping) and "name" not in value else dict.fromkeys(names, value)
    for name in chosen:
        if name not in names:
            raise ConfigError(f"{where}: encoder of an unknown modality {brief(name)}", nearest(name, names))
    resolved = {}
    for modality in modalities:
        want = chosen.get(modality.name)
        if want is None:
            raise ConfigError(
                f"{where}: no encoder for the modality {brief(modality.name)}", "Add it under `encoder`"
            )
        want = want if isinstance(want, Mapping) else {"name": want}
        for key in want:
            if key not in ("name", "params") and not (stored and key == "pretrained"):
                hint = nearest(key, ("name", "params")) if key != "pretrained" else _weights_hint(want, index)
                raise ConfigError(f"{where}: encoder of {modality.name}: unknown key {brief(key)}", hint)
        entry = index.find("encoder", str(want.get("name")))
        facts = encoder_facts(entry)
        if len(modality.shape) not in facts.ranks:
            raise ConfigError(
                f"{where}: the encoder {entry.name!r} can't take {modality.name!r} of shape {list(modality.shape)}",
                "Choose another for that modality",
            )
        given = want.get("params") or {}
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{where}: params of {entry.name} are {brief(given)}, no mapping", "Write {name: value}"
            )
        params = check(facts.params, given, f"{where}: encoder {entry.name}")
        pretrained = _pretrained(entry.name, facts, params, where)
        resolved[modality.name] = EncoderChoice(entry.name, params, pretrained)
    return resolved


def _weights_hint(want: Mapping[str, object], index: Index) -> str:
    """Return how an encoder's weights are named, for who wrote `pretrained:`."""
    entry = index.find("encoder", str(want.get("name")))
    named = file_names(fields_of(entry.facts))
    return f"Write `params: {{{named[0]}: FILE}}`" if named else f"The encoder {entry.name} takes no file of weights"


def _pretrained(encoder: str, facts: EncoderFacts, params: Mapping[str, object], where: str) -> bool:
    """Return whether an encoder's weights come from a file.

    Raises:
        ConfigError: it says so and names no file, so that nothing would tell two contents apart.
    """
    files = file_names(facts.params)
    if facts.pretrained and not any(name in params for name in files):
        what = f"{where}: the encoder {encoder!r} is pretrained and names no file, so that its weights are unknown"
        fix = f"Write `params: {{{files[0]}: FILE}}`" if files else "Declare the file in its Params: file_field()"
        raise ConfigError(what, fix)
    return any(name in params for name in files)


def _located(value: object, folder: Path, index: Index) -> object:
    """Return `encoder` of a recipe file with the paths of weights starting at the file's folder."""
    if not isinstance(value, Mapping):
        return value
    if "name" not in value:
        return {modality: _located(chosen, folder, index) for modality, chosen in value.items()}
    known = {entry.name: fields_of(entry.facts) for entry in index.of("encoder") if not entry.error}
    given, fields = value.get("params"), known.get(str(value["name"]), ())
    return {**value, "params": located(fields, given, folder)} if isinstance(given, Mapping) else value


def resolve_recipe(
    name: str, file: RecipeFile, overrides: Mapping[str, object], modalities: Sequence[Modality], index: Index
) -> Recipe:
    """Return a recipe with all its fields, its encoders resolved per modality.

    What is set otherwise becomes a part of its name, so that rows of two settings are never compared.

    Args:
        name: of the recipe. file: what `read_recipe` found. overrides: fields to set otherwise.
        modalities: of the dataset.

    Raises:
        ConfigError: unknown field, encoder or modality; a wrong type or range.
    """
    where = f"recipe {brief(name)}"
    values = dict(file.fields)
    if "encoder" in values:
        values["encoder"] = _located(values["encoder"], recipe_path(name).parent, index)
    settled = _settled({**values, **overrides}, best())
    resolved = check_recipe(Path(name).stem, settled, modalities, index, where)
    if resolved.arithmetic == PORTABLE and (reason := why_not_portable()):
        fix = f"Write `arithmetic: {NATIVE}`, or `{AUTO}` to have it where a machine can"
        raise ConfigError(f"{where}: portable arithmetic can't be had: {reason}", fix)
    meant = _settled({key: value for key, value in values.items() if key != "encoder"}, PORTABLE)
    before = check(FIELDS, meant, where)
    changed = {key: getattr(resolved, key) for key in before if getattr(resolved, key) != before[key]}
    if "encoder" in overrides:  # its name has a column of its own, its parameters have none
        changed |= _set_otherwise(resolved.encoder, index)
    words = [f"{key}={value_text(value)}" for key, value in changed.items()]
    return replace(resolved, name=" ".join([resolved.name, *words]))  # another recipe, so another name


def _settled(values: Mapping[str, object], arithmetic: str) -> Mapping[str, object]:
    """Return fields in which an arithmetic that is left to the machine is this one."""
    return {**values, "arithmetic": arithmetic} if values.get("arithmetic") == AUTO else values


def _set_otherwise(encoders: Mapping[str, EncoderChoice], index: Index) -> dict[str, Scalar]:
    """Return 'modality.parameter' -> value of the encoders' parameters that are not at their default.

    Files are left out: their content is a part of the encoder's label.
    """
    found = {}
    for modality, chosen in encoders.items():
        for one in fields_of(index.find("encoder", chosen.name).facts):
            if one.type != "file" and chosen.params[one.name] != one.default:
                found[f"{modality}.{one.name}"] = chosen.params[one.name]
    return found


def check_recipe(
    name: str,
    values: Mapping[str, Any],
    modalities: Sequence[Modality],
    index: Index,
    where: str,
    stored: bool = False,
) -> Recipe:
    """Return a recipe from its fields, all of them filled in; `resolve_recipe` says what is refused.

    A `stored` one is of a run.json: it says of each encoder whether its weights came from a file.
    """
    fields: dict[str, Any] = check(FIELDS, {key: value for key, value in values.items() if key != "encoder"}, where)
    recipe = Recipe(**fields, name=name)
    _check_noise(recipe, [modality.name for modality in modalities], where)
    if (recipe.crop == "random") != bool(recipe.crop_size):
        raise ConfigError(f"{where}: `crop: random` and crop_size go together", "Set both, or neither")
    return replace(recipe, encoder=_encoders(values.get("encoder", "small_cnn"), modalities, index, where, stored))


def _check_noise(recipe: Recipe, names: list[str], where: str) -> None:
    """Refuse noise on an unknown modality, or on none."""
    if recipe.noise_on is not None and recipe.noise_on not in names:
        raise ConfigError(
            f"{where}: noise_on names an unknown modality {brief(recipe.noise_on)}", nearest(recipe.noise_on, names)
        )
    if bool(recipe.noise_on) != bool(recipe.noise_std):
        raise ConfigError(f"{where}: noise needs both noise_on and noise_std", "Set both, or neither")
