"""Energy that a GPU has used, as its driver counts it; nothing where the driver counts none."""

from __future__ import annotations

import ctypes
from typing import Any

import torch


def _library() -> Any:
    """Return NVIDIA's management library, started, or None; it comes with the driver and needs no package."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def millijoules(device: torch.device) -> int | None:
    """Return the energy that a device has used since its driver was loaded, in mJ; None where nothing tells."""
    library = _library() if device.type == "cuda" else None
    if library is None:
        return None
    name = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
    handle, total = ctypes.c_void_p(), ctypes.c_ulonglong()
    name = name if name.startswith(("GPU-", "MIG-")) else f"GPU-{name}"
    if library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)) != 0:
        return None
    if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(total)) != 0:
        return None
    return int(total.value)


class EnergyMeter:
    """Energy of a device from its making to `joules`; of the whole device, whoever else computes on it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.start = device, millijoules(device)

    def joules(self, resumed: int) -> float | None:
        """Return joules; None where nothing tells, or where an earlier attempt's share is not known."""
        now = millijoules(self.device) if self.start is not None and not resumed else None
        return None if now is None or self.start is None else (now - self.start) / 1000
