"""The store: machine code and whole compiled models on disk, a directory per key.

An entry is written to a directory of its own with a random name and moved in place with one rename, so that it is there whole or
not at all, without locks or an index. Its metadata holds a digest of every file, checked before anything is handed out. Whatever
goes wrong while reading is a miss, and whatever goes wrong while writing leaves the store as it was: a caller sees neither errors
nor wrong bytes, only one warning.

This module imports neither onnx nor numba, since a warm start needs it and not them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import re
import secrets
import shutil
import stat
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from onnx_numba.record import record

FORMAT = 1
"""Version of the layout below the store's directory."""

ENVIRONMENT = "ONNX_NUMBA_CACHE"
"""The environment variable that names another directory."""

_META = "meta.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*$")
_MAP_FROM = 1 << 20  # bytes from which on a file is mapped rather than read
_DAY = 86400.0


class StoreWarning(UserWarning):
    """The store cannot be used as it should; compiled code is made anew where it is needed."""


class _Damaged(Exception):
    """An entry does not hold what its metadata says."""


@record
class StoreEntry:
    """One stored key: what it is of, its bytes on disk, and when it was last used (seconds since the epoch)."""

    kind: str
    key: str
    entries: dict[str, str]
    size: int
    used: float


def default_path() -> Path:
    """The directory for this user on this platform."""
    override = os.environ.get(ENVIRONMENT)
    if override:
        return Path(override).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "onnx-numba" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "onnx-numba"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "onnx-numba"


