"""Pickles that circulate, read as data: nothing in them runs.

A pickle is a program for a small machine that may import and call whatever it names. Here is another machine. It
knows the instructions that make data, and has a table of the few names under which numpy and Python 2 write data. It
imports nothing: each name stands for a function of this file, which checks what it is given. Whatever else a file
asks for is refused with its name.

Read are None, truth values, numbers, text, bytes, lists, tuples, dicts, sets, and numpy's arrays and scalars of
numbers, text or such values. Text of Python 2 is read as Latin-1. Arrays stay in the mapped file until they are used.

Source of the instructions: Python's `pickletools`; of what numpy writes: `ndarray.__reduce__` and
`__reduce_ex__`, `dtype.__reduce__`, under the module names `numpy.core` and `numpy._core`.
"""

from __future__ import annotations

import codecs
import mmap
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import DataError

#: Longer texts and bytes stay in the mapped file until they are used.
_LONG = 2**16
#: Bytes of the longest whole number.
_WIDEST = 64
#: Greatest length of one axis of an array, and of all its axes together.
_LONGEST_AXIS, _MOST_AXES = 2**40, 8
#: Begin files that are no pickles -> what they are.
_OTHERS = {
    b"\x1f\x8b": "is compressed by gzip",
    b"BZh": "is compressed by bzip2",
    b"\xfd7zXZ": "is compressed by xz",
    b"\x28\xb5\x2f\xfd": "is compressed by Zstandard",
    b"7z\xbc\xaf": "is a 7z archive",
    b"PK\x03\x04": "is a zip archive (so are files of torch.save and .npz)",
    b"\x93NUMPY": "is an .npy file",
    b"\x89HDF": "is an HDF5 file",
    b"version https://git-lfs": "is a Git LFS pointer",
    b"<!DOCTYPE": "is a web page",
    b"<!doctype": "is a web page",
    b"<html": "is a web page",
}
_DTYPE = re.compile(r"([<>|=]?)(b1|[iu][1248]|f[248]|c8|c16|[SU]\d*|O[48]?)")
#: Instructions that are refused though they name nothing themselves.
_REFUSED = {
    "PERSID": "an object that lies outside the file (a persistent id)",
    "BINPERSID": "an object that lies outside the file (a persistent id)",
    "EXT1": "an object of the extension registry",
    "EXT2": "an object of the extension registry",
    "EXT4": "an object of the extension registry",
    "OBJ": "an object of a class",
    "NEWOBJ": "an object of a class",
    "NEWOBJ_EX": "an object of a class",
    "NEXT_BUFFER": "a buffer that lies outside the file",
    "READONLY_BUFFER": "a buffer that lies outside the file",
}
_NAMES = {ord(one.code): one.name for one in pickletools.opcodes}


@dataclass(frozen=True)
class Limits:
    """What a pickle may not exceed.

    Args:
        bytes: of the file. steps: instructions. depth: of values within values.
        growth: how many times larger than the file its values may be where each repeated one is counted again; one
            MiB is always allowed.
    """

    bytes: int = 256 * 2**30
    steps: int = 200_000_000
    depth: int = 32
    growth: int = 64


@dataclass(frozen=True)
class _Name:
    """A name from the table, which is no value."""

    dotted: str


@dataclass(eq=False)
class _Dtype:
    """A dtype whose byte order is still to come; `keys` are its places in the memo."""

    code: str
    keys: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Array:
    """An array whose content is still to come; `keys` are its places in the memo."""

    keys: list[int] = field(default_factory=list)


class _Arguments(tuple[Any, ...]):
    """A tuple that holds what is no value: it is good for a call alone."""


@dataclass(frozen=True)
class _Long:
    """A long text or bytes, in the mapped file."""

    view: memoryview
    text: bool


_MARK = object()
_UNFINISHED = (_Name, _Dtype, _Array, _Arguments, np.dtype)


