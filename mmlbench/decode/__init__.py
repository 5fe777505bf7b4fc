"""From bytes to arrays: what official sources hand out is decoded here, once, for all datasets. No torch.

`video`, `sound` and `image` read files, with `containers` for what a file says of itself; `flow`, `meshes`,
`spectrograms` and `resampling` compute. `pickles` reads pickles without running them, `hdf5` HDF5 without what lies
outside the file. `fault` is the error of a file that can't be used. Unpacking, workers and resuming are in
`mmlbench.prepare`; split lists are in `mmlbench.frontends.lists`.
"""

from __future__ import annotations

import importlib
import types

from ..errors import DataError

#: Import name -> name of the package, for what the extra `prepare` brings.
_PACKAGES = {"PIL": "pillow", "cv2": "opencv-contrib-python-headless", "skimage": "scikit-image"}


def need(module: str) -> types.ModuleType:
    """Import a library that only preparing needs.

    Raises:
        DataError: it is not installed; the fix names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        what = f"preparing needs the package {_PACKAGES.get(top, top)!r}, which is not installed ({error})"
        raise DataError(what, "Install it: pip install 'mmlbench[prepare]'") from error
