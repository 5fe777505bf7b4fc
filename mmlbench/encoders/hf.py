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
from ..files import Folder
from ..params import EncoderParams, choice, folder_field
from ..registry import register

#: Files, one of which holds the weights, and of which one makes a tokenizer.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model"),
    "sentencepiece.bpe.model",
)


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


def _one_of(folder: Path, names: tuple[str, ...], what: str, fix: str) -> None:
    if not any((folder / name).is_file() for name in names):
        raise DataError(f"{folder} holds no {what} ({', '.join(names[:3])})", fix)


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

    Text is token ids (B, L) of that tokenizer, int64, with a mask (B, L) that is true where a token is real. Pictures
    are (B, C, H, W), normalised as the preprocessor does it; channels and size have to be those of the model.

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
    takes_mask = True
    ranks = (1, 3)
    channel_dim = -1

    def __init__(self, shape: tuple[int, ...], params: HuggingFace.Params) -> None:
        super().__init__(shape, params)
        if params.folder is None:
            raise ConfigError("the encoder 'hf' names no folder", "Write hf:FOLDER")
        path = params.folder.path
        _json(path / "config.json")
        _one_of(path, WEIGHTS, "weights", "Save the model by save_pretrained(FOLDER): pickles are not read")
        transformers = _offline_transformers()
        config = self._config(transformers, path)
        self.text = len(shape) == 1
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
            ConfigError: another kind of input, size or length. DataError: no tokenizer, no preprocessor.
        """
        reads = hasattr(config, "vocab_size") and not getattr(config, "is_encoder_decoder", False)
        sees = hasattr(config, "image_size") and not hasattr(config, "vocab_size")
        if not (reads if self.text else sees):
            takes = "token ids (L,)" if self.text else "pictures (C, H, W)"
            what = f"the {config.model_type} model in {path} can't take {takes}, and the modality has {self.shape}"
            raise ConfigError(what, "Name a text model such as BERT for ids, a vision model such as ViT for pictures")
        if not self.text:
            self.expect(expects_of(config, path))
            return
        _one_of(path, TOKENIZERS, "tokenizer", "Save the tokenizer that made the ids: save_pretrained(FOLDER)")
        most = getattr(config, "max_position_embeddings", None)
        if isinstance(most, int) and self.shape[0] > most:
            what = f"the model in {path} takes {most} tokens at most, and the modality has {self.shape[0]}"
            raise ConfigError(what, "Prepare shorter sequences, or name another model")

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

    def example(self, count: int, frames: int = 1) -> Tensor:
        """Return inputs of zeros: token ids (count, L), or pictures."""
        return torch.zeros(count, *self.shape, dtype=torch.int64) if self.text else super().example(count, frames)

    def maps(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """Return the last hidden states."""
        state = self.start(inputs, mask)
        return replace(state, values=self._hidden(state.values, state.mask))

    def _hidden(self, inputs: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last hidden states (B, N, dim)."""
        if not self.text:
            return self.model(pixel_values=inputs).last_hidden_state
        seen = None if mask is None else mask.to(torch.int64)
        return self.model(input_ids=inputs, attention_mask=seen).last_hidden_state

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of token ids (B, L) with a mask, or of pictures (B, C, H, W)."""
        hidden = self._hidden(inputs, mask)
        if self.feature == "cls":
            return hidden[:, 0]
        if mask is None or not self.text:
            return hidden.mean(1)
        real = mask.unsqueeze(2).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp_min(1)
