"""The store gives back what was put in, or nothing; never an error, never other bytes."""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from onnx_numba.compile import store as store_module
from onnx_numba.compile.store import Store, StoreWarning, default_path, key

KEY = key({"a": "1"})
FILES = {"object": b"\x01\x02", "plan.bin": b"", "weights": bytes(3 << 20)}
posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
not_root = pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _no_warning_unless_expected():
    with warnings.catch_warnings():
        warnings.simplefilter("error", StoreWarning)
        yield


def contents(files):
    return None if files is None else {name: bytes(data) for name, data in files.items()}


def entry_directory(store):
    (meta,) = store.path.rglob("meta.json")
    return meta.parent


def test_nothing_is_written_before_something_is_put(store):
    assert store.get("kernel", KEY) is None
    assert list(store.entries()) == []
    assert store.size() == 0
    store.clear()
    store.prune()
    assert not store.path.exists()


def test_put_and_get(store):
    assert store.put("kernel", KEY, FILES)
    assert contents(store.get("kernel", KEY)) == FILES
    assert contents(Store(store.path).get("kernel", KEY)) == FILES
    assert store.get("model", KEY) is None
    assert store.get("kernel", key({"a": "2"})) is None


def test_large_files_are_mapped_and_outlive_the_entry(store):
    store.put("model", KEY, FILES)
    files = store.get("model", KEY)
    assert isinstance(files["weights"], mmap.mmap)
    assert isinstance(files["object"], bytes)
    with pytest.raises(TypeError):
        files["weights"][0] = 1
    if sys.platform != "win32":
        store.clear()
        assert files["weights"][-1] == 0


def test_the_first_of_two_equal_keys_stays(store):
    assert store.put("kernel", KEY, {"object": b"1"})
    assert store.put("kernel", KEY, {"object": b"2"})
    assert contents(store.get("kernel", KEY)) == {"object": b"1"}
    assert not list((store.path / "v1" / ".tmp").iterdir())


def test_keys_depend_on_names_and_values_not_on_order():
    assert key({"a": "1", "b": "2"}) == key({"b": "2", "a": "1"}) != key({"a": "2", "b": "1"})
    assert key({"a": "1"}) != key({"a": "1", "b": ""})
    assert Store.key is key


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "meta.json"])
def test_file_names_are_plain(store, name):
    with pytest.raises(ValueError, match="file name"):
        store.put("kernel", KEY, {name: b""})


@pytest.mark.parametrize(("kind", "name"), [("..", KEY), ("kernel", "../../x"), ("kernel", "ab")])
def test_kinds_and_keys_are_plain(store, kind, name):
    with pytest.raises(ValueError, match="kind and key"):
        store.get(kind, name)


def test_entries_size_and_clear(store):
    store.put("kernel", KEY, {"object": b"12345"}, {"source": "x"})
    store.put("model", KEY, {"plan": b"123"})
    found = sorted(store.entries(), key=lambda entry: entry.kind)
    assert [(entry.kind, entry.key, entry.entries) for entry in found] == [("kernel", KEY, {"source": "x"}), ("model", KEY, {})]
    assert [entry.kind for entry in store.entries("model")] == ["model"]
    assert store.size() == sum(entry.size for entry in found) > 8
    store.clear()
    assert list(store.entries()) == []
    assert store.put("kernel", KEY, {"object": b"12345"})


def test_a_miss_can_be_explained(store):
    one = {"source": "x", "cpu": "a", "numba": "1"}
    assert store.explain("kernel", one) == ["cpu", "numba", "source"]
    store.put("kernel", key(one), {"object": b""}, one)
    assert store.explain("kernel", {**one, "cpu": "b"}) == ["cpu"]
    assert store.explain("kernel", one) == []


# Damage


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite_meta(change):
    def damage(directory):
        meta = json.loads((directory / "meta.json").read_text())
        change(meta)
        (directory / "meta.json").write_text(json.dumps(meta))

    return damage


