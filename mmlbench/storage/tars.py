"""Tar headers of bounded size: the reader of the standard library takes whatever a header announces into memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

#: A header beside a member's own holds a long name and little else.
MOST_HEADER_BYTES = 64 * 2**10
#: So many headers may stand before one member.
MOST_HEADERS = 8


class RefusedHeader(tarfile.ReadError):
    """A header that is whole, and of a kind or size that is not taken."""


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
        if self.size < 0:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if extra and self.size > MOST_HEADER_BYTES:
            raise RefusedHeader(f"a header of {self.size} bytes stands before a member")
        if extra and before >= MOST_HEADERS:
            raise RefusedHeader(f"more than {MOST_HEADERS} headers stand before one member")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._sparse()
        if self.type == tarfile.XGLTYPE and not self.takes_global:
            raise RefusedHeader("a header for all members")
        tar.headers_before = before + 1 if extra else 0  # type: ignore[attr-defined]
        found = super()._proc_member(tar)  # type: ignore[misc]
        told = found.pax_headers.get("size")
        # a negative size leads back, so that the same members come again without end; a wrong one reads as 0
        if found.size < 0 or (told is not None and (told.lstrip("0") or "0") != str(found.size)):
            raise tarfile.ReadError(f"the member {found.name[:80]!r} has a size of {(told or str(found.size))[:80]}")
        if "size" in tar.pax_headers:
            raise RefusedHeader("a size for all members")
        return found

    def _sparse(
        self, found: tarfile.TarInfo | None = None, told: Mapping[str, str] | None = None, *_: object
    ) -> NoReturn:
        name = (told or {}).get("GNU.sparse.name") or (found or self).name
        raise RefusedHeader(f"the member {name[:80]!r} is a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


class StudyHeader(BoundedHeader):
    """A member of an exported study."""

    takes_global = False


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar without keeping them; a million headers would fill the memory."""
    while (member := tar.next()) is not None:
        yield member
        tar.members.clear()  # type: ignore[attr-defined]
