"""Raw files as the official sources hand them out: decoded here, once, for all datasets. No torch.

`lists` reads split lists, `video`, `sound` and `image` decode, `faults` names what can't be used, `archives` unpacks,
and `work` does it item by item, in parallel, so that a kill at any moment loses the items in hand and no more.
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
