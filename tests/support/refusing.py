"""File systems that can't do a thing, made at the system call: a library that comes before the C library's own.

`environment(folder, link=errno.EPERM)` gives the environment of a process in which hard links fail with EPERM;
`flock` and `mmap` (shared maps of files) go the same way. Processes that it starts are refused the same things.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
static int refused(const char *name) {
    const char *value = getenv(name);
    if (value) errno = atoi(value);
    return value != 0;
}
#define NEXT(name) dlsym(RTLD_NEXT, name)
int link(const char *a, const char *b) {
    if (refused("REFUSE_link")) return -1;
    return ((int (*)(const char *, const char *))NEXT("link"))(a, b);
}
int linkat(int f, const char *a, int g, const char *b, int flags) {
    if (refused("REFUSE_link")) return -1;
    return ((int (*)(int, const char *, int, const char *, int))NEXT("linkat"))(f, a, g, b, flags);
}
int flock(int f, int operation) {
    if (refused("REFUSE_flock")) return -1;
    return ((int (*)(int, int))NEXT("flock"))(f, operation);
}
#define MAP(name, offset_type) \
    void *name(void *at, size_t length, int prot, int flags, int f, offset_type offset) { \
        if (f >= 0 && (flags & MAP_TYPE) != MAP_PRIVATE && refused("REFUSE_mmap")) return MAP_FAILED; \
        if (f >= 0 && (prot & PROT_WRITE) && refused("REFUSE_every_mmap")) return MAP_FAILED; \
        void *(*next)(void *, size_t, int, int, int, offset_type) = NEXT(#name); \
        return next(at, length, prot, flags, f, offset); \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)
"""


def environment(folder: Path, **refused: int) -> dict[str, str]:
    """Return the environment in which system calls are refused, each with its error number."""
    compiler, library = shutil.which("cc"), folder / "refusing.so"
    if compiler is None:
        pytest.skip("not run: no C compiler is here")
    if not library.exists():
        (folder / "refusing.c").write_text(SOURCE, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", "-w", "-o", str(library), str(folder / "refusing.c"), "-ldl"]
        subprocess.run(command, check=True)
    loaded = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")]))
    numbers = {f"REFUSE_{name}": str(number) for name, number in refused.items()}
    return os.environ | {"LD_PRELOAD": loaded, "OMP_NUM_THREADS": "1"} | numbers