def key(entries: Mapping[str, str]) -> str:
    """The digest of named entries."""
    text = json.dumps(dict(entries), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """Files by kind and key.

    Parameters
    ----------
    path : path, optional
        The directory; by default the user's cache directory, or what ``ONNX_NUMBA_CACHE`` says. It is made when first written to.
    limit : int
        Bytes above which entries are removed, least recently used first.
    """

    key = staticmethod(key)

    def __init__(self, path: str | os.PathLike[str] | None = None, limit: int = 4 << 30) -> None:
        self.path = Path(path).expanduser() if path is not None else default_path()
        self.limit = limit
        self._warned = False
        self._trusted: bool | None = None

    # Reading and writing

    def get(self, kind: str, key: str) -> dict[str, bytes | mmap.mmap] | None:
        """The files of an entry, or None.

        Large files come as read-only memory maps, which stay valid when the entry is removed.
        """
        directory = self._directory(kind, key)
        if not directory.is_dir() or not self._is_trusted():
            return None
        try:
            return self._load(directory, key)
        except FileNotFoundError:  # removed by another process in the meantime, or by someone in part
            if directory.is_dir():
                self._remove(directory)
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, _Damaged) as error:
            self._warn(f"entry {key[:16]} in {self.path} cannot be used and is made anew: {error}")
            self._remove(directory)
            return None

    def put(self, kind: str, key: str, files: Mapping[str, bytes], entries: Mapping[str, str] | None = None) -> bool:
        """Keep files under a key, unless it is there already.

        Parameters
        ----------
        kind, key : str
            ``"kernel"`` or ``"model"``, and a digest from `key`.
        files : mapping
            Content by simple file name.
        entries : mapping, optional
            What the key was made of, for `explain`.

        Returns
        -------
        bool
            Whether the entry is there now.
        """
        bad = [name for name in files if not _FILE_NAME.match(name) or name == _META]
        if bad:
            raise ValueError(f"not a file name for the store: {bad[0]!r}")
        final = self._directory(kind, key)
        try:
            self._prepare()
            if not self._is_trusted():
                return False
            temporary = self._temporary()
            try:
                self._write(temporary, key, files, entries or {})
                final.parent.mkdir(parents=True, exist_ok=True)
                # An existing entry is as good as this one: the rename fails, and ours goes.
                with contextlib.suppress(FileExistsError, OSError):
                    temporary.rename(final)
                return final.is_dir()
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:
            self._warn(f"compiled code cannot be kept in {self.path}: {error}")
            return False
        finally:
            self._prune_if_due()

    def _write(self, directory: Path, key: str, files: Mapping[str, bytes], entries: Mapping[str, str]) -> None:
        listing = {}
        for name, data in files.items():
            (directory / name).write_bytes(data)
            listing[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        meta = {"format": FORMAT, "key": key, "entries": dict(entries), "files": listing}
        (directory / _META).write_text(json.dumps(meta, indent=1, sort_keys=True), encoding="utf-8")

    def _load(self, directory: Path, key: str) -> dict[str, bytes | mmap.mmap]:
        meta_path = directory / _META
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or meta["key"] != key:
            raise _Damaged("metadata of something else")
        files = {}
        for name, listed in meta["files"].items():
            if not _FILE_NAME.match(name):
                raise _Damaged("a bad file name")
            data = self._read(directory / name)
            if len(data) != listed["size"] or hashlib.sha256(data).hexdigest() != listed["sha256"]:
                raise _Damaged(f"{name} is not what was written")
            files[name] = data
        self._touch(meta_path)
        return files

    @staticmethod
    def _read(path: Path) -> bytes | mmap.mmap:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < _MAP_FROM:
                return file.read()
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @staticmethod
    def _touch(path: Path) -> None:
        """Mark as used; once a day is enough for `limit`, and cheap."""
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _DAY:
                os.utime(path)

    # Inspection

    def entries(self, kind: str | None = None) -> Iterator[StoreEntry]:
        """Every readable entry."""
        for directory in self._directories(kind):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                meta_path = directory / _META
                meta = json.loads(meta_path.read_text(encoding="utf-8"))
                status = meta_path.stat()
                size = sum(int(listed["size"]) for listed in meta["files"].values()) + status.st_size
                yield StoreEntry(directory.parent.parent.name, meta["key"], dict(meta["entries"]), size, status.st_mtime)

    def explain(self, kind: str, entries: Mapping[str, str]) -> list[str]:
        """Why there is a miss: the names of the entries in which the most similar stored key differs; all if none is."""
        best = sorted(entries)
        for stored in self.entries(kind):
            names = entries.keys() | stored.entries.keys()
            different = sorted(name for name in names if entries.get(name) != stored.entries.get(name))
            if len(different) < len(best):
                best = different
        return best

    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.size for entry in self.entries())

    def clear(self) -> None:
        """Remove every entry."""
        for directory in list(self._directories(None)):
            self._remove(directory)

    def __repr__(self) -> str:
        """The directory."""
        return f"Store({str(self.path)!r})"

    # Directories

    @property
    def _base(self) -> Path:
        return self.path / f"v{FORMAT}"

    def _directory(self, kind: str, key: str) -> Path:
        if not _FILE_NAME.match(kind) or not re.fullmatch(r"[0-9a-zA-Z_-]{4,}", key):
            raise ValueError(f"not a kind and key: {kind!r}, {key!r}")
        return self._base / kind / key[:2] / key

    def _directories(self, kind: str | None) -> Iterator[Path]:
        pattern = f"{kind or '[!.]*'}/*/*"
        with contextlib.suppress(OSError):
            yield from self._base.glob(pattern)

    def _prepare(self) -> None:
        if not self._base.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._base.mkdir(mode=0o700, exist_ok=True)

    def _temporary(self) -> Path:
        path = self._base / ".tmp" / secrets.token_hex(8)
        path.mkdir(mode=0o700, parents=True)
        return path

    def _remove(self, directory: Path) -> None:
        """Take an entry away in one step, then its files."""
        with contextlib.suppress(OSError):
            bin_ = self._temporary()
            with contextlib.suppress(OSError):
                directory.rename(bin_ / "entry")
            shutil.rmtree(bin_, ignore_errors=True)

    def _is_trusted(self) -> bool:
        """Whether nobody else can put code there."""
        if self._trusted is None:
            reason = _writable_by_others([self._base, self.path, *self.path.absolute().parents])
            self._trusted = reason is None
            if reason:
                self._warn(f"the store {self.path} is not used, for it holds code and {reason}")
        return self._trusted

    # Housekeeping

    def _prune_if_due(self) -> None:
        """Keep the size below the limit: looked at once an hour, by whoever comes first."""
        marker = self._base / ".pruned"
        with contextlib.suppress(OSError):
            if marker.exists() and time.time() - marker.stat().st_mtime < 3600:
                return
            marker.touch()
            self.prune()

    def prune(self) -> None:
        """Remove the least recently used until nine tenths of the limit are left, and what interrupted writers left behind."""
        with contextlib.suppress(OSError):
            for leftover in (self._base / ".tmp").iterdir():
                if time.time() - leftover.stat().st_mtime > _DAY:
                    shutil.rmtree(leftover, ignore_errors=True)
        found = sorted(self.entries(), key=lambda entry: entry.used)
        excess = sum(entry.size for entry in found) - self.limit
        if excess <= 0:
            return
        excess += self.limit // 10
        for entry in found:
            if excess <= 0:
                break
            self._remove(self._directory(entry.kind, entry.key))
            excess -= entry.size

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, StoreWarning, stacklevel=3)


def _writable_by_others(paths: list[Path]) -> str | None:
    """The reason why somebody else may change what the first two directories hold, or None.

    Of the directories above them only those matter that anybody may change: a user's own group is often allowed to write there.
    """
    if sys.platform == "win32":  # the user's own directories are private there
        return None
    own = os.getuid()
    for position, path in enumerate(paths):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if status.st_uid not in (own, 0):
            return f"{path} belongs to another user"
        mask = stat.S_IWGRP | stat.S_IWOTH if position < 2 else stat.S_IWOTH
        if status.st_mode & mask and not (position >= 2 and status.st_mode & stat.S_ISVTX):
            return f"others may write to {path}"
    return None
