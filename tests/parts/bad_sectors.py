"""A medium with unreadable places: reads that touch them fail with EIO, as the kernel reports a defect.

Or one that is pulled out just then: from there on it is gone.
"""

from __future__ import annotations

import dataclasses
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.programs import Program

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int broken(int fd, const struct iovec *parts, int count, off_t offset) {
    char link[64], path[PATH_MAX];
    const char *bad = getenv("BAD_FILE");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!bad || length < 0) return 0;
    path[length] = 0;
    static int gone;
    if (!strncmp(path, bad, strlen(bad)) && gone) return 1;
    off_t end = offset;
    for (int i = 0; i < count; i++) end += parts[i].iov_len;
    int hit = !strcmp(path, bad) && offset < atoll(getenv("BAD_END")) && end > atoll(getenv("BAD_START"));
    if (hit && getenv("BAD_GONE")) gone = !unlink(bad);
    return hit;
}

#define WRAP(name, type, declared, passed)                               \
    ssize_t name declared {                                              \
        if (broken(fd, parts, count, offset)) { errno = EIO; return -1; } \
        return ((type) dlsym(RTLD_NEXT, #name)) passed;                  \
    }
typedef ssize_t (*four)(int, const struct iovec *, int, off_t);
typedef ssize_t (*five)(int, const struct iovec *, int, off_t, int);
WRAP(preadv, four, (int fd, const struct iovec *parts, int count, off_t offset), (fd, parts, count, offset))
WRAP(preadv64, four, (int fd, const struct iovec *parts, int count, off_t offset), (fd, parts, count, offset))
WRAP(preadv2, five, (int fd, const struct iovec *parts, int count, off_t offset, int flags),
     (fd, parts, count, offset, flags))
WRAP(preadv64v2, five, (int fd, const struct iovec *parts, int count, off_t offset, int flags),
     (fd, parts, count, offset, flags))
"""


def with_bad_sectors(program: Program, folder: Path, file: Path, start: int, end: int) -> Program:
    """`program` where the bytes from `start` to `end` of `file` cannot be read. `folder` is for the shim."""
    library = folder / "bad-sectors.so"
    if not library.exists():
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
        subprocess.run(command, input=_SHIM, text=True, check=True)
    shim = {"LD_PRELOAD": str(library), "BAD_FILE": str(file), "BAD_START": str(start), "BAD_END": str(end)}
    return dataclasses.replace(program, environment={**program.environment, **shim})


def pulled_out(program: Program, folder: Path, file: Path, place: int) -> Program:
    """`program` in front of a medium that is taken out when byte `place` of `file` is read: the file is gone then."""
    worn = with_bad_sectors(program, folder, file, place, place + 1)
    return dataclasses.replace(worn, environment={**worn.environment, "BAD_GONE": "1"})
