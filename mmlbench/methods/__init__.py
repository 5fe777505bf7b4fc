"""The files of the checkout's top-level folder `methods/`, importable as `mmlbench.methods.*`.

The folder itself has no `__init__.py`: its neighbour `datasets/` with one would break every
`import datasets` of Hugging Face, and both folders follow one rule.
"""

from mmlbench.storage.paths import plugin_folders

__path__[:] = [str(folder) for folder in plugin_folders("methods")]
