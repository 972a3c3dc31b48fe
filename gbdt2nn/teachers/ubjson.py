"""Universal Binary JSON (ubjson.org, draft 12), as XGBoost writes it: numbers come as they are, without digits.

Arrays of one type become NumPy arrays that look into the given bytes; all else becomes what JSON would give.
"""

import struct
from typing import Any

import numpy as np

# Numbers are big-endian.
_NUMBERS = {
    ord(marker): (np.dtype(f">{kind}"), struct.Struct(f">{form}").unpack_from)
    for marker, kind, form in (
        ("i", "i1", "b"),
        ("U", "u1", "B"),
        ("I", "i2", "h"),
        ("l", "i4", "i"),
        ("L", "i8", "q"),
        ("d", "f4", "f"),
        ("D", "f8", "d"),
    )
}
_CONSTANTS = {ord("Z"): None, ord("T"): True, ord("F"): False}
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END, _STRING, _TYPE, _COUNT, _INT64 = b"{}[]S$#L"
_int64 = _NUMBERS[_INT64][1]


def decode(data: bytes, *path: str) -> Any:
    """Decode one value.

    Parameters
    ----------
    data : bytes
    *path : str
        Decode only the member of this name, of the member of the name before; what stands after it is not read.

    Returns
    -------
    value : dict, list, ndarray, str, int, float, bool or None

    Raises
    ------
    ValueError
        If the bytes are not of this form, or have no such member.

    Examples
    --------
    >>> decode(b"{U\\x01aU\\x07U\\x01b[$U#U\\x02\\x01\\x02}")
    {'a': 7, 'b': array([1, 2], dtype=uint8)}
    >>> decode(b"{U\\x01aU\\x07U\\x01b[$U#U\\x02\\x01\\x02}", "a")
    7
    """
    try:
        at = 0
        for name in path:
            at = _member(data, at, name)
        value, end = _value(data, at)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise ValueError(
            f"data must be Universal Binary JSON{' with the members ' if path else ''}{', '.join(path)}, got what cannot "
            "be read as such."
        ) from error
    if not path and end != len(data):
        raise ValueError(f"data must be one value of Universal Binary JSON, got {len(data) - end} bytes after it.")
    return value


def _value(data: bytes, at: int) -> tuple[Any, int]:
    """Decode the value that begins at a place; return it with the place after it."""
    marker = data[at]
    at += 1
    if marker == _ARRAY:
        return _array(data, at)
    if marker == _STRING:
        size, at = _size(data, at)
        return data[at : at + size].decode(), at + size
    if marker == _OBJECT:
        return _object(data, at)
    if marker in _CONSTANTS:
        return _CONSTANTS[marker], at
    dtype, unpack = _NUMBERS[marker]
    return unpack(data, at)[0], at + dtype.itemsize


def _array(data: bytes, at: int) -> tuple[Any, int]:
    if data[at] == _TYPE:
        dtype, _ = _NUMBERS[data[at + 1]]
        if data[at + 2] != _COUNT:
            raise ValueError("an array of one type has no length")
        count, at = _size(data, at + 3)
        return np.frombuffer(data, dtype, count, at) if count else np.zeros(0, dtype), at + count * dtype.itemsize
    values = []
    if data[at] == _COUNT:
        count, at = _size(data, at + 1)
        for _ in range(count):
            value, at = _value(data, at)
            values.append(value)
        return values, at
    while data[at] != _ARRAY_END:
        value, at = _value(data, at)
        values.append(value)
    return values, at + 1


def _object(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    result = {}
    while data[at] != _OBJECT_END:
        size, at = _size(data, at)
        key = data[at : at + size].decode()
        at += size
        result[key], at = _array(data, at + 1) if data[at] == _ARRAY else _value(data, at)
    return result, at + 1


def _member(data: bytes, at: int, name: str) -> int:
    """Find the place of an object's member."""
    if data[at] != _OBJECT:
        raise ValueError("no object")
    at += 1
    while data[at] != _OBJECT_END:
        size, at = _size(data, at)
        key, at = data[at : at + size].decode(), at + size
        if key == name:
            return at
        _, at = _value(data, at)
    raise KeyError(name)


def _size(data: bytes, at: int) -> tuple[int, int]:
    size, at = (_int64(data, at + 1)[0], at + 9) if data[at] == _INT64 else _value(data, at)
    if size < 0 or at + size > len(data):
        raise ValueError("a size beyond the data")
    return size, at
