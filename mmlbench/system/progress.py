"""Lines of progress for people: the logger `mmlbench`, which a program may show or leave silent."""

from __future__ import annotations

import logging

logger = logging.getLogger("mmlbench")


def log(line: str) -> None:
    """Tell people one line of progress."""
    logger.info(line)
