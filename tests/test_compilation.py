"""Compiled functions: the same on any processor, with and without a place to keep them, and none compiled in vain."""

import errno
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

from gbdt2nn.compilation import Kernel, compiled, is_warm

ROOT = Path(__file__).parent.parent
SIGNATURE = ("float64[::1]", "int64", "out float64[::1]")


def scale(x: Any, factor: Any, result: Any) -> int:
    for i in range(x.shape[0]):
        result[i] = factor * x[i]
    return x.shape[0]


def run(kernel, x):
    result = np.empty(len(x))
    assert kernel(x, 3, result) == len(x)
    np.testing.assert_array_equal(result, 3 * x)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def test_what_is_read_may_be_read_only_and_what_is_written_may_not():
    kernel = Kernel(scale, [SIGNATURE])
    x = np.arange(4.0)
    run(kernel, x)
    x.flags.writeable = False
    run(kernel, x)
    with pytest.raises(TypeError, match="No matching definition"):
        kernel(np.arange(4.0), 3, x)


@pytest.mark.parametrize("text", ["float64[:, ::1]", "float64[::1, :]", "float64[:, :]"])
def test_the_layout_of_a_signature_is_what_is_accepted(text):
    import numba

    (argument,) = Kernel(lambda x: x[0, 0], [(text,)]).load().signatures[0]
    assert argument.layout == {":, ::1": "C", "::1, :": "F", ":, :": "A"}[text[8:-1]]
    assert not argument.mutable
    assert argument.dtype == numba.float64


def test_a_kernel_is_cold_then_stored_then_loaded(folder):
    kernel = Kernel(scale, [SIGNATURE])
    assert kernel.state() == "cold"
    run(kernel, np.arange(3.0))
    assert kernel.state() == "loaded"
    assert is_warm()
    assert Kernel(scale, [SIGNATURE]).state() == "stored"
    assert Kernel(scale, [SIGNATURE, ("float32[::1]", *SIGNATURE[1:])]).state() == "cold"
    assert "loaded" in repr(kernel)
    run(Kernel(scale, [SIGNATURE]), np.arange(3.0))


def test_nothing_is_kept_of_a_function_without_a_file():
    code = compile("def double(x, result):\n    result[0] = 2 * x[0]", "<nowhere>", "exec")
    module: dict[str, FunctionType] = {}
    exec(code, module)
    kernel = compiled([("float64[::1]", "out float64[::1]")])(module["double"])
    assert kernel.state() == "cold"
    result = np.zeros(1)
    kernel(np.ones(1), result)
    assert result[0] == 2.0
    assert Kernel(module["double"], kernel.signatures).state() == "cold"


@pytest.mark.parametrize("damage", [b"", b"no index", b"\x80\x04\x95"], ids=["empty", "text", "cut short"])
def test_a_damaged_store_costs_time_and_no_more(folder, damage):
    run(Kernel(scale, [SIGNATURE]), np.arange(3.0))
    for file in folder.rglob("*.nbi"):
        file.write_bytes(damage)
    kernel = Kernel(scale, [SIGNATURE])
    assert kernel.state() == "cold"
    run(kernel, np.arange(3.0))


