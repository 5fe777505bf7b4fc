"""What `mmlbench doctor` finds: one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line: 'ok', 'note' (worth knowing) or 'wrong' (something will fail), about what, and the fix."""

    verdict: str
    about: str
    what: str
    fix: str = ""
