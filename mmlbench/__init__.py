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

# `as` says to type checkers that a name is handed on.
# isort: off
if TYPE_CHECKING:
    from .api.plugins import (
        Description as Description,
        describe as describe,
        list_datasets as list_datasets,
        list_encoders as list_encoders,
        list_methods as list_methods,
    )
    from .api.results import Results as Results, load as load
    from .api.run import (
        Run as Run,
        prepare_dataset as prepare_dataset,
        train_run as train_run,
        train_stored as train_stored,
    )
    from .api.study import make_tables as make_tables, run_study as run_study
    from .dataset import (
        CacheWriter as CacheWriter,
        Dataset as Dataset,
        Download as Download,
        KnownFault as KnownFault,
        KnownLists as KnownLists,
        Listed as Listed,
        Sample as Sample,
        Split as Split,
    )
    from .encoder import Encoder as Encoder, Expects as Expects
    from .errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        MmlbenchError as MmlbenchError,
        RunError as RunError,
    )
    from .files import File as File, Folder as Folder
    from .fusion import (
        DECOMPOSABLE as DECOMPOSABLE,
        FUSIONS as FUSIONS,
        Concat as Concat,
        FusionHead as FusionHead,
        certainty as certainty,
        certainty_weighted as certainty_weighted,
        certainty_weights as certainty_weights,
        fusion_head as fusion_head,
        mean_probability as mean_probability,
        own_heads as own_heads,
    )
    from .method import (
        Batch as Batch,
        EpochContext as EpochContext,
        Features as Features,
        Logits as Logits,
        Mechanism as Mechanism,
        Method as Method,
        Sampling as Sampling,
        Stage as Stage,
        Step as Step,
        Turn as Turn,
    )
    from .modality import (
        Augmentation as Augmentation,
        Modality as Modality,
        ModalityType as ModalityType,
    )
    from .params import (
        DatasetParams as DatasetParams,
        EncoderParams as EncoderParams,
        MethodParams as MethodParams,
        bounded as bounded,
        choice as choice,
        file_field as file_field,
        folder_field as folder_field,
        moment as moment,
    )
    from .registry import register as register
    from .study.tuning import Tune as Tune
    from .task import (
        ALL_TASKS as ALL_TASKS,
        Classification as Classification,
        Multilabel as Multilabel,
        Regression as Regression,
        Task as Task,
    )
    from .train import Stopped as Stopped
    from .weights import load_weights as load_weights

# isort: on

#: Module -> the public names that it holds. The imports above are the same for type checkers; a test compares them.
_PUBLIC = {
    "api.plugins": ("Description", "describe", "list_datasets", "list_encoders", "list_methods"),
    "api.results": ("Results", "load"),
    "api.run": ("Run", "prepare_dataset", "train_run", "train_stored"),
    "api.study": ("make_tables", "run_study"),
    "dataset": (
        "CacheWriter",
        "Dataset",
        "Download",
        "KnownFault",
        "KnownLists",
        "Listed",
        "Sample",
        "Split",
    ),
    "encoder": ("Encoder", "Expects"),
    "errors": ("ConfigError", "DataError", "MmlbenchError", "RunError"),
    "files": ("File", "Folder"),
    "fusion": (
        *("DECOMPOSABLE", "FUSIONS", "Concat", "FusionHead", "certainty", "certainty_weighted", "certainty_weights"),
        *("fusion_head", "mean_probability", "own_heads"),
    ),
    "method": (
        *("Batch", "EpochContext", "Features", "Logits", "Mechanism", "Method", "Sampling", "Stage", "Step", "Turn"),
    ),
    "modality": ("Augmentation", "Modality", "ModalityType"),
    "params": (
        "DatasetParams",
        "EncoderParams",
        "MethodParams",
        "bounded",
        "choice",
        "file_field",
        "folder_field",
        "moment",
    ),
    "registry": ("register",),
    "study.tuning": ("Tune",),
    "task": ("ALL_TASKS", "Classification", "Multilabel", "Regression", "Task"),
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
