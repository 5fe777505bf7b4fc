"""mmlbench: does a multimodal method beat joint training, and what does modality competition cost each modality?"""

__version__ = "0.1.0"
