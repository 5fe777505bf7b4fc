"""Tar headers of bounded size: the reader of the standard library takes whatever a header announces into memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, NoReturn

#: A header beside a member's own holds a long name and little else.
MOST_HEADER_BYTES = 64 * 2**10
#: So many headers may stand before one member.
MOST_HEADERS = 8


class BoundedHeader(tarfile.TarInfo):
    """A member whose headers are small and few, and that is stored as it is, not as a sparse file."""

    #: Whether headers for all members that follow are taken; `git archive` writes one.
    takes_global = True

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        extra = self.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        )
        before: int = getattr(tar, "headers_before", 0)
        if self.size < 0 or (extra and (self.size > MOST_HEADER_BYTES or before >= MOST_HEADERS)):
            raise tarfile.ReadError(f"a header of {self.size} bytes, the {before + 1}. before one member")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._sparse()
        if self.type == tarfile.XGLTYPE and not self.takes_global:
            raise tarfile.ReadError("a header for all members")
        tar.headers_before = before + 1 if extra else 0  # type: ignore[attr-defined]
        return super()._proc_member(tar)  # type: ignore[misc]

    def _sparse(self, *_: object) -> NoReturn:
        raise tarfile.ReadError(f"the member {self.name[:80]!r} is a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


class StudyHeader(BoundedHeader):
    """A member of an exported study."""

    takes_global = False


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar without keeping them; a million headers would fill the memory."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]
