"""Recipes: what all methods of a table share (encoder, epochs, batch, optimiser), and where they are found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ConfigError, brief, nearest
from ..modality import Modality
from ..params import (
    ALL,
    FILES,
    Params,
    Scalar,
    bounded,
    check,
    choice,
    describe,
    fields_of,
    file_names,
    located,
    value_text,
)
from ..registry.index import Index
from ..storage.form import WORD
from ..storage.paths import config_folder
from ..system.arithmetic import ARITHMETICS, NATIVE, PORTABLE, best, why_not_portable
from .declared import EncoderFacts, encoder_facts
from .yaml import read_mapping

#: Numbers that a run is calculated in: float32; the same with products rounded to TensorFloat-32; bfloat16 autocast.
PRECISIONS = (FP32, TF32, BF16) = ("fp32", "tf32", "bf16")


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
    precision: str = choice(
        FP32, PRECISIONS, doc="tf32: products are rounded, on GPUs alone; bf16: the encoders' forward pass"
    )
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
    accumulate: int = bounded(1, low=1, high=4096, doc="batches whose gradients are added up for one step")
    head_lr: float = bounded(1.0, low=1e-9, high=1e3, doc="factor of the learning rate of all that is no encoder")
    schedule: str = choice(
        "step", ("step", "cosine"), doc="of the learning rate: drops by epoch, or a cosine to zero by step"
    )
    warmup: float = bounded(0.0, low=0, doc="epochs, or parts of one, in which the rate of a stage rises by step")
    clip_grad: float = bounded(0.0, low=0, doc="greatest norm of a step's gradients; greater ones shrink. 0: off")
    class_weights: str = choice(
        "none", ("none", "balanced"), doc="of the loss; balanced: each class, or a label's two sides, counts alike"
    )
    sampling: str = choice("shuffle", ("shuffle", "balanced"), doc="of an epoch; balanced: classes are drawn alike")
    noise_on: str | None = None  # modality whose inputs get additive noise, in training and in evaluation


#: Says in a recipe file, or instead of a field's value, that the arithmetic is left to the machine, or an encoder to
#: the type of its modality.
AUTO = "auto"
#: What `describe` says of the fields.
FIELDS = tuple(describe(RecipeFields))
#: Keys of a recipe file beside its fields: settings for single datasets, and how these are prepared.
FOR, PREPARE, ENCODER = "for", "prepare", "encoder"
#: Keys of an encoder.
ENCODER_KEYS = ("name", "params", "freeze", "lr")


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder of a modality.

    Attributes:
        params: its own. pretrained: whether its weights come from a file.
        freeze: names of the parts that never train, sorted; `ALL` alone for the whole.
        lr: what the recipe's learning rate is multiplied by for it.
    """

    name: str
    params: Mapping[str, Scalar]
    pretrained: bool
    freeze: tuple[str, ...] = ()
    lr: float = 1.0

    def plain(self) -> dict[str, object]:
        """Return it as plain data, as a run's configuration is hashed and stored."""
        found = {"name": self.name, "params": dict(self.params), "pretrained": self.pretrained}
        return found | {"freeze": list(self.freeze), "lr": self.lr}


class EncoderSteps(Params):
    """What a recipe says of the steps of one encoder, beside what is frozen."""

    lr: float = bounded(1.0, low=1e-9, high=1e3, doc="what the recipe's learning rate is multiplied by")


STEPS = tuple(describe(EncoderSteps))


class Recipe(RecipeFields):
    """A resolved recipe: its name, all of its fields, and the encoder of each modality."""

    name: str = "unnamed"
    encoder: Mapping[str, EncoderChoice] = field(default_factory=dict)

    @property
    def forward(self) -> str:
        """Type of the numbers of the encoders' forward pass: bfloat16 under autocast, else float32."""
        return "bfloat16" if self.precision == BF16 else "float32"

    @property
    def pretrained(self) -> str:
        """The modalities whose encoders start from weights of a file, joined by `+`; empty for none."""
        return "+".join(modality for modality, chosen in self.encoder.items() if chosen.pretrained)

    def frames_of(self, modality: Modality) -> int:
        """How many frames of a modality are shown at once."""
        return modality.type.frames(self)

    def shape_of(self, modality: Modality) -> tuple[int, ...]:
        """Shape of one view of a modality as its encoder gets it: pictures are cropped to `crop_size`."""
        return modality.type.input_shape(modality, self)

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
    place = f"{where}: for: {dataset}"
    check(FIELDS, _settled(fields, PORTABLE, place), place)
    prepare, entry = values.get(PREPARE), known[dataset]
    for key in prepare if isinstance(prepare, Mapping) and not entry.error else ():
        names = [field.name for field in fields_of(entry.facts)]
        if key not in names:
            what = f"{where}: for: {dataset}: prepare: unknown parameter {brief(key)}"
            raise ConfigError(what, nearest(key, names) if names else "it takes none")


