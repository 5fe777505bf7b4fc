"""The files of the checkout's top-level folder `datasets/`, importable as `mmlbench.datasets.*`.

The folder itself has no `__init__.py`: with one, a root package `datasets` would break every
`import datasets` of Hugging Face.
"""

from mmlbench.storage.paths import plugin_folders

__path__[:] = [str(folder) for folder in plugin_folders("datasets")]
