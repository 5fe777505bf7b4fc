"""Pickles that circulate are read as data; whatever else one asks for is refused by name, and nothing of it runs."""

from __future__ import annotations

import bz2
import copyreg
import gzip
import lzma
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmlbench import DataError
from mmlbench.decode.pickles import Limits, load_pickle

PROTOCOLS = range(6)


def read(folder: Path, data: bytes, limits: Limits | None = None):
    """Return what some bytes hold."""
    path = folder / "features.pkl"
    path.write_bytes(data)
    return load_pickle(path, limits)


def refused(folder: Path, data: bytes, limits: Limits | None = None) -> str:
    """Return the one line by which some bytes are refused."""
    with pytest.raises(DataError) as caught:
        read(folder, data, limits)
    line = str(caught.value)
    assert "\n" not in line
    assert "features.pkl" in line
    return line


def same(one, other) -> bool:
    """Whether two values are equal, to types and bytes."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.dtype.kind != other.dtype.kind or one.shape != other.shape:
            return False
        if one.dtype.kind == "O":
            return all(same(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True))
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


SHARED = ["in two places", 1]
VALUES = {
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**63, -(2**200), 1.5, -0.0, float("inf"), 1 + 2j],
    "singles": [None, True, False, (), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), [()])],
    "texts": ["", "plain", "ümläut", "日本", "quote'\"\\ \n\r\t\0", "x" * 300, "y" * 70_000, "\N{GRINNING FACE}"],
    "bytes": [b"", b"plain", bytes(range(256)), b"z" * 70_000],
    "dicts": {"a": 1, 2: [3], None: {}, (1, "b"): b"c", 1.5: True},
    "sets": [{1, 2}, {"a"}, set()],
    "shared": [SHARED, SHARED, {"again": SHARED}],
    "arrays": [
        np.arange(6, dtype=d).reshape(2, 3) for d in ("i1", "u1", "<i8", ">i4", "<f2", "<f4", ">f8", "c8", "c16")
    ],
    "orders": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::2], np.zeros((0, 5)), np.array(3.0)],
    "bools": np.array([[True, False]]),
    "text arrays": [np.array(["id", "längeres"]), np.array([b"video", b"x"]), np.array([""]), np.array(["日本"])],
    "objects": [np.array([["a", None], [1, (2, 3)]], dtype=object)],
    "scalars": [np.float32(1.5), np.float64(2), np.int64(-3), np.bool_(True), np.str_("text"), np.bytes_(b"b")],
    "large": np.arange(100_000, dtype="f4").reshape(100, 1000),
    "list of arrays": [np.ones(3), np.zeros((2, 2))],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", VALUES)
def test_data_comes_back_as_it_was(tmp_path, name, protocol):
    assert same(read(tmp_path, pickle.dumps(VALUES[name], protocol)), VALUES[name])


def test_an_object_array_of_arrays_comes_back(tmp_path):
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = np.ones((2, 3)), np.zeros((4, 3))
    assert same(read(tmp_path, pickle.dumps(ragged, 2)), ragged)


@pytest.mark.parametrize("old, new", [(b"numpy._core", b"numpy.core"), (b"builtins", b"__builtin__")])
def test_both_names_of_a_module_are_known(tmp_path, old, new):
    value = [np.arange(3.0), {1}, np.float32(2)]
    data = pickle.dumps(value, 2)
    assert old in data or new in data
    assert same(read(tmp_path, data.replace(old, new)), value)


@pytest.mark.parametrize("protocol", [1, 2])
def test_bytes_that_changed_in_an_array_that_is_text_are_damage(tmp_path, protocol):
    """Not a call of what should not be called: nothing else than fetching the file again helps."""
    data = bytearray(pickle.dumps(np.zeros(90_000, "u1"), protocol))
    assert same(read(tmp_path, bytes(data)), np.zeros(90_000, "u1"))
    at = len(data) // 2
    data[at : at + 20] = bytes(255 - one for one in data[at : at + 20])
    with pytest.raises(DataError, match="is no whole pickle") as error:
        read(tmp_path, bytes(data))
    assert "Fetch it again" in error.value.fix and "run" not in str(error.value)


def test_an_encoding_that_no_array_has_is_no_damage(tmp_path):
    data = pickle.dumps(b"\xff" * 3, 2)
    with pytest.raises(DataError, match=r"calls _codecs\.encode"):
        read(tmp_path, data.replace(b"latin1", b"rot_13"))


def python_2_array() -> bytes:
    """Return a dict with a text and an array as Python 2 wrote them, protocol 2: contents are its bytes strings."""
    content = np.array([1.5, -2.0], "<f4").tobytes()
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01K\x02\x85" + dtype + b"\x89U" + bytes([len(content)]) + content + b"tb"
    ids = b"c__builtin__\nset\n](U\x02v1U\x02v2e\x85R"
    return b"\x80\x02}(U\x04text" + b"U\x03na\xefU\x05array" + array + state + b"U\x03ids" + ids + b"u."


def test_text_of_python_2_is_latin_1(tmp_path):
    found = read(tmp_path, python_2_array())
    assert found["text"] == "naï"
    assert found["array"].tolist() == [1.5, -2.0]
    assert found["ids"] == {"v1", "v2"}
    plain = pickle.loads(python_2_array(), encoding="latin1")
    assert plain["text"] == found["text"] and same(plain["array"], found["array"])


# ---- hostile -------------------------------------------------------------------------------------------------------
class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.made = function, arguments

    def __reduce__(self):
        return self.made


class WithState:
    """An object of a class of its own, with a state."""

    def __init__(self) -> None:
        self.value = 1


class Registered:
    """Stands in the extension registry."""


def raw(name: bytes, argument: bytes) -> bytes:
    """Return a pickle that calls `module name` with one text."""
    return b"c" + name.replace(b" ", b"\n") + b"\n(V" + argument + b"\ntR."


def by_stack(module: str, name: str, argument: str, call: bytes = b"R") -> bytes:
    """Return a pickle of protocol 4 that calls a dotted name with one text."""
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    text = argument.encode()
    return b"\x80\x04" + words + b"\x93\x8c" + bytes([len(text)]) + text + b"\x85" + call + b"."


def object_array_of(value: object) -> np.ndarray:
    made = np.empty(1, dtype=object)
    made[0] = value
    return made


def cases(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Return name -> (a hostile pickle that would make the marker file if it ran, what its refusal names)."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    call = Calls(os.system, touch)
    found = {
        "eval": (pickle.dumps(Calls(eval, code), 2), "eval"),
        "exec": (pickle.dumps(Calls(exec, code), 4), "exec"),
        "open": (pickle.dumps(Calls(open, str(marker), "w"), 4), "open"),
        "in a dict": (pickle.dumps({"train": {"text": call}}, 4), "posix.system"),
        "as a key": (pickle.dumps({("a", call): 1}, 4), "posix.system"),
        "in a list": (pickle.dumps([[1, call]], 2), "posix.system"),
        "in a tuple": (pickle.dumps((1, (call,)), 4), "posix.system"),
        "in an object array": (pickle.dumps(object_array_of(call), 2), "posix.system"),
        "in an object array, protocol 5": (pickle.dumps(object_array_of(call), 5), "posix.system"),
        "in a set": (pickle.dumps({call}, 4), "posix.system"),
        "getattr": (raw(b"builtins getattr", b"x"), "getattr"),
        "import": (raw(b"builtins __import__", b"os"), "__import__"),
        "dotted": (by_stack("os", "path.os.system", touch), "os.path.os.system"),
        "dotted within numpy": (by_stack("numpy", "core.multiarray._reconstruct.__globals__", touch), "__globals__"),
        "dotted from a name of the table": (by_stack("numpy.ndarray", "tofile", str(marker)), "numpy.ndarray.tofile"),
        "numpy.load": (raw(b"numpy load", str(marker).encode()), "numpy.load"),
        "numpy.fromfile": (raw(b"numpy fromfile", str(marker).encode()), "numpy.fromfile"),
        "numpy.memmap": (raw(b"numpy memmap", str(marker).encode()), "numpy.memmap"),
        "numpy's own exec": (raw(b"numpy.testing._private.utils runstring", code.encode()), "runstring"),
        "torch.load": (raw(b"torch load", str(marker).encode()), "torch.load"),
        "pickle.loads": (raw(b"_pickle loads", b"x"), "_pickle.loads"),
        "codecs of another kind": (raw(b"_codecs lookup", b"zip"), "_codecs.lookup"),
        "encode by another codec": (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "_codecs.encode"),
        "a class of its own": (b"c__main__\nEvil\n)\x81.", "__main__.Evil"),
        "INST": (f"(S'{touch}'\nios\nsystem\n.".encode(), "os.system"),
        "OBJ": (f"(cos\nsystem\nS'{touch}'\no.".encode(), "os.system"),
        "OBJ of the table": (b"(cnumpy\nndarray\nK\x01o.", "numpy.ndarray"),
        "NEWOBJ of the table": (b"\x80\x02cnumpy\nndarray\nK\x01\x85\x81.", "numpy.ndarray"),
        "NEWOBJ_EX": (by_stack("numpy", "ndarray", "x")[:-2] + b"}\x92.", "numpy.ndarray"),
        "a call of ndarray": (b"cnumpy\nndarray\n(K\x05\x85tR.", "numpy.ndarray"),
        "persistent id": (b"Pmarker\n.", "persistent"),
        "persistent id, binary": (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent"),
        "out of band buffer": (b"\x80\x05\x97.", "buffer"),
        "copyreg": (raw(b"copyreg add_extension", b"x"), "copyreg.add_extension"),
        "copyreg object": (pickle.dumps(WithState(), 0), "copy"),
        "object with a state": (pickle.dumps(WithState(), 4), "WithState"),
        "a state of a list": (b"](K\x01tb.", "list"),
        "a state of a dict": (b"}}b.", "dict"),
        "a state of a name": (b"cnumpy\nndarray\n}b.", "numpy.ndarray"),
        "slots of a state": (b"\x80\x02cnumpy\ndtype\n(U\x02f4K\x00K\x01tRN}U\x01ai\x86b.", ""),
        "functools.partial": (raw(b"functools partial", b"x"), "functools.partial"),
        "operator": (raw(b"operator methodcaller", b"x"), "operator.methodcaller"),
        "subprocess": (raw(b"subprocess Popen", touch.encode()), "subprocess.Popen"),
        "webbrowser": (raw(b"webbrowser open", b"x"), "webbrowser.open"),
        "pandas": (raw(b"pandas read_pickle", b"x"), "pandas.read_pickle"),
        "a name with line ends and colours": (by_stack("os\x1b[31m", "sys\ntem", touch), "os"),
    }
    for protocol in PROTOCOLS:
        found[f"system by reduce, protocol {protocol}"] = (pickle.dumps(call, protocol), "posix.system")
    return found


NAMES = list(cases(Path("marker")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_hostile_pickle_runs(tmp_path, name):
    marker = tmp_path / "it_ran"
    data, named = cases(marker)[name]
    assert named in refused(tmp_path, data)
    assert not marker.exists()


def test_the_marker_would_show_that_it_ran(tmp_path):
    marker = tmp_path / "it_ran"
    for name in ("eval", "in a dict", "in an object array", "INST", "OBJ", "dotted", "system by reduce, protocol 0"):
        pickle.loads(cases(marker)[name][0])
        assert marker.exists(), name
        marker.unlink()


def test_codes_of_the_extension_registry_are_refused(tmp_path):
    copyreg.add_extension(Registered.__module__, "Registered", 240)
    try:
        data = pickle.dumps(Registered, 2)
        assert any(op.name == "EXT1" for op, _, _ in pickletools.genops(data))
        assert "extension registry" in refused(tmp_path, data)
    finally:
        copyreg.remove_extension(Registered.__module__, "Registered", 240)
    for wide in (b"\x80\x02\x83\x00\x01.", b"\x80\x02\x84\x00\x00\x01\x00."):
        assert "extension registry" in refused(tmp_path, wide)


# ---- numpy's own functions with hostile arguments ------------------------------------------------------------------
def dtype_pickle(code: bytes, state: bytes) -> bytes:
    """Return the instructions of a dtype."""
    return b"cnumpy\ndtype\nX" + struct.pack("<I", len(code)) + code + b"\x89\x88\x87R(K\x03" + state + b"tb"


LESS, NONE = b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00|"
ENDS = b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
NUMBERS = dtype_pickle(b"f4", LESS + b"NNN" + ENDS)
OBJECTS = dtype_pickle(b"O8", NONE + b"NNN" + ENDS[:10] + b"K\x3f")
FIELDS = dtype_pickle(b"f4", LESS + b"NX\x01\x00\x00\x00a\x85}" + ENDS)
SUB_ARRAY = dtype_pickle(b"f4", LESS + b"X\x02\x00\x00\x00f4K\x02\x85\x86NN" + ENDS)
HUGE_TEXT = dtype_pickle(b"U9", LESS + b"NNNJ\x00\x00\x00\x7fK\x04K\x08")
ONE_LETTER = dtype_pickle(b"U1", LESS + b"NNNK\x04K\x04K\x08")
RECONSTRUCT, SCALAR = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n", b"\x80\x03cnumpy.core.multiarray\nscalar\n"
EMPTY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
BIG = b"J\x00\x00\x00\x40"  # 2^30


def array_pickle(shape: bytes, dtype: bytes = NUMBERS, content: bytes = b"C\x08" + bytes(8), kind: str = "ndarray"):
    """Return the pickle of an array of eight bytes, with parts replaced."""
    start = EMPTY.replace(b"ndarray", kind.encode())
    return start + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb."


HOSTILE_ARRAYS = {
    "claims more than it has": array_pickle(BIG + b"\x85"),
    "claims 2^62 entries": array_pickle(b"\x8a\x08" + (2**62).to_bytes(8, "little") + b"\x85"),
    "product overflows": array_pickle(b"(" + BIG * 4 + b"t"),
    "zero of an overflow": array_pickle(b"(K\x00" + BIG * 4 + b"t", content=b"C\x00"),
    "negative axis": array_pickle(b"J\xff\xff\xff\xff\x85"),
    "axis that is no number": array_pickle(b"X\x01\x00\x00\x00a\x85"),
    "shape that is no tuple": array_pickle(b"]K\x02a"),
    "many axes": array_pickle(b"(" + b"K\x01" * 40 + b"K\x02t"),
    "content that is no bytes": array_pickle(b"K\x02\x85", content=b"}"),
    "content of None": array_pickle(b"K\x02\x85", content=b"N"),
    "list for numbers": array_pickle(b"K\x02\x85", content=b"](K\x01K\x02e"),
    "bytes for objects": array_pickle(b"K\x01\x85", OBJECTS),
    "too few objects": array_pickle(b"K\x05\x85", OBJECTS, b"]Na"),
    "records": array_pickle(b"K\x01\x85", dtype_pickle(b"V8", NONE + b"NNNK\x08K\x01K\x00")),
    "fields": array_pickle(b"K\x02\x85", FIELDS),
    "sub-array": array_pickle(b"K\x02\x85", SUB_ARRAY),
    "metadata": array_pickle(b"K\x02\x85", dtype_pickle(b"f4", LESS + b"NNN" + ENDS + b"}")),
    "a list of fields as code": array_pickle(b"K\x02\x85", dtype_pickle(b"f4,f4", LESS + b"NNN" + ENDS)),
    "dates": array_pickle(b"K\x01\x85", dtype_pickle(b"M8", LESS + b"NNN" + ENDS)),
    "text of a huge size": array_pickle(b"K\x00\x85", HUGE_TEXT, b"C\x00"),
    "text beyond Unicode": array_pickle(b"K\x02\x85", ONE_LETTER, b"C\x08" + b"\xff" * 8),
    "truth values of 7": array_pickle(
        b"K\x08\x85", dtype_pickle(b"b1", NONE + b"NNN" + ENDS), b"C\x08" + b"\x07" * 8
    ),
    "a sub-class": array_pickle(b"K\x02\x85", kind="matrix"),
    "an array never filled": b"\x80\x03](" + EMPTY[2:] + b"e.",
    "a dtype by itself": b"\x80\x03](" + NUMBERS + b"e.",
    "a scalar of objects": SCALAR + OBJECTS + b"N\x86R.",
    "a scalar of other size": SCALAR + NUMBERS + b"C\x03abc\x86R.",
    "set of lists": b"c__builtin__\nset\n]]a\x85R.",
    "set of no list": b"c__builtin__\nset\n(K\x01K\x02tR.",
    "bytes of a count": b"\x80\x02c__builtin__\nbytes\n" + BIG + b"\x85R.",
    "dict as a key": b"}}K\x01s.",
}


@pytest.mark.parametrize("name", HOSTILE_ARRAYS)
def test_hostile_arguments_of_numpys_functions_are_refused(tmp_path, name):
    refused(tmp_path, HOSTILE_ARRAYS[name])


def test_the_arrays_of_these_tests_are_read_where_nothing_is_wrong(tmp_path):
    assert read(tmp_path, array_pickle(b"K\x02\x85")).tolist() == [0.0, 0.0]


def test_an_array_is_refused_before_it_is_allocated(tmp_path):
    import tracemalloc

    tracemalloc.start()
    refused(tmp_path, HOSTILE_ARRAYS["claims more than it has"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


# ---- damaged, compressed, too large --------------------------------------------------------------------------------
WHOLE = pickle.dumps({"train": {"text": np.ones((3, 4), "f4"), "id": ["a", "b", "c"]}}, 4)


def test_every_cut_is_noticed(tmp_path):
    for end in range(1, len(WHOLE)):
        refused(tmp_path, WHOLE[:end])


def test_flipped_bytes_never_do_more_than_be_refused(tmp_path):
    rng = np.random.default_rng(0)
    for data in (WHOLE, python_2_array(), pickle.dumps(VALUES["objects"], 0)):
        for _ in range(300):
            bad = bytearray(data)
            for place in rng.integers(len(bad), size=int(rng.integers(1, 4))):
                bad[place] = rng.integers(256)
            try:
                read(tmp_path, bytes(bad))
            except DataError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("more", [b"\n", b"x" * 100, WHOLE])
def test_bytes_behind_the_end_are_refused(tmp_path, more):
    assert str(len(more)) in refused(tmp_path, WHOLE + more)


@pytest.mark.parametrize("pack, named", [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")])
def test_compressed_pickles_are_named(tmp_path, pack, named):
    assert named in refused(tmp_path, pack(WHOLE))


def test_other_files_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("data.pkl", WHOLE)
    assert "zip" in refused(tmp_path, (tmp_path / "a.zip").read_bytes())
    np.save(tmp_path / "a.npy", np.ones(3))
    assert ".npy" in refused(tmp_path, (tmp_path / "a.npy").read_bytes())
    assert "pointer" in refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert "empty" in refused(tmp_path, b"")
    assert "web page" in refused(tmp_path, b"<!DOCTYPE html><html></html>")
    with pytest.raises(DataError, match="no file"):
        load_pickle(tmp_path / "none.pkl")


def test_limits_hold(tmp_path):
    many = pickle.dumps(list(range(1000)), 4)
    assert "instructions" in refused(tmp_path, many, Limits(steps=100))
    assert "more than 10" in refused(tmp_path, many, Limits(bytes=10))
    deep: list = []
    for _ in range(40):
        deep = [deep]
    assert "deep" in refused(tmp_path, pickle.dumps(deep, 4))
    assert "deep" in refused(tmp_path, b"]" * 50 + b"a" * 49 + b".")
    assert "deep" in refused(tmp_path, b")" + b"\x85" * 50 + b".")


def test_values_that_unfold_to_far_more_than_the_file_are_refused(tmp_path):
    level: list = ["x" * 100]
    for _ in range(12):
        level = [level] * 16
    assert "times its size" in refused(tmp_path, pickle.dumps(level, 4))
    text = "y" * 60_000
    assert "times its size" in refused(tmp_path, pickle.dumps([text] * 100_000, 2))


def test_a_value_within_itself_is_refused(tmp_path):
    loop: list = []
    loop.append(loop)
    refused(tmp_path, pickle.dumps(loop, 4))
    one: dict = {}
    one["other"] = [one]
    refused(tmp_path, pickle.dumps(one, 4))


def test_numbers_of_any_length_are_refused(tmp_path):
    refused(tmp_path, b"I" + b"9" * 100_000 + b"\n.")
    refused(tmp_path, b"\x80\x02\x8b\x00\x01\x00\x00" + b"\x7f" * 256 + b".")


def test_a_memo_of_a_huge_index_costs_nothing(tmp_path):
    assert read(tmp_path, b"]r\xff\xff\xff\xff.") == []
    assert read(tmp_path, b"]p99999999999999\n.") == []
    refused(tmp_path, b"h\x05.")
