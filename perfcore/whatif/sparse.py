"""Make the files of an empty table or index as long as the real ones, without their bytes.

The planner asks the operating system how long a file is. A sparse file of a terabyte takes
no room on disk. Only for a throw-away cluster whose pages nobody reads.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

PAGE = 8192
SEGMENT = 1 << 30

_HEADER = struct.Struct("<QHHHHHHI")  # lsn, checksum, flags, lower, upper, special, version, xid
_SPECIAL = PAGE - 16
_OPAQUE = struct.Struct("<IIIHH")  # previous, next, level, flags, vacuum cycle
_LEAF, _ROOT = 1, 2
_METAPAGE_ROOT = 24 + 8  # after the header: magic, version, then root, level, fastroot, fastlevel

# After the header: head, tail, its free size, pending pages, and pending rows as eight bytes.
_GIN_COUNTS = 24 + 24


def resize(path: Path, size_bytes: int) -> None:
    """Give a relation's file, and its further segments of 1 GiB each, that length in all."""
    owner = path.stat()
    size_bytes -= size_bytes % PAGE
    number = 0
    while True:
        segment = path if number == 0 else path.with_name(f"{path.name}.{number}")
        length = max(0, min(SEGMENT, size_bytes - number * SEGMENT))
        if number and not length:
            if not segment.exists():
                return
            segment.unlink()
        else:
            if not segment.exists():
                segment.touch(mode=0o600)
                os.chown(segment, owner.st_uid, owner.st_gid)
            os.truncate(segment, length)
        number += 1


def write_btree_levels(path: Path, height: int) -> None:
    """Give an empty B-tree the levels of a large one: a chain of pages down to an empty leaf.

    The planner charges for the height that the metapage tells and looks for the smallest and
    largest keys, so the chain must be walkable. nbtree.h says how pages are laid out.
    """
    if height < 1:
        return
    with path.open("r+b") as handle:
        for block in range(1, height + 2):
            handle.seek(block * PAGE)
            handle.write(_btree_page(block, level=height + 1 - block, is_root=block == 1))
        handle.seek(_METAPAGE_ROOT)
        handle.write(struct.pack("<IIII", 1, height, 1, height))


def write_gin_counts(path: Path, entries: float, entry_pages: int, data_pages: int) -> None:
    """Tell in the metapage of an empty GIN index what a large one is made of (ginblock.h)."""
    with path.open("r+b") as handle:
        handle.seek(_GIN_COUNTS)
        total = 2 + entry_pages + data_pages
        handle.write(struct.pack("<IIIIq", total, entry_pages, data_pages, 0, round(entries)))


def _btree_page(block: int, *, level: int, is_root: bool) -> bytes:
    page = bytearray(PAGE)
    flags = (_ROOT if is_root else 0) | (_LEAF if level == 0 else 0)
    _OPAQUE.pack_into(page, _SPECIAL, 0, 0, level, flags, 0)
    lower, upper = 24, _SPECIAL
    if level:
        # One downlink without key columns: "minus infinity", as the first of every inner page.
        upper -= 8
        struct.pack_into("<HHHH", page, upper, 0, block + 1, 0, 8 | 0x2000)
        struct.pack_into("<I", page, lower, upper | 1 << 15 | 8 << 17)
        lower += 4
    _HEADER.pack_into(page, 0, 0, 0, 0, lower, upper, _SPECIAL, PAGE | 4, 0)
    return bytes(page)