class _DamagedError(ValueError):
    """Bytes that no writer of pickles leaves."""


class _Refusal(Exception):  # noqa: N818 (it becomes a DataError, with the file)
    """What a file asks for that it does not get."""


def load_pickle(path: Path, limits: Limits | None = None) -> Any:
    """Return what a pickle holds. Arrays may be read-only.

    Args:
        limits: what it may not exceed.

    Raises:
        DataError: it is missing, empty, a pointer, cut short, compressed or no pickle; it asks for anything that is
            no data, by name; it exceeds a limit. One line, with the file.
    """
    limits = limits or Limits()
    if not path.is_file():
        raise DataError(f"{path} is no file", "Name the pickle")
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path} is empty (0 bytes)", "Fetch it again")
    if size > limits.bytes:
        raise DataError(f"{path} has {size} bytes, more than {limits.bytes}", "Check that this is the file meant")
    view = _mapped(path)
    for head, what in _OTHERS.items():
        if bytes(view[: len(head)]) == head:
            raise DataError(f"{path} {what}, not a pickle", "Fetch or unpack it, or name the pickle")
    machine = _Machine(view, limits)
    try:
        return machine.run()
    except _Refusal as refused:
        fix = "Nothing of it was run. Use a file that holds arrays, lists, dicts, numbers and text alone"
        raise DataError(f"{path} {refused} (byte {machine.began})", fix) from None
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        struct.error,
        AssertionError,
    ) as error:
        why = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(f"{path} is no whole pickle ({why}, byte {machine.began})", "Fetch it again") from None


def _mapped(path: Path) -> memoryview:
    """Return a file's bytes, mapped where the file system can."""
    with path.open("rb") as file:
        try:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError:
            return memoryview(file.read())


def _ask(what: str) -> NoReturn:
    raise _Refusal(f"asks for {what}")


