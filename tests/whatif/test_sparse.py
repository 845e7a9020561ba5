from pathlib import Path

import pytest

from perfcore.whatif import sparse
from perfcore.whatif.sparse import PAGE, SEGMENT, resize


@pytest.mark.parametrize(
    ("size_bytes", "lengths"),
    [
        (0, [0]),
        (PAGE + 5, [PAGE]),
        (SEGMENT, [SEGMENT]),
        (2 * SEGMENT + PAGE, [SEGMENT, SEGMENT, PAGE]),
    ],
)
def test_a_file_gets_its_length_in_segments(
    tmp_path: Path, size_bytes: int, lengths: list[int]
) -> None:
    path = tmp_path / "16384"
    path.touch()
    for longer in (size_bytes, 5 * SEGMENT, size_bytes):
        resize(path, longer)
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["16384", "16384.1", "16384.2"][: len(lengths)]
    assert [f.stat().st_size for f in files] == lengths
    assert sum(f.stat().st_blocks for f in files) == 0


def test_a_flat_tree_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "16384"
    path.write_bytes(b"x" * PAGE)
    sparse.write_btree_levels(path, 0)
    assert path.read_bytes() == b"x" * PAGE
