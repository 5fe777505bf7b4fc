"""Plug-in files from folders named in a config (`plugins:`), importable as `mmlbench.plugins.*`."""

import os

#: Folders named in the config travel to child processes in this variable.
VARIABLE = "MMLBENCH_PLUGINS"

__path__[:] = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