class _Machine:
    """The machine: a stack, marks in it, and a memo of values that are named again."""

    def __init__(self, view: memoryview, limits: Limits) -> None:
        self.view, self.limits = view, limits
        self.at = self.began = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        #: Containers by identity: itself (so that it lives), depth, bytes when unfolded, whether it is placed.
        self.made: dict[int, tuple[Any, int, int, bool]] = {}
        self.most = limits.growth * len(view) + 2**20

    # ---- running -----------------------------------------------------------------------------------------------
    def run(self) -> Any:
        """Execute the file; return its value."""
        for _ in range(self.limits.steps):
            self.began = self.at
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                return self.end()
            step = _STEPS.get(code)
            if step is None:
                name = _NAMES.get(code)
                if name == "INST":
                    _ask(f"{self.line()}.{self.line()}")
                if name in _REFUSED:
                    _ask(_REFUSED[name] + self.class_name())
                raise ValueError(f"{bytes([code])!r} is no instruction")
            step(self)
        raise _Refusal(f"has more than {self.limits.steps} instructions")

    def end(self) -> Any:
        """Return the one value that is left."""
        value = self.plain(self.stack.pop())
        if self.stack:
            raise ValueError("several values are left")
        more = len(self.view) - self.at
        if more:
            raise _Refusal(f"goes on for {more} bytes behind its end")
        return value

    def class_name(self) -> str:
        """Return ', NAME' where a name of the table lies on top of the stack or below it."""
        return next((f", {one.dotted}" for one in reversed(self.stack[-3:]) if isinstance(one, _Name)), "")

    # ---- reading -----------------------------------------------------------------------------------------------
    def take(self, count: int) -> memoryview:
        """Return the next bytes."""
        if not 0 <= count <= len(self.view) - self.at:
            if count < 0:
                raise ValueError("a length below 0")
            raise ValueError(f"cut short: {len(self.view) - self.at} bytes of {count} are left")
        self.at += count
        return self.view[self.at - count : self.at]

    def number(self, form: str) -> int:
        """Return the next number of a form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """Return the text up to the end of the line."""
        end, step = self.at, 2**12
        while end < len(self.view):
            block = bytes(self.view[end : end + step])
            found = block.find(b"\n")
            if found >= 0:
                text = bytes(self.take(end + found - self.at))
                self.take(1)
                return text.decode("latin-1")
            end += step
        raise ValueError("cut short within a line")

    def text(self, count: int, is_text: bool) -> None:
        """Push the next bytes, as they are or as UTF-8."""
        view = self.take(count)
        self.stack.append(_Long(view, is_text) if count > _LONG else _text(view) if is_text else bytes(view))

    def string(self, count: int) -> None:
        """Push a text of Python 2, as Latin-1; a long one as bytes, which most likely are an array's."""
        view = self.take(count)
        self.stack.append(_Long(view, False) if count > _LONG else bytes(view).decode("latin-1"))

    # ---- values ------------------------------------------------------------------------------------------------
    def plain(self, value: Any) -> Any:
        """Return a value that may be placed in another: nothing unfinished, no name."""
        if type(value) is float or type(value) is int:
            return value
        if isinstance(value, _Long):
            return _text(value.view) if value.text else bytes(value.view)
        if value is _MARK:
            raise ValueError("a mark in place of a value")
        if isinstance(value, _Name):
            _ask(f"{value.dotted} itself, which is no data")
        if isinstance(value, _UNFINISHED):
            _ask("part of an array, which is no data by itself")
        return value

    def weigh(self, value: Any) -> tuple[int, int]:
        """Return a value's depth, and its bytes when unfolded; close it where it is a container."""
        if isinstance(value, list | dict | set | frozenset | tuple):
            _, depth, size, _ = self.made[id(value)]
            self.made[id(value)] = value, depth, size, True
            return depth, size
        if isinstance(value, np.ndarray):
            if id(value) in self.made:  # of objects
                return self.made[id(value)][1:3]
            return 1, 16 + value.nbytes
        return 0, 8 + (len(value) if isinstance(value, str | bytes) else 0)

    def place(self, container: Any, values: list[Any]) -> list[Any]:
        """Return values that go into a container, which is weighed with them."""
        plain = [self.plain(value) for value in values]
        _, depth, size, placed = self.made.get(id(container), (container, 1, 16, False))
        if placed:
            raise _Refusal("changes a value that is part of another")
        for value in plain:
            if type(value) is float or type(value) is int:
                size += 8
                continue
            if value is container:
                raise _Refusal("puts a value into itself")
            deep, more = self.weigh(value)
            depth, size = max(depth, deep + 1), size + more
        if depth > self.limits.depth:
            raise _Refusal(f"nests values more than {self.limits.depth} deep")
        if size > self.most:
            raise _Refusal(f"unfolds to more than {self.limits.growth} times its size")
        self.made[id(container)] = container, depth, size, False
        return plain

    def new(self, container: Any) -> Any:
        """Push a new container."""
        self.place(container, [])
        self.stack.append(container)
        return container

    def tuple_of(self, values: list[Any]) -> None:
        """Push a tuple; one of names, dtypes or long texts is good for a call alone."""
        if any(value is _MARK for value in values):
            raise ValueError("a mark in place of a value")
        if any(isinstance(value, (*_UNFINISHED, _Long)) for value in values):
            for value in values:
                if isinstance(value, list | dict | set | frozenset | tuple) and not isinstance(value, _Arguments):
                    self.weigh(value)
            self.stack.append(_Arguments(values))
            return
        made = tuple(values)
        self.made.pop(id(made), None)  # the empty one is always the same
        self.place(made, values)
        self.stack.append(made)

    def marked(self) -> list[Any]:
        """Pop what lies above the last mark."""
        for k in range(len(self.stack) - 1, -1, -1):
            if self.stack[k] is _MARK:
                values = self.stack[k + 1 :]
                del self.stack[k:]
                return values
        raise ValueError("no mark")

    def top(self, kind: type) -> Any:
        """Return what lies on top, which has to be of a kind."""
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"no {kind.__name__} to add to")
        return self.stack[-1]

    # ---- containers --------------------------------------------------------------------------------------------
    def append(self, values: list[Any]) -> None:
        """Add values to the list on top."""
        found = self.top(list)
        found.extend(self.place(found, values))

    def set_items(self, pairs: list[Any]) -> None:
        """Add keys and values to the dict on top."""
        found = self.top(dict)
        if len(pairs) % 2:
            raise ValueError("a key without its value")
        plain = self.place(found, pairs)
        for key in plain[::2]:
            _check_key(key)
        found.update(zip(plain[::2], plain[1::2], strict=True))

    def add_items(self, values: list[Any]) -> None:
        """Add values to the set on top."""
        found = self.top(set)
        plain = self.place(found, values)
        for value in plain:
            _check_key(value)
        found.update(plain)

    def frozen(self) -> None:
        """Push a frozen set."""
        values = self.marked()
        made = self.new(set())
        plain = self.place(made, values)
        for value in plain:
            _check_key(value)
        made.update(plain)

    # ---- memo --------------------------------------------------------------------------------------------------
    def put(self, key: int) -> None:
        """Remember what lies on top."""
        if self.stack[-1] is _MARK:
            raise ValueError("a mark in place of a value")
        self.memo[key] = found = self.stack[-1]
        if isinstance(found, _Dtype | _Array):
            found.keys.append(key)

    def replace(self, old: _Dtype | _Array, new: object) -> None:
        """Let the top of the stack, and the memo, have the finished value."""
        self.stack[-1] = new
        for key in old.keys:
            if self.memo.get(key) is old:
                self.memo[key] = new

    # ---- names -------------------------------------------------------------------------------------------------
    def name(self, module: Any, name: Any) -> None:
        """Push a name of the table."""
        dotted = f"{_shown(module)}.{_shown(name)}"
        if dotted not in _TABLE:
            _ask(dotted)
        self.stack.append(_Name(dotted))

    def reduce(self) -> None:
        """Call what a name stands for."""
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no name")
        function = _TABLE[called.dotted]
        if function is None:
            _ask(f"a call of {called.dotted}")
        try:
            made = function(tuple(arguments))
        except _DamagedError:
            raise
        except (ValueError, TypeError, AssertionError, OverflowError) as error:
            raise _Refusal(f"calls {called.dotted} with what it does not take: {error}") from None
        if isinstance(made, set):
            values = list(made)
            made = self.new(set())
            made.update(self.place(made, values))
            return
        self.stack.append(made)

    def build(self) -> None:
        """Give an array or a dtype its content."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            done: Any = _finish_dtype(target, state)
        elif isinstance(target, _Array):
            done = self.array(state)
        else:
            what = target.dotted if isinstance(target, _Name) else type(target).__name__
            _ask(f"a state of {what}, which has none")
        self.replace(target, done)

    def array(self, state: Any) -> np.ndarray:
        """Return the array of a state (version, shape, dtype, whether it is Fortran's order, content)."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], np.dtype):
            raise _Refusal("has an array without shape, type and content")
        _, shape, dtype, fortran, content = state
        if not isinstance(content, list):
            return _array(content, dtype, shape, bool(fortran))
        count = _count(shape)
        if dtype.kind != "O" or len(content) != count:
            raise _Refusal(f"has an array of {count} entries whose content is a list of {len(content)}")
        made = np.empty(count, dtype=object)
        for k, one in enumerate(content):
            made[k] = one
        made = made.reshape(shape, order="F" if fortran else "C")
        depth, size = self.weigh(content)
        self.made[id(made)] = made, depth + 1, size, True
        return made


def _text(view: memoryview) -> str:
    try:
        return str(view, "utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise _DamagedError("a text that is no UTF-8") from None


def _shown(part: Any) -> str:
    """Return a part of a name as text."""
    if not isinstance(part, str):
        raise ValueError("a name that is no text")
    return part


def _check_key(key: Any) -> None:
    """Refuse what can't be a key."""
    if isinstance(key, tuple):
        for one in key:
            _check_key(one)
    elif not isinstance(key, str | bytes | int | float | complex | np.generic | None):
        raise ValueError(f"a key of the type {type(key).__name__}")


# ---- arrays --------------------------------------------------------------------------------------------------------
def _count(shape: Any) -> int:
    """Return the number of entries of a shape."""
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
        raise _Refusal(f"has an array of a shape that is none, or of more than {_MOST_AXES} axes")
    count, extent = 1, 1
    for axis in shape:
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or axis < 0:
            raise _Refusal("has an array of a shape that is none")
        count, extent = count * int(axis), extent * max(1, int(axis))
        if extent > _LONGEST_AXIS:
            raise _Refusal("has an array of a shape that nothing can hold")
    return count


def _bytes(content: Any) -> bytes | memoryview:
    """Return an array's content as bytes; Python 2 wrote it as text."""
    if isinstance(content, _Long) and not content.text:
        return content.view
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode("latin-1")
    raise _Refusal("has an array whose content is no bytes")


def _array(content: Any, dtype: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    """Return an array over bytes of the file, of exactly the size that its shape has."""
    data, count = _bytes(content), _count(shape)
    if dtype.kind == "O":
        raise _Refusal("has an array of objects whose content is bytes")
    if count * dtype.itemsize != len(data):
        raise _Refusal(f"has an array that claims {count * dtype.itemsize} bytes and has {len(data)}")
    shape = tuple(int(axis) for axis in shape)
    if not len(data):
        return np.zeros(shape, dtype)
    if dtype.kind == "b" and int(np.frombuffer(data, np.uint8).max()) > 1:
        raise _Refusal("has an array of truth values that are neither true nor false")
    if dtype.kind == "U" and int(np.frombuffer(data, dtype.byteorder.replace("|", "=") + "u4").max()) > 0x10FFFF:
        raise _Refusal("has an array of text that is none")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _make_array(arguments: tuple[Any, ...]) -> _Array:
    """Stand in for numpy's `_reconstruct`, which makes an empty array of a class."""
    kind, shape, code = arguments
    if not isinstance(kind, _Name) or kind.dotted != "numpy.ndarray":
        raise ValueError("no plain array")
    if shape != (0,) or code not in ("b", b"b"):
        raise ValueError("no empty array")
    return _Array()


def _make_dtype(arguments: tuple[Any, ...]) -> _Dtype:
    """Stand in for `numpy.dtype`."""
    code = arguments[0]
    code = code.decode("ascii") if isinstance(code, bytes) else code
    if len(arguments) > 3 or not isinstance(code, str) or not _DTYPE.fullmatch(code):
        raise ValueError(f"no type of numbers or text but {str(code)[:40]!r}")
    if len(code) > 12:
        raise ValueError("a type of a size that nothing can hold")
    return _Dtype(code)


def _finish_dtype(made: _Dtype, state: Any) -> np.dtype:
    """Return a dtype with the byte order and size of its state; fields, sub-arrays and metadata are refused."""
    if not isinstance(state, tuple) or not 6 <= len(state) <= 8 or state[2:5] != (None, None, None):
        raise _Refusal("has an array of records or sub-arrays, not of numbers or text")
    order, size = state[1], state[5]
    order = order.decode("ascii", "replace") if isinstance(order, bytes) else order
    if order not in ("<", ">", "|", "=") or isinstance(size, bool) or not isinstance(size, int):
        raise _Refusal("has an array of an unknown byte order")
    code = _DTYPE.fullmatch(made.code)
    assert code is not None
    kind = code[2]
    if kind[0] in "SU" and size >= 0:
        width = 1 if kind[0] == "S" else 4
        named = int(kind[1:] or 0)
        if size % width or (named and named != size // width) or size > 2**20:
            raise _Refusal("has an array of text whose size is none")
        kind = f"{kind[0]}{size // width}"
    found = np.dtype(object) if kind[0] == "O" else np.dtype(kind)
    if found.kind in "OS" or order not in ("<", ">"):
        return found
    return found.newbyteorder("<" if order == "<" else ">")


def _make_scalar(arguments: tuple[Any, ...]) -> Any:
    """Stand in for numpy's `scalar`."""
    dtype, content = arguments
    if not isinstance(dtype, np.dtype) or dtype.kind == "O":
        raise ValueError("no number and no text")
    return _array(content, dtype, (), False)[()]


def _from_buffer(arguments: tuple[Any, ...]) -> np.ndarray:
    """Stand in for numpy's `_frombuffer`."""
    content, dtype, shape, order = arguments
    if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise ValueError("no type or order of an array")
    return _array(content, dtype, shape, order == "F")


# ---- Python --------------------------------------------------------------------------------------------------------
def _encode(arguments: tuple[Any, ...]) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes in protocols 0 to 2."""
    text, encoding = arguments
    text = _text(text.view) if isinstance(text, _Long) and text.text else text
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("another encoding than Latin-1")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise _DamagedError("bytes that are no Latin-1") from None


def _make_bytes(arguments: tuple[Any, ...]) -> bytes:
    """Stand in for `bytes`, by which empty ones are written."""
    if arguments:
        raise ValueError("arguments")
    return b""


def _make_set(arguments: tuple[Any, ...]) -> set[Any]:
    """Stand in for `set` of a list."""
    (values,) = arguments
    if not isinstance(values, list):
        raise ValueError("no list")
    for value in values:
        _check_key(value)
    return set(values)


def _make_complex(arguments: tuple[Any, ...]) -> complex:
    """Stand in for `complex`."""
    real, imaginary = arguments
    if not isinstance(real, float) or not isinstance(imaginary, float):
        raise ValueError("no numbers")
    return complex(real, imaginary)


#: What a pickle may name -> what stands in for it; None: it may be named, but not called.
_TABLE: dict[str, Callable[[tuple[Any, ...]], Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _make_dtype,
    "_codecs.encode": _encode,
}
for _core in ("numpy.core", "numpy._core"):
    _TABLE[f"{_core}.multiarray._reconstruct"] = _make_array
    _TABLE[f"{_core}.multiarray.scalar"] = _make_scalar
    _TABLE[f"{_core}.numeric._frombuffer"] = _from_buffer
for _own in ("builtins", "__builtin__"):
    _TABLE |= {
        f"{_own}.bytes": _make_bytes,
        f"{_own}.set": _make_set,
        f"{_own}.frozenset": _make_set,
        f"{_own}.complex": _make_complex,
    }


# ---- instructions --------------------------------------------------------------------------------------------------
def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.stack.append(value(m))


def _int_line(m: _Machine) -> Any:
    text = m.line()
    if text in ("00", "01"):
        return text == "01"
    if len(text) > 3 * _WIDEST:
        raise ValueError("a number of too many digits")
    return int(text.rstrip("L"))


def _float_line(m: _Machine) -> float:
    return float(m.line())


def _long(m: _Machine, count: int) -> int:
    if count > _WIDEST:
        raise ValueError(f"a number of {count} bytes")
    return int.from_bytes(m.take(count), "little", signed=True)


def _string_line(m: _Machine) -> str:
    text = m.line().rstrip("\r")
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        raise ValueError("a text without its quotes")
    return codecs.escape_decode(text[1:-1].encode("latin-1"))[0].decode("latin-1")


def _unicode_line(m: _Machine) -> str:
    return m.line().encode("latin-1").decode("raw-unicode-escape")


def _pop(m: _Machine) -> None:
    m.stack.pop()


def _tuple_of_last(count: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        if len(m.stack) < count:
            raise ValueError("too few values")
        values = m.stack[len(m.stack) - count :]
        del m.stack[len(m.stack) - count :]
        m.tuple_of(values)

    return step


def _list(m: _Machine) -> None:
    values = m.marked()
    m.new([])
    m.append(values)


def _dict(m: _Machine) -> None:
    values = m.marked()
    m.new({})
    m.set_items(values)


def _append(m: _Machine) -> None:
    value = m.stack.pop()
    m.append([value])


def _set_item(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items([key, value])


def _stack_name(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.name(module, name)


def _protocol(m: _Machine) -> None:
    if m.take(1)[0] > 5:
        raise ValueError("a protocol that is not known")


def _frame(m: _Machine) -> None:
    length = m.number("<Q")
    if length > len(m.view) - m.at:
        raise ValueError(f"cut short: {len(m.view) - m.at} bytes of {length} are left")


_STEPS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): step
    for code, step in {
        "(": _push(lambda m: _MARK),
        "0": _pop,
        "1": lambda m: m.marked(),
        "2": _push(lambda m: m.stack[-1]),
        "F": _push(_float_line),
        "I": _push(_int_line),
        "L": _push(_int_line),
        "S": _push(_string_line),
        "V": _push(_unicode_line),
        "N": _push(lambda m: None),
        "c": lambda m: m.name(m.line(), m.line()),
        "R": lambda m: m.reduce(),
        "b": lambda m: m.build(),
        "a": _append,
        "e": lambda m: m.append(m.marked()),
        "d": _dict,
        "l": _list,
        "t": lambda m: m.tuple_of(m.marked()),
        "s": _set_item,
        "u": lambda m: m.set_items(m.marked()),
        "p": lambda m: m.put(int(m.line())),
        "q": lambda m: m.put(m.number("<B")),
        "r": lambda m: m.put(m.number("<I")),
        "g": _push(lambda m: m.memo[int(m.line())]),
        "h": _push(lambda m: m.memo[m.number("<B")]),
        "j": _push(lambda m: m.memo[m.number("<I")]),
        "}": lambda m: m.new({}),
        "]": lambda m: m.new([]),
        ")": lambda m: m.tuple_of([]),
        "G": _push(lambda m: m.number(">d")),
        "J": _push(lambda m: m.number("<i")),
        "K": _push(lambda m: m.number("<B")),
        "M": _push(lambda m: m.number("<H")),
        "T": lambda m: m.string(m.number("<i")),
        "U": lambda m: m.string(m.number("<B")),
        "X": lambda m: m.text(m.number("<I"), True),
        "B": lambda m: m.text(m.number("<I"), False),
        "C": lambda m: m.text(m.number("<B"), False),
        "\x80": _protocol,
        "\x85": _tuple_of_last(1),
        "\x86": _tuple_of_last(2),
        "\x87": _tuple_of_last(3),
        "\x88": _push(lambda m: True),
        "\x89": _push(lambda m: False),
        "\x8a": _push(lambda m: _long(m, m.number("<B"))),
        "\x8b": _push(lambda m: _long(m, m.number("<i"))),
        "\x8c": lambda m: m.text(m.number("<B"), True),
        "\x8d": lambda m: m.text(m.number("<Q"), True),
        "\x8e": lambda m: m.text(m.number("<Q"), False),
        "\x8f": lambda m: m.new(set()),
        "\x90": lambda m: m.add_items(m.marked()),
        "\x91": lambda m: m.frozen(),
        "\x93": _stack_name,
        "\x94": lambda m: m.put(len(m.memo)),
        "\x95": _frame,
        "\x96": lambda m: m.text(m.number("<Q"), False),
    }.items()
}