def _spelled(want: object, index: Index) -> Mapping[str, object]:
    """Return the choice of an encoder as a mapping; of `torchvision:resnet18` what follows the colon is a parameter.

    Raises:
        ConfigError: an unknown encoder, one that takes nothing behind a colon, or the same given twice.
    """
    spelled = want if isinstance(want, Mapping) else {"name": want}
    name, colon, rest = str(spelled.get("name")).partition(":")
    if not colon:
        return spelled
    named_by, params = encoder_facts(index.find("encoder", name)).named_by, spelled.get("params") or {}
    if not named_by:
        raise ConfigError(f"the encoder {name!r} takes nothing behind a colon, not {brief(rest)}", f"Write {name}")
    if not isinstance(params, Mapping):
        return {**spelled, "name": name}
    if named_by in params:
        what = f"the encoder {brief(spelled['name'])} names {named_by} among its params once more"
        raise ConfigError(what, "Say it once")
    return {**spelled, "name": name, "params": {named_by: rest, **params}}


def _encoders(
    value: object, modalities: Sequence[Modality], index: Index, where: str, stored: bool
) -> dict[str, EncoderChoice]:
    """Resolve `encoder`: a name for all, or modality -> name or {name, params, freeze, lr}.

    `auto` is the one that the type of the modality names. A stored one has `pretrained` too.
    """
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
        want = _spelled(want, index)
        want = {**want, "name": modality.type.encoder} if want.get("name") == AUTO else want
        for key in want:
            if key not in ENCODER_KEYS and not (stored and key == "pretrained"):
                hint = nearest(key, ENCODER_KEYS) if key != "pretrained" else _weights_hint(want, index)
                raise ConfigError(f"{where}: encoder of {modality.name}: unknown key {brief(key)}", hint)
        entry = index.find("encoder", str(want.get("name")))
        facts = encoder_facts(entry)
        if reason := facts.why_not(modality):
            what = f"{where}: the encoder {entry.name!r} can't take {modality.name!r} {reason}"
            fitting = [e.name for e in index.of("encoder") if not e.error and not encoder_facts(e).why_not(modality)]
            raise ConfigError(what, f"Choose another for that modality: {', '.join(fitting) or 'there is none yet'}")
        given = want.get("params") or {}
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{where}: params of {entry.name} are {brief(given)}, no mapping", "Write {name: value}"
            )
        params = check(facts.params, given, f"{where}: encoder {entry.name}")
        if facts.named_by and params.get(facts.named_by) is None:
            what = f"{where}: the encoder {entry.name!r} of {modality.name!r} lacks its {facts.named_by}"
            raise ConfigError(what, f"Write {entry.name}:{facts.named_by.upper()}")
        pretrained = _pretrained(entry.name, facts, params, where)
        about = f"{where}: encoder of {modality.name}"
        held = _freeze(want.get("freeze"), about)
        steps: dict[str, Any] = check(STEPS, {"lr": want["lr"]} if "lr" in want else {}, about)
        lr = EncoderSteps(**steps).lr
        if held == (ALL,) and lr != 1:
            raise ConfigError(f"{about}: lr has no effect on what is frozen whole", "Leave lr or `freeze: all` out")
        resolved[modality.name] = EncoderChoice(entry.name, params, pretrained, held, lr)
    return resolved


