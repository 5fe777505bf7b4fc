"""mmlbench: does a multimodal method beat joint training, and what does modality competition cost each modality?"""

from .system import interrupt

interrupt.guard()  # before anything else is imported

from .system import compat  # noqa: E402

__version__ = "0.2.0"
compat.install()  # plug-ins import torchvision and torchaudio by their plain names
