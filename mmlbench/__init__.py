"""mmlbench: does a multimodal method beat joint training, and what does modality competition cost each modality?

    import mmlbench as mb

    mb.list_methods()
    run = mb.train_run(dataset="avdigits", method="ogm_ge", seed=0)
    mb.load("results").table("accuracy")

A file with a method, dataset or encoder takes what it needs from here too, in one line::

    from mmlbench import Batch, Logits, Method, MethodParams, bounded, fusion_head, register

A name is imported when it is first asked for, so that reading tables needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .system import interrupt

interrupt.guard()  # before anything else is imported

from .system import compat  # noqa: E402
from .version import __version__  # noqa: E402

compat.install()  # plug-ins import torchvision and torchaudio by their plain names

if TYPE_CHECKING:
    from .api.plugins import Description, describe, list_datasets, list_encoders, list_methods
    from .api.results import Results, load
    from .api.run import Run, prepare_dataset, train_run, train_stored
    from .api.study import make_tables, run_study
    from .dataset import CacheWriter, Dataset, Download, KnownFault, Listed, Modality, Sample, Split
    from .encoder import Encoder
    from .errors import ConfigError, DataError, MmlbenchError, RunError
    from .files import File
    from .fusion import (
        DECOMPOSABLE,
        FUSIONS,
        Concat,
        FusionHead,
        certainty,
        certainty_weighted,
        certainty_weights,
        fusion_head,
        mean_probability,
        own_heads,
    )
    from .method import Batch, EpochContext, Features, Logits, Mechanism, Method, Stage, Step
    from .params import DatasetParams, EncoderParams, MethodParams, bounded, choice, file_field, moment
    from .registry import register
    from .study.tuning import Tune
    from .train import Stopped
    from .weights import load_weights

#: Module -> the public names that it holds. The imports above are the same for type checkers; a test compares them.
_PUBLIC = {
    "api.plugins": ("Description", "describe", "list_datasets", "list_encoders", "list_methods"),
    "api.results": ("Results", "load"),
    "api.run": ("Run", "prepare_dataset", "train_run", "train_stored"),
    "api.study": ("make_tables", "run_study"),
    "dataset": ("CacheWriter", "Dataset", "Download", "KnownFault", "Listed", "Modality", "Sample", "Split"),
    "encoder": ("Encoder",),
    "errors": ("ConfigError", "DataError", "MmlbenchError", "RunError"),
    "files": ("File",),
    "fusion": (
        *("DECOMPOSABLE", "FUSIONS", "Concat", "FusionHead", "certainty", "certainty_weighted", "certainty_weights"),
        *("fusion_head", "mean_probability", "own_heads"),
    ),
    "method": ("Batch", "EpochContext", "Features", "Logits", "Mechanism", "Method", "Stage", "Step"),
    "params": ("DatasetParams", "EncoderParams", "MethodParams", "bounded", "choice", "file_field", "moment"),
    "registry": ("register",),
    "study.tuning": ("Tune",),
    "train": ("Stopped",),
    "weights": ("load_weights",),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
