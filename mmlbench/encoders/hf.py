"""A Hugging Face model in a folder of this machine: text or pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoder import Encoder, Expects, State
from ..errors import ConfigError, DataError, fault
from ..files import Folder, tokenizer_hash
from ..modality import Modality
from ..params import EncoderParams, choice, folder_field
from ..registry import register
from ..steps import masked_mean

#: Files, one of which holds the weights.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def _offline_transformers() -> Any:
    """Return the package transformers, told to fetch nothing.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import transformers
    except ImportError as error:
        what = f"the encoder 'hf' needs the package transformers ({error})"
        raise ConfigError(what, "Install it: pip install 'mmlbench[hf]'") from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _json(path: Path) -> Mapping[str, Any]:
    """Return what a file of the folder says.

    Raises:
        DataError: it is missing, or holds no mapping.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}", "Save the model by save_pretrained(FOLDER)") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error})", "Save the model by save_pretrained(FOLDER)") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no mapping", "Save the model by save_pretrained(FOLDER)")
    return found


def expects_of(config: Any, folder: Path) -> Expects:
    """Return what a vision model was trained with, by its config and its preprocessor_config.json.

    Raises:
        DataError: that file is missing, or does not say how pictures are normalised.
    """
    shown, side = _json(folder / "preprocessor_config.json"), config.image_size
    size = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
    channels = int(getattr(config, "num_channels", 3))
    if not shown.get("do_normalize", True):
        return Expects((0.0,) * channels, (1.0,) * channels, size)
    mean, std = shown.get("image_mean"), shown.get("image_std")
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == channels):
        what = f"{folder / 'preprocessor_config.json'} has no image_mean and image_std of {channels} channels"
        raise DataError(what, "Save the image processor by save_pretrained(FOLDER)")
    return Expects(tuple(map(float, mean)), tuple(map(float, std)), size)


@register
class HuggingFace(Encoder):
    """A Hugging Face model in a local folder, `hf:FOLDER`: text (as BERT) or pictures (as ViT).

    The folder is what `save_pretrained` writes: config.json, model.safetensors, and a tokenizer or, of pictures,
    preprocessor_config.json. Nothing is downloaded, no code in it is run, and no pickle is read. The content of its
    files is a part of the run's identity.

    Text is a modality of tokens: ids (B, L) of that very tokenizer, whose hash the modality declares, and a mask
    (B, L), true where a token is real. Pictures are (B, C, H, W), normalised as the preprocessor does it; channels
    and size have to be those of the model.

    The feature is the mean over the last hidden states of all real positions (`mean`), or the first one (`cls`). The
    pooler is left out. Attention is computed step by step (`eager`), which is deterministic everywhere.

    Source: AutoModel of the installed transformers.
    """

    class Params(EncoderParams):
        folder: Folder | None = folder_field(doc="with config, weights and tokenizer or preprocessor")
        feature: str = choice("mean", ("mean", "cls"), doc="mean over real positions, or the first one")

    named_by = "folder"
    packages = ("transformers",)
    pretrained = True
    takes_ids = True
    takes_mask = True
    ranks = (1, 3)
    channel_dim = -1

    def __init__(self, shape: tuple[int, ...], params: HuggingFace.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        if params.folder is None:
            raise ConfigError("the encoder 'hf' names no folder", "Write hf:FOLDER")
        path = self.place = params.folder.path
        _json(path / "config.json")
        if not any((path / name).is_file() for name in WEIGHTS):
            fix = "Save the model by save_pretrained(FOLDER): pickles are not read"
            raise DataError(f"{path} holds no weights ({', '.join(WEIGHTS)})", fix)
        transformers = _offline_transformers()
        config = self._config(transformers, path)
        self.text = vocabulary > 0
        self.dim, self.feature = int(config.hidden_size), params.feature
        self._check(config, path)
        self.model = self._loaded(transformers, config, path)
        self.model.pooler = None
        params.folder.check(path)

    @staticmethod
    def _config(transformers: Any, path: Path) -> Any:
        """Return the model's configuration.

        Raises:
            DataError: transformers does not know it.
        """
        try:
            return transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds
            what = f"{path / 'config.json'} is of no model that transformers knows: {fault(error)[0]}"
            raise DataError(what, "Save the model by save_pretrained(FOLDER)") from None

    def _check(self, config: Any, path: Path) -> None:
        """Refuse a model that does not fit the modality.

        Raises:
            ConfigError: another kind of input, size, length or vocabulary, no tokenizer. DataError: no preprocessor.
        """
        reads = hasattr(config, "vocab_size") and not getattr(config, "is_encoder_decoder", False)
        sees = hasattr(config, "image_size") and not hasattr(config, "vocab_size") and len(self.shape) == 3
        if not (reads if self.text else sees):
            takes = "token ids (L,)" if self.text else "pictures (C, H, W)"
            what = f"the {config.model_type} model in {path} can't take {takes}, and the modality has {self.shape}"
            raise ConfigError(what, "Name a text model such as BERT for ids, a vision model such as ViT for pictures")
        if not self.text:
            self.expect(expects_of(config, path))
            return
        self.tokenizer = tokenizer_hash(path)
        most = getattr(config, "max_position_embeddings", None)
        if isinstance(most, int) and self.shape[0] > most:
            what = f"the model in {path} takes {most} tokens at most, and the modality has {self.shape[0]}"
            raise ConfigError(what, "Prepare shorter sequences, or name another model")
        if self.vocabulary > config.vocab_size:
            what = f"the model in {path} knows the ids 0 to {config.vocab_size - 1}, and the modality has ids up to"
            fix = "Prepare the text with the folder's tokenizer, or name the folder whose tokenizer made the ids"
            raise ConfigError(f"{what} {self.vocabulary - 1}", fix)

    def check_modality(self, modality: Modality) -> None:
        """Refuse ids that another tokenizer made, or nobody knows which.

        Raises:
            ConfigError: the modality declares no `tokenizer_hash`, or another one.
        """
        if not self.text or modality.tokenizer_hash == self.tokenizer:
            return
        where = f"the tokenizer in {self.place} is {self.tokenizer}"
        if modality.tokenizer_hash:
            made = f"{modality.tokenizer or 'another one'}, {modality.tokenizer_hash}"
            fix = "Prepare the text with the folder's tokenizer, or name the folder whose tokenizer made the ids"
            raise ConfigError(f"{where}, and the ids of {modality.name!r} were made by {made}", fix)
        what = f"{where}, and {modality.name!r} does not say which one made its ids"
        raise ConfigError(what, f"If it is that one, declare tokenizer_hash={self.tokenizer!r} in the dataset")

    def _loaded(self, transformers: Any, config: Any, path: Path) -> Any:
        """Return the model with its weights, without any where only shapes are wanted.

        Raises:
            DataError: the weights are of another architecture.
        """
        if torch.empty(0).device.type == "meta":  # as `estimate` builds encoders
            return transformers.AutoModel.from_config(config, attn_implementation="eager")
        options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        options["ignore_mismatched_sizes"] = True  # they are refused below, by their names
        try:
            model, info = transformers.AutoModel.from_pretrained(
                path, config=config, attn_implementation="eager", output_loading_info=True, **options
            )
        except Exception as error:
            what = f"the weights in {path} can't be loaded: {fault(error)[0]}"
            raise DataError(what, "Save the model by save_pretrained(FOLDER)") from None
        lacking = sorted(name for name in info["missing_keys"] if "pooler." not in name)
        other = sorted(str(one[0] if isinstance(one, tuple | list) else one) for one in info["mismatched_keys"])
        if lacking or other:
            faults = [f"they lack {', '.join(lacking[:3])}"] * bool(lacking)
            faults += [f"of another shape: {', '.join(other[:3])}"] * bool(other)
            what = f"the weights in {path} do not fit its config.json: {'; '.join(faults)}"
            raise DataError(what, "Name a folder that was saved from one model")
        return model.float()

    def _cut(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return text cut to its declared length: a batch may be padded to more, for which the model has no place."""
        if not self.text:
            return inputs, mask
        return inputs[:, : self.shape[0]], None if mask is None else mask[:, : self.shape[0]]

    def _hidden(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last hidden states (B, N, dim)."""
        if not self.text:
            return self.model(pixel_values=inputs).last_hidden_state
        seen = None if mask is None else mask.to(torch.int64)
        return self.model(input_ids=inputs, attention_mask=seen).last_hidden_state

    def start(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """Return the inputs of the model."""
        return super().start(*self._cut(inputs, mask))

    def maps(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """Return the last hidden states."""
        state = self.start(inputs, mask)
        return replace(state, values=self._hidden(state.values, state.mask))

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim): the mean over real positions, or the first one."""
        return values[:, 0] if self.feature == "cls" else masked_mean(values, mask)

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of token ids (B, L) with a mask, or of pictures (B, C, H, W)."""
        inputs, mask = self._cut(inputs, mask)
        return self.pool(self._hidden(inputs, mask), mask)
