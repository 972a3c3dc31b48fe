"""Errors name the argument, what is expected and what came."""

import pytest

from gbdt2nn.arguments import check_choice, check_mapping, check_number


@pytest.mark.parametrize(
    ("value", "options", "error", "message"),
    [
        (-1.0, {"low": 0}, ValueError, "weight must be a number of at least 0, got -1.0"),
        (0, {"low": 0, "inclusive": False}, ValueError, "more than 0, got 0"),
        (float("nan"), {"low": 0}, ValueError, "got nan"),
        (float("inf"), {"low": 0}, ValueError, "got inf"),
        ("1", {"low": 0}, TypeError, "got '1' of type str"),
        (True, {"low": 0}, TypeError, "got True of type bool"),
        (1.5, {"low": 0, "integer": True}, TypeError, "an integer of at least 0, got 1.5"),
        (None, {"low": 0}, TypeError, "got None"),
        (-1, {"low": 0, "none": True}, ValueError, "or None, got -1"),
    ],
)
def test_numbers(value, options, error, message):
    with pytest.raises(error, match=message):
        check_number("weight", value, **options)


def test_what_is_fine_passes():
    check_number("weight", 0, low=0)
    check_number("budget", None, low=0, none=True)
    check_choice("student", "mlp", {"mlp": 1})
    check_mapping("params", {"a": 1})
    check_mapping("params", None)


def test_choices_and_mappings():
    with pytest.raises(ValueError, match=r"student must be one of \['a', 'b'\], got 'c'"):
        check_choice("student", "c", ["b", "a"])
    with pytest.raises(TypeError, match="got 3"):
        check_choice("student", 3, ["b", "a"])
    with pytest.raises(TypeError, match=r"params must be a mapping from names to values or None, got \[1\]"):
        check_mapping("params", [1])
