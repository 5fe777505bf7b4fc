"""mmlbench: does a multimodal method beat joint training, and what does modality competition cost each modality?"""

from . import compat

__version__ = "0.1.0"
compat.install()  # plug-ins import torchvision and torchaudio by their plain names
