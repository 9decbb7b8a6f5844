"""Folders on any file system that pyarrow or fsspec opens: a local path, or a URI such as `s3://bucket/films`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
from fsspec.core import url_to_fs
from pyarrow import fs

_LOCAL = fs.LocalFileSystem()


@dataclass(frozen=True, slots=True)
class File:
    """A file of a folder: its path in the folder, its size in bytes, and when it was last modified, as text."""

    name: str
    size: int
    modified: str


@dataclass(frozen=True, slots=True)
class Location:
    """The folder `path` of a file system. It can be sent to other processes."""

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, uri: str) -> Self:
        """Open a local path or a URI.

        Raises:
            OSError: if pyarrow and fsspec know no such file system, or it can't be reached.
        """
        if "://" not in uri:
            return cls(_LOCAL, str(Path(uri).absolute()))
        try:
            return cls(*fs.FileSystem.from_uri(uri))
        except pa.ArrowInvalid:
            pass  # pyarrow knows no such scheme; fsspec may
        try:
            filesystem, path = url_to_fs(uri)
        except (ValueError, ImportError) as error:
            raise OSError(f"{uri} can't be opened: {error}") from error
        return cls(fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path)

    def files(self, leave_out: Location | None = None) -> Iterator[File]:
        """Yield the files, those of sub-folders as well, except hidden ones and those in the folder `leave_out`."""
        inner = leave_out.path if leave_out is not None and leave_out.filesystem == self.filesystem else None
        for info in self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True, allow_not_found=True)):
            name = posixpath.relpath(info.path, self.path)
            hidden = any(part.startswith(".") for part in name.split("/"))
            if info.type is fs.FileType.File and not hidden and not (inner and info.path.startswith(f"{inner}/")):
                yield File(name, info.size, str(info.mtime_ns))

    def exists(self) -> bool:
        """Return whether there is such a folder."""
        return self.filesystem.get_file_info(self.path).type is fs.FileType.Directory

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: if it can't be read.
        """
        with self.filesystem.open_input_stream(posixpath.join(self.path, name)) as file:
            return bytes(file.read())

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: an interruption leaves the old one, or none. Object stores do so by themselves."""
        path = posixpath.join(self.path, name)
        if isinstance(self.filesystem, fs.LocalFileSystem):
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            partial.write_bytes(data)
            partial.replace(target)
            return
        with self.filesystem.open_output_stream(path) as file:
            file.write(data)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.filesystem.delete_file(posixpath.join(self.path, name))