DAMAGE = {
    "truncated file": lambda d: truncate(d / "object"),
    "flipped bit": lambda d: flip(d / "object"),
    "truncated large file": lambda d: truncate(d / "weights"),
    "empty large file": lambda d: (d / "weights").write_bytes(b""),
    "grown file": lambda d: (d / "plan.bin").write_bytes(b"x"),
    "truncated metadata": lambda d: truncate(d / "meta.json"),
    "empty metadata": lambda d: (d / "meta.json").write_bytes(b""),
    "binary metadata": lambda d: (d / "meta.json").write_bytes(b"\xff\xfe"),
    "other json": lambda d: (d / "meta.json").write_text("[]"),
    "other format": rewrite_meta(lambda m: m.update(format=99)),
    "other key": rewrite_meta(lambda m: m.update(key="x")),
    "bad files": rewrite_meta(lambda m: m.update(files=["object"])),
    "path outside": rewrite_meta(lambda m: m["files"].update({"../x": {"size": 0, "sha256": ""}})),
    "file is a directory": lambda d: ((d / "object").unlink(), (d / "object").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_a_miss_with_one_warning_and_heals(store, damage):
    store.put("kernel", KEY, FILES)
    damage(entry_directory(store))
    list(store.entries())
    with pytest.warns(StoreWarning) as caught:
        assert store.get("kernel", KEY) is None
    assert len(caught) == 1
    assert store.put("kernel", KEY, FILES)
    assert contents(store.get("kernel", KEY)) == FILES


@pytest.mark.parametrize("gone", ["object", "meta.json"])
def test_files_removed_under_way_are_a_silent_miss_and_the_entry_heals(store, gone):
    store.put("kernel", KEY, FILES)
    (entry_directory(store) / gone).unlink()
    assert store.get("kernel", KEY) is None
    assert store.put("kernel", KEY, FILES)
    assert contents(store.get("kernel", KEY)) == FILES


def test_one_warning_only(store):
    for name in "12":
        store.put("kernel", key({"a": name}), {"object": b"1"})
    for file in store.path.rglob("object"):
        file.write_bytes(b"2")
    with pytest.warns(StoreWarning) as caught:
        assert store.get("kernel", key({"a": "1"})) is None
        assert store.get("kernel", key({"a": "2"})) is None
    assert len(caught) == 1


def test_the_directory_may_be_deleted_under_way(store):
    store.put("kernel", KEY, FILES)
    shutil.rmtree(store.path)
    assert store.get("kernel", KEY) is None
    assert store.put("kernel", KEY, FILES)
    assert contents(store.get("kernel", KEY)) == FILES


def test_a_full_disk_is_no_error(store, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    store.put("kernel", key({"a": "2"}), FILES)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(StoreWarning, match="No space") as caught:
        assert not store.put("kernel", KEY, FILES)
        assert not store.put("kernel", KEY, FILES)
    assert len(caught) == 1
    assert store.get("kernel", KEY) is None
    assert contents(store.get("kernel", key({"a": "2"}))) == FILES
    assert not list((store.path / "v1" / ".tmp").iterdir())


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "cache").write_text("")
    store = Store(tmp_path / "cache")
    assert store.get("kernel", KEY) is None
    with pytest.warns(StoreWarning, match="cannot be kept"):
        assert not store.put("kernel", KEY, FILES)


@posix
@not_root
def test_a_read_only_store_can_be_read(store):
    store.put("kernel", KEY, FILES)
    for path in [store.path, *store.path.rglob("*")]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        assert contents(Store(store.path).get("kernel", KEY)) == FILES
        with pytest.warns(StoreWarning, match="cannot be kept"):
            assert not Store(store.path).put("kernel", key({"a": "2"}), FILES)
    finally:
        for path in [store.path, *store.path.rglob("*")]:
            path.chmod(0o700)


def test_read_only_errors_are_no_errors(store, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EROFS, "Read-only file system")

    store.put("kernel", KEY, FILES)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    with pytest.warns(StoreWarning, match="Read-only"):
        assert not store.put("kernel", key({"a": "2"}), FILES)
    assert contents(store.get("kernel", KEY)) == FILES


# Privacy


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_to_is_refused(store, mode):
    store.put("kernel", KEY, FILES)
    store.path.chmod(mode)
    other = Store(store.path)
    with pytest.warns(StoreWarning, match="others may write"):
        assert other.get("kernel", KEY) is None
    assert not other.put("kernel", key({"a": "2"}), FILES)


@posix
def test_a_parent_that_anybody_may_change_is_refused(tmp_path):
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(0o777)
    store = Store(parent / "cache")
    with pytest.warns(StoreWarning, match="others may write"):
        assert not store.put("kernel", KEY, FILES)
    parent.chmod(0o1777)  # as with /tmp: nobody can rename what is not theirs
    assert Store(parent / "cache").put("kernel", KEY, FILES)


@posix
def test_a_directory_of_another_user_is_refused(store, monkeypatch):
    store.put("kernel", KEY, FILES)
    monkeypatch.setattr(os, "getuid", lambda: store.path.stat().st_uid + 1)
    if store.path.stat().st_uid == 0:
        pytest.skip("root's directories are trusted by all")
    with pytest.warns(StoreWarning, match="belongs to another user"):
        assert Store(store.path).get("kernel", KEY) is None


@posix
def test_what_it_makes_is_private(store):
    store.put("kernel", KEY, FILES)
    assert store.path.stat().st_mode & 0o077 == 0


# Size


def test_least_recently_used_entries_go_first(store):
    now = time.time()
    for i in range(10):
        store.put("kernel", key({"a": str(i)}), {"object": bytes(10_000)})
        os.utime(store._directory("kernel", key({"a": str(i)})) / "meta.json", (now, now - 10 * 86400 + i * 86400 / 2))
    store.get("kernel", key({"a": "0"}))  # used now
    small = Store(store.path, limit=55_000)
    small.prune()
    left = {i for i in range(10) if store.get("kernel", key({"a": str(i)})) is not None}
    assert left == {0, 7, 8, 9}
    assert small.size() <= 55_000


def test_pruning_is_due_once_an_hour(tmp_path):
    store = Store(tmp_path / "cache", limit=1)
    store.put("kernel", KEY, {"object": b"1"})
    store.put("kernel", key({"a": "2"}), {"object": b"1"})
    assert len(list(store.entries())) == 1
    os.utime(store.path / "v1" / ".pruned", (0, 0))
    store.put("kernel", key({"a": "3"}), {"object": b"1"})
    assert len(list(store.entries())) == 0


def test_what_interrupted_writers_left_goes_after_a_day(store):
    store.put("kernel", KEY, FILES)
    for name, age in (("old", 2 * 86400), ("new", 0)):
        leftover = store.path / "v1" / ".tmp" / name
        leftover.mkdir()
        (leftover / "object").write_bytes(b"half")
        os.utime(leftover, (time.time() - age,) * 2)
    store.prune()
    assert [path.name for path in (store.path / "v1" / ".tmp").iterdir()] == ["new"]
    assert contents(store.get("kernel", KEY)) == FILES


# Where it is


def test_default_paths(monkeypatch, tmp_path):
    monkeypatch.delenv("ONNX_NUMBA_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(store_module.sys, "platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_path() == tmp_path / ".cache" / "onnx-numba"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_path() == tmp_path / ".cache" / "onnx-numba"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_path() == tmp_path / "x" / "onnx-numba"
    monkeypatch.setattr(store_module.sys, "platform", "darwin")
    assert default_path() == tmp_path / "Library" / "Caches" / "onnx-numba"
    monkeypatch.setattr(store_module.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_path() == tmp_path / "local" / "onnx-numba" / "Cache"
    monkeypatch.setenv("ONNX_NUMBA_CACHE", str(tmp_path / "mine"))
    assert default_path() == Store().path == tmp_path / "mine"


# Many processes

WRITER = """
import sys
from onnx_numba.compile.store import Store, key
store = Store(sys.argv[1])
for round in range(30):
    name = key({"a": str(round % 5)})
    found = store.get("kernel", name)
    assert found is None or bytes(found["object"]) == name.encode() * 1000
    store.put("kernel", name, {"object": name.encode() * 1000})
    if round % 10 == 9 and sys.argv[2] == "0":
        store.clear()
"""


def test_processes_share_it(store):
    command = [sys.executable, "-W", "error", "-c", WRITER, str(store.path)]
    running = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert not list((store.path / "v1" / ".tmp").iterdir())


def test_it_imports_neither_onnx_nor_numba():
    code = "import sys, onnx_numba.compile.store; print({'onnx', 'numba', 'llvmlite', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