def test_a_full_disk_costs_time_and_no_more(folder, monkeypatch):
    from numba.core import caching

    def full(cache_file, name, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    kernel = Kernel(scale, [SIGNATURE])
    run(kernel, np.arange(3.0))
    # It is the function compiled for the disk, not one compiled again without.
    assert kernel.load().stats.cache_path is not None


def test_a_fault_of_the_function_is_shown(folder):
    kernel = Kernel(lambda x: x.no_such_thing, [("float64[::1]",)])
    with pytest.raises(Exception, match="no_such_thing"):
        kernel(np.ones(1))


def in_a_process(code, **environment):
    command = [sys.executable, "-W", "error", "-c", code + "print('the same')"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.stdout.strip() == "the same", done.stderr


DECIMALS = """
import numpy as np
from gbdt2nn.teachers import decimals
words = [repr(v) for v in np.random.default_rng(0).normal(size=500).tolist()]
numbers = decimals.read_decimals(" ".join(words), 500, is_long=True)
np.testing.assert_array_equal(numbers, [float(w) for w in words])
"""
EVERYTHING = """
import sys
from gbdt2nn.compilation import is_warm
from gbdt2nn.binning import Binner
from gbdt2nn.attributions.tree_path import tree_path
from gbdt2nn.teachers import lightgbm
assert not is_warm() and "numba" not in sys.modules
import numpy as np
from lightgbm import LGBMRegressor
rng = np.random.default_rng(0)
x = rng.normal(size=(700, 3))
x[rng.random(x.shape) < 0.1] = np.nan
model = LGBMRegressor(n_estimators=3, verbosity=-1, n_jobs=1).fit(x, np.nan_to_num(x[:, 0]) + (x[:, 1] > 0))
ensemble = lightgbm.parse(model)
assert not is_warm() and "numba" not in sys.modules  # a small model is read sooner than numba is imported
binner = Binner.from_ensemble(ensemble)
expected = np.column_stack([(t < x[:, [j]]).sum(axis=1) for j, t in enumerate(binner.thresholds)])
expected = np.where(np.isnan(x) & (binner.missing_code >= 0), binner.missing_code, expected)
np.testing.assert_array_equal(binner.transform(x), expected)
phi, base = tree_path(ensemble, x)
np.testing.assert_allclose(base + phi.sum(axis=2), ensemble.raw_score(x), rtol=0, atol=1e-12)
"""
ENGINE = """
from gbdt2nn.attributions.tree_shap import TreeShap
codes = binner.transform(x, order="F")
truth, truth_base = lightgbm.native_attributions(model, x, n_jobs=1)
for algorithm in ("tables", "quadrature"):
    for precision, tolerance in (("float64", 1e-12), ("fast", 5e-6)):
        engine = TreeShap(ensemble, binner, algorithm=algorithm)
        np.testing.assert_allclose(engine.attributions(codes, precision=precision), truth, rtol=0, atol=tolerance)
        np.testing.assert_allclose(engine.base_value, truth_base, rtol=0, atol=1e-12)
"""


def test_without_a_folder_to_write_to_all_is_the_same():
    # Below a file there is none, even for a superuser; numba would otherwise choose another.
    place = {"NUMBA_CACHE_DIR": f"{__file__}/below", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    in_a_process(DECIMALS, **place)


def test_on_any_processor_all_is_the_same():
    in_a_process(EVERYTHING + DECIMALS + ENGINE, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")


def kernels() -> list[tuple[str, Kernel]]:
    """All kernels of the package, with the module each stands in."""
    found = []
    for path in sorted((ROOT / "gbdt2nn").rglob("*.py")):
        if "compiled" not in path.read_text():
            continue
        module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for value in vars(module).values():
            many = value.values() if isinstance(value, dict) else [value]
            found += [(module.__name__, kernel) for kernel in many if isinstance(kernel, Kernel)]
    return [(name, kernel) for name, kernel in found if kernel.function.__module__ == name]


def calls(function, seen: set[str]) -> list[object]:
    """What a function and the compiled functions it calls find under global names, and what is compiled among it."""
    found = []
    for name in set(function.__code__.co_names) & set(function.__globals__) - seen:
        value = function.__globals__[name]
        if isinstance(value, Kernel | Dispatcher | _Intrinsic):
            found.append(value)
            seen.add(name)
            if isinstance(value, Dispatcher):
                found += calls(value.py_func, seen)
    return found


def test_a_kernel_calls_nothing_that_is_compiled_in_another_file():
    """What numba keeps on disk belongs to the text of one file: a change in another would not be noticed."""
    checked = kernels()
    assert len(checked) > 10
    n_called = 0
    for module, kernel in checked:
        for called in calls(kernel.function, set()):
            inner = called.function if isinstance(called, Kernel) else getattr(called, "py_func", None) or called._defn
            assert inner.__module__ == module, f"{kernel} calls {inner.__module__}.{inner.__qualname__}"
            n_called += 1
    assert n_called > 10
