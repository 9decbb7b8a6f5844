"""PyTorch's older file format, without PyTorch."""

import pickle
import struct

import numpy as np
import pytest

from scripts.errors import WeightsError
from scripts.networks.pytorch_file import read_state


class Named:
    """Pickles as a global of any module, as PyTorch's own classes do."""

    def __init__(self, module, name, *arguments):
        self.of, self.arguments = (module, name), arguments


class Writer(pickle._Pickler):
    """Writes globals of modules that are not installed, by pickle protocol 2."""

    def persistent_id(self, thing):
        return thing.arguments if isinstance(thing, Named) and thing.of == ("", "storage") else None

    def save(self, thing, **options):
        if isinstance(thing, Named) and thing.of != ("", "storage"):
            module, name = thing.of
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
            if thing.arguments:
                super().save(thing.arguments)
                self.write(pickle.REDUCE)
            return
        super().save(thing, **options)


def tensor(key, kind, count, offset, shape, strides):
    storage = Named("", "storage", "storage", Named("torch", kind), key, "cpu", count, None)
    return Named("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, {})


def write(path, state, storages, magic=0x1950A86A20F9469CFC6C):
    with path.open("wb") as file:
        for part in (magic, 1001, {"little_endian": True}, state, list(storages)):
            Writer(file, 2).dump(part)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)) + values.tobytes())
    return path


def test_tensors_come_back_with_shape_and_type(tmp_path):
    """A matrix, its transpose on the same storage, and a count."""
    numbers = np.arange(7, dtype="<f4")
    state = {
        "weight": tensor("1", "FloatStorage", 7, 1, (2, 3), (3, 1)),
        "turned": tensor("1", "FloatStorage", 7, 1, (3, 2), (1, 3)),
        "count": tensor("2", "LongStorage", 1, 0, (), ()),
    }
    read = read_state(write(tmp_path / "s.pth", state, {"1": numbers, "2": np.array([5], "<i8")}))
    np.testing.assert_array_equal(read["weight"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(read["turned"], [[1, 4], [2, 5], [3, 6]])
    assert read["count"] == 5
    assert read["count"].dtype == np.int64


def test_what_is_no_weight_is_not_run(tmp_path):
    """A pickle may name any function; this one would make a folder."""
    trap = Named("os", "mkdir", str(tmp_path / "trapped"))
    with pytest.raises(WeightsError, match=r"os\.mkdir, which is no weight"):
        read_state(write(tmp_path / "s.pth", {"weight": trap}, {}))
    assert not (tmp_path / "trapped").exists()


def test_files_of_another_kind_are_refused(tmp_path):
    """Another number at the start, text, and a file cut short."""
    with pytest.raises(WeightsError, match="older file format"):
        read_state(write(tmp_path / "magic.pth", {}, {}, magic=7))
    (tmp_path / "text.pth").write_text("not a pickle")
    with pytest.raises(WeightsError, match="can't be read"):
        read_state(tmp_path / "text.pth")
    state = {"weight": tensor("1", "FloatStorage", 4, 0, (4,), (1,))}
    whole = write(tmp_path / "s.pth", state, {"1": np.ones(4, "<f4")}).read_bytes()
    (tmp_path / "short.pth").write_bytes(whole[:-6])
    with pytest.raises(WeightsError, match="can't be read"):
        read_state(tmp_path / "short.pth")
