"""Numbers written as decimal words, read exactly: to the last bit what ``float`` makes of each word.

The compiled reader is for many words. It multiplies the digits, as a whole number of 64 bits, with a power of ten cut to
64 bits, and knows the error of the product; where that leaves two doubles open, about one word in a thousand, ``float``
decides (the idea of Lemire 2021, "Number parsing at a gigabyte per second", with this simpler remedy).
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbdt2nn.compilation import Kernel, is_warm

# Powers of ten the compiled reader knows; with 19 digits before them, its numbers keep well inside the normal range.
_MAX_POWER = 280
# Words left to `float` at once.
_ROOM_FOR_UNSURE = 1024


def read_decimals(text: str, n_numbers: int, *, is_long: bool = False) -> NDArray[np.float64]:
    """Read numbers that stand between blanks.

    Parameters
    ----------
    text : str
        Words as ``float`` takes them.
    n_numbers : int
        How many there are.
    is_long : bool, default=False
        Whether so much is to be read that it is worth importing numba, or compiling, where neither is done yet. A
        million numbers take plain Python 0.3 seconds.

    Returns
    -------
    numbers : ndarray of shape (n_numbers,)

    Raises
    ------
    ValueError
        If a word is no number, or there are more or fewer words.

    Examples
    --------
    >>> read_decimals("0.1 -2 1e3", 3)
    array([ 1.e-01, -2.e+00,  1.e+03])
    """
    if is_long or is_warm():
        return _read_compiled(text.encode(), n_numbers)
    words = text.split()
    _check_count(len(words), n_numbers)
    return np.fromiter(map(float, words), dtype=np.float64, count=n_numbers)


def _check_count(found: int, n_numbers: int) -> None:
    if found != n_numbers:
        raise ValueError(f"the text must have {n_numbers} numbers, got {'more' if found > n_numbers else found}.")


def _read_compiled(text: bytes, n_numbers: int) -> NDArray[np.float64]:
    numbers = np.empty(n_numbers)
    unsure = np.empty((_ROOM_FOR_UNSURE, 3), dtype=np.int64)
    characters = np.frombuffer(text, dtype=np.uint8)
    place = found = 0
    while place < len(text):
        place, found, n_unsure = _READER(characters, place, found, *_powers(), numbers, unsure)
        for number, begin, end in unsure[:n_unsure].tolist():
            numbers[number] = float(text[begin:end])
        if found > n_numbers:
            break
    _check_count(found, n_numbers)
    return numbers


@cache
def _powers() -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float64]]:
    """Powers of ten as 64 bits times a power of two, rounded down; and powers of two.

    Returns
    -------
    digits : ndarray of shape (2 * _MAX_POWER + 1,), uint64
        At least 2**63.
    exponent : ndarray of the same shape, int64
        ``digits * 2**exponent <= 10**power < (digits + 1) * 2**exponent``, from the lowest power to the highest.
    twos : ndarray of shape (2045,)
        ``2**-1022, ..., 2**1022``.
    """
    digits, exponents = [], []
    for power in range(-_MAX_POWER, _MAX_POWER + 1):
        if power >= 0:
            exponent = (10**power).bit_length() - 64
            mantissa = 10**power >> exponent if exponent >= 0 else 10**power << -exponent
        else:
            ten = 10**-power
            exponent = -ten.bit_length() - 63
            mantissa = (1 << -exponent) // ten
            if mantissa >> 64:
                mantissa, exponent = mantissa >> 1, exponent + 1
        digits.append(mantissa)
        exponents.append(exponent)
    twos = np.ldexp(1.0, np.arange(-1022, 1023))
    return np.array(digits, dtype=np.uint64), np.array(exponents, dtype=np.int64), twos


def _read(
    text: Any, place: Any, found: Any, digits: Any, exponents: Any, twos: Any, numbers: Any, unsure: Any
) -> tuple[int, int, int]:
    """Read from a place on, until the end, one number too many, or no more room for unsure words.

    Returns
    -------
    place, found, n_unsure : int
        Where it stopped, how many numbers there are up to there, and how many of this call's ``float`` must decide.
    """
    one, ten, low_half = np.uint64(1), np.uint64(10), np.uint64(0xFFFFFFFF)
    n_characters, n_numbers, n_unsure = text.shape[0], numbers.shape[0], 0
    while True:
        while place < n_characters and text[place] <= 32:
            place += 1
        if place == n_characters or n_unsure == unsure.shape[0]:
            return place, found, n_unsure
        if found == n_numbers:
            return place, found + 1, n_unsure
        begin = place
        is_negative = text[place] == 45
        if is_negative:
            place += 1
        whole, n_digits, n_significant, power = np.uint64(0), 0, 0, 0
        after_point = 0
        while place < n_characters:
            digit = np.uint64(text[place]) - np.uint64(48)
            if digit < ten:
                whole = whole * ten + digit
                n_digits += 1
                n_significant += 1 if n_significant > 0 or digit != 0 else 0
                power -= after_point
            elif text[place] == 46 and after_point == 0:
                after_point = 1
            else:
                break
            place += 1
        is_sure = n_digits > 0 and n_significant <= 19
        if place < n_characters and (text[place] == 101 or text[place] == 69):
            place += 1
            sign = 1
            if place < n_characters and (text[place] == 45 or text[place] == 43):
                sign = 1 if text[place] == 43 else -1
                place += 1
            written, n_written = 0, 0
            while place < n_characters and text[place] >= 48 and text[place] <= 57 and n_written < 6:
                written = written * 10 + int(text[place]) - 48
                n_written += 1
                place += 1
            power += sign * written
            is_sure = is_sure and n_written > 0
        if place < n_characters and text[place] > 32:
            is_sure = False
            while place < n_characters and text[place] > 32:
                place += 1

        value = 0.0
        if is_sure and whole != 0:
            if power == 0 and whole <= np.uint64(9007199254740992):
                value = np.float64(whole)
            elif abs(power) > _MAX_POWER:
                is_sure = False
            else:
                # The product of two whole numbers of 64 bits with their highest bit set; its upper 64 bits.
                exponent = exponents[power + _MAX_POWER] + 64
                for bits in (32, 16, 8, 4, 2, 1):
                    if whole >> np.uint64(64 - bits) == 0:
                        whole = whole << np.uint64(bits)
                        exponent -= bits
                other = digits[power + _MAX_POWER]
                a, b, c, d = whole >> np.uint64(32), whole & low_half, other >> np.uint64(32), other & low_half
                middle = a * d + (b * d >> np.uint64(32))
                upper = a * c + (middle >> np.uint64(32)) + ((b * c + (middle & low_half)) >> np.uint64(32))
                # The true product is at least `upper` and less than `upper + 2`.
                n_over = np.uint64(11) if upper >> np.uint64(63) else np.uint64(10)
                over, half = upper & ((one << n_over) - one), one << (n_over - one)
                is_sure = over != half and over + one != half
                mantissa = (upper >> n_over) + (one if over > half else np.uint64(0))
                value = np.float64(mantissa) * twos[exponent + np.int64(n_over) + 1022]
        numbers[found] = -value if is_negative else value
        if not is_sure:
            unsure[n_unsure, 0], unsure[n_unsure, 1], unsure[n_unsure, 2] = found, begin, place
            n_unsure += 1
        found += 1


_READER = Kernel(
    _read,
    [
        (
            "uint8[::1]",
            "int64",
            "int64",
            "uint64[::1]",
            "int64[::1]",
            "float64[::1]",
            "out float64[::1]",
            "out int64[:, ::1]",
        )
    ],
)