def _freeze(value: object, where: str) -> tuple[str, ...]:
    """Return the parts of an encoder that `freeze` names, sorted.

    Whether the encoder has them is known once it is built (`Encoder.hold`).

    Raises:
        ConfigError: it is no list of names; one stands there twice, or beside `all`.
    """
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and re.fullmatch(WORD, name) for name in names):
        what = f"{where}: freeze is {brief(value)}, not a list of its parts"
        raise ConfigError(what, f"Write `freeze: {ALL}`, or `freeze: [PART, PART]`")
    if len(set(names)) < len(names) or (ALL in names and len(names) > 1):
        raise ConfigError(f"{where}: freeze names a part twice: {', '.join(names)}", "Name each once")
    return tuple(sorted(names))


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
    if isinstance(value, Mapping) and "name" not in value:
        return {modality: _located(chosen, folder, index) for modality, chosen in value.items()}
    value = _spelled(value, index) if isinstance(value, Mapping | str) else value
    if not isinstance(value, Mapping):
        return value
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
    settled = _settled({**values, **overrides}, best(), where)
    resolved = check_recipe(Path(name).stem, settled, modalities, index, where)
    if resolved.arithmetic == PORTABLE and (reason := why_not_portable()):
        fix = f"Write `arithmetic: {NATIVE}`, or `{AUTO}` to have it where a machine can"
        raise ConfigError(f"{where}: portable arithmetic can't be had: {reason}", fix)
    meant = _settled({key: value for key, value in values.items() if key != "encoder"}, PORTABLE, where)
    before = check(FIELDS, meant, where)
    changed = {key: getattr(resolved, key) for key in before if getattr(resolved, key) != before[key]}
    if "encoder" in overrides:  # its name has a column of its own, its parameters have none
        changed |= _set_otherwise(resolved.encoder, index)
    words = [f"{key}={value_text(value)}" for key, value in changed.items()]
    return replace(resolved, name=" ".join([resolved.name, *words]))  # another recipe, so another name


def _settled(values: Mapping[str, object], arithmetic: str, where: str) -> Mapping[str, object]:
    """Return fields in which an arithmetic that is left to the machine is this one.

    Raises:
        ConfigError: it is none of the three.
    """
    found = values.get("arithmetic", NATIVE)
    if found not in (*ARITHMETICS, AUTO):
        what = f"{where}: arithmetic = {brief(found)} is not valid"
        raise ConfigError(what, f"It takes {', '.join(ARITHMETICS)} or {AUTO}")
    return {**values, "arithmetic": arithmetic} if values.get("arithmetic") == AUTO else values


def _set_otherwise(encoders: Mapping[str, EncoderChoice], index: Index) -> dict[str, Scalar]:
    """Return 'modality.parameter' -> value of the encoders' parameters that are not at their default.

    Files and what stands behind a colon are left out: they are a part of the encoder's label.
    """
    found = {}
    for modality, chosen in encoders.items():
        facts = encoder_facts(index.find("encoder", chosen.name))
        for one in facts.params:
            shown = one.name == facts.named_by or one.type in FILES
            if not shown and chosen.params[one.name] != one.default:
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
    _check_rates(recipe, where)
    if (recipe.crop == "random") != bool(recipe.crop_size):
        raise ConfigError(f"{where}: `crop: random` and crop_size go together", "Set both, or neither")
    return replace(recipe, encoder=_encoders(values.get("encoder", "small_cnn"), modalities, index, where, stored))


def _check_rates(recipe: Recipe, where: str) -> None:
    """Refuse settings of the learning rate that have no effect beside the others, or contradict them.

    Raises:
        ConfigError: naming the field, and what it can be set to.
    """
    if recipe.schedule == "cosine":
        for one in FIELDS:
            if one.name in ("drop_at", "drop_every", "drop_factor") and getattr(recipe, one.name) != one.default:
                what = f"{where}: {one.name} has no effect under `schedule: cosine`"
                raise ConfigError(what, f"Leave it out, or set {one.name} back to {one.default}")
    if not recipe.warmup:
        return
    if recipe.warmup >= recipe.epochs:
        what = f"{where}: `warmup: {recipe.warmup:g}` fills all of the epochs ({recipe.epochs})"
        raise ConfigError(what, "Set `warmup` to fewer epochs")
    drop = recipe.drop_every or (round(recipe.drop_at * recipe.epochs) if recipe.drop_at < 1 else recipe.epochs)
    if recipe.schedule == "step" and drop < recipe.warmup:
        what = f"{where}: the rate drops at epoch {drop}, before `warmup: {recipe.warmup:g}` has ended"
        raise ConfigError(what, "Shorten `warmup`, or let the rate drop later")


def _check_noise(recipe: Recipe, names: list[str], where: str) -> None:
    """Refuse noise on an unknown modality, or on none."""
    if recipe.noise_on is not None and recipe.noise_on not in names:
        raise ConfigError(
            f"{where}: noise_on names an unknown modality {brief(recipe.noise_on)}", nearest(recipe.noise_on, names)
        )
    if bool(recipe.noise_on) != bool(recipe.noise_std):
        raise ConfigError(f"{where}: noise needs both noise_on and noise_std", "Set both, or neither")
