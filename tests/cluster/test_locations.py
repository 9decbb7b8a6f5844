"""Folders on the file systems of pyarrow and of fsspec."""

import pytest

from tests.cluster.clusters import NEEDS_RAY

pytestmark = [NEEDS_RAY, pytest.mark.cluster]


@pytest.fixture(params=["path", "file", "memory"])
def location(request, tmp_path):
    """A folder that pyarrow opens by its path, one by a URI, and one that only fsspec knows."""
    from scripts.batch.locations import Location  # noqa: PLC0415  # part of the extra

    uri = {"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": f"memory:/{tmp_path}"}[request.param]
    return Location.of(uri)


def test_what_is_written_is_found_and_read(location):
    """In sub-folders as well, but not what is hidden or left out."""
    from scripts.batch.locations import Location  # noqa: PLC0415  # part of the extra

    for name in ("a.png", "b c/#1.png", ".hidden/x", "out/results"):
        location.write(name, name.encode())
    location.write("a.png", b"again")
    out = Location(location.filesystem, f"{location.path}/out")
    found = sorted(location.files(leave_out=out), key=lambda file: file.name)
    assert [(file.name, file.size) for file in found] == [("a.png", 5), ("b c/#1.png", 10)]
    assert location.read("a.png") == b"again"
    assert location.exists()
    assert not Location(location.filesystem, f"{location.path}/none").exists()
    location.delete("a.png")
    with pytest.raises(OSError, match=r"a\.png"):
        location.read("a.png")


def test_an_unknown_file_system_is_an_error():
    """That says which."""
    from scripts.batch.locations import Location  # noqa: PLC0415  # part of the extra

    with pytest.raises(OSError, match="nobody://x can't be opened"):
        Location.of("nobody://x")
