"""Tables over features, pairs and triples of them, looked up and added: a part of students, or all of one."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from gbdt2nn.backfitting import Tables
from gbdt2nn.compilation import compiled
from gbdt2nn.interactions import TableLayout
from gbdt2nn.students.code_encoding import between

CHUNK = 1 << 21  # numbers that are taken out of the tables at once where torch does it: 16 MB
# A block of rows goes through the tables together: each table is fetched once a block, so the rows are many, and their
# attributions stay in the cache
ROWS, BLOCK = 2048, 1 << 20


class TableSum(nn.Module):
    """Attributions as sums of table values: main effects, pairs and triples.

    The tables are parameters: they learn by gradient where they are asked to, and `add_tables` takes what least squares
    has found. On the CPU and without gradients a compiled kernel looks them up, elsewhere torch does.

    Parameters
    ----------
    layout : TableLayout
    unit : array-like of shape (n_outputs,)
        Raw score of a table value of 1.
    used : ndarray of bool of shape (n_outputs, n_features), optional
        All other attributions are exactly 0.

    Shape
    -----
    input : (batch, n_features), integer codes
    output : (batch, n_outputs, n_features), raw score
    """

    unit: Tensor
    used: Tensor
    code_start: Tensor
    pair_bin: Tensor
    pairs: Tensor
    pair_sizes: Tensor
    pair_start: Tensor
    triple_bin: Tensor
    triples: Tensor
    triple_sizes: Tensor
    triple_start: Tensor

    def __init__(self, layout: TableLayout, unit: ArrayLike, *, used: NDArray[np.bool_] | None = None) -> None:
        super().__init__()
        self.layout = layout
        scale = torch.as_tensor(np.asarray(unit, np.float64), dtype=torch.float32)
        n_outputs, n_features = len(scale), layout.n_features
        mask = torch.ones(n_outputs, n_features) if used is None else torch.as_tensor(used, dtype=torch.float32)
        self.register_buffer("unit", scale)
        self.register_buffer("used", mask)

        def fixed(name: str, values: ArrayLike) -> None:
            self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(values, np.int64)), persistent=False)

        fixed("code_start", np.cumsum(layout.n_codes) - layout.n_codes)
        fixed("pair_bin", np.concatenate([*layout.pair_bin, np.zeros(0)]))
        fixed("triple_bin", np.concatenate([*layout.triple_bin, np.zeros(0)]))
        for name in ("pairs", "pair_sizes", "pair_start", "triples", "triple_sizes", "triple_start"):
            fixed(name, getattr(layout, name))
        self.main = _table(int(layout.n_codes.sum()), n_outputs)
        self.pair = _table(int(layout.pair_start[-1]), 2, n_outputs)
        self.triple = _table(int(layout.triple_start[-1]), 3, n_outputs)

    def add_tables(self, tables: Tables) -> None:
        """Add tables of the same layout, or of it without its triples, in raw score, to the ones here."""
        with torch.no_grad():
            for own, more in (
                (self.main, np.concatenate(tables.main)), (self.pair, tables.pair), (self.triple, tables.triple)
            ):  # fmt: skip
                if len(more):
                    own.add_(torch.as_tensor(more, device=own.device).to(own) / self.unit)

    def of(self, tables: Tables) -> "TableSum":
        """Other tables of the same layout, in raw score, on the same device."""
        other = TableSum(self.layout, self.unit.cpu().numpy(), used=self.used.cpu().numpy() > 0).to(self.main)
        other.add_tables(tables)
        return other.requires_grad_(False)

    def main_effects(self) -> "TableSum":
        """The tables over single features alone, as they are, on the same device."""
        layout = replace(self.layout, pairs=self.layout.pairs[:0], triples=self.layout.triples[:0])
        other = TableSum(layout, self.unit.cpu().numpy(), used=self.used.cpu().numpy() > 0).to(self.main)
        with torch.no_grad():
            other.main.copy_(self.main)
        return other.requires_grad_(False)

    def at_positions(self, positions: Tensor) -> Tensor:
        """What the tables say between codes: linear from one cell's middle to the next, along each of its features.

        Shape
        -----
        input : (batch, n_features), real
        output : (batch, n_outputs, n_features), raw score
        """
        n_codes = [int(n) for n in self.layout.n_codes]
        low, share = zip(*(between(positions[:, j], n) for j, n in enumerate(n_codes)), strict=True)
        values = []
        for j, n in enumerate(n_codes):
            table = self.main[int(self.code_start[j]) : int(self.code_start[j]) + n]
            high = torch.clamp(low[j] + 1, max=n - 1)
            values.append(torch.lerp(table[low[j]], table[high], share[j][:, None]))  # (batch, n_outputs)
        for table, features, bins, sizes, start in (
            (self.pair, self.pairs, self.layout.pair_bin, self.pair_sizes, self.pair_start),
            (self.triple, self.triples, self.layout.triple_bin, self.triple_sizes, self.triple_start),
        ):
            if not len(features):
                continue
            corner = []
            for j, n in enumerate(n_codes):
                place = torch.as_tensor(bin_positions(bins[j], int(self.layout.n_ordered[j]))).to(positions)
                at = torch.lerp(place[low[j]], place[torch.clamp(low[j] + 1, max=n - 1)], share[j])
                corner.append(between(at, int(sizes[j])))
            for number, own in enumerate(features.tolist()):
                for corners in product((0, 1), repeat=len(own)):
                    cell, weight = torch.zeros_like(low[0]), torch.ones_like(share[0])
                    for j, up in zip(own, corners, strict=True):
                        below, part = corner[j]
                        cell = cell * int(sizes[j]) + torch.clamp(below + up, max=int(sizes[j]) - 1)
                        weight = weight * (part if up else 1.0 - part)
                    found = table[cell + int(start[number])]  # (batch, features of the table, n_outputs)
                    for position, j in enumerate(own):
                        values[j] = values[j] + weight[:, None] * found[:, position]
        return torch.stack(values, dim=2) * self.unit[:, None] * self.used

    def forward(self, codes: Tensor) -> Tensor:
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if codes.device.type == "cpu" and not learns and not traced:
            return self._by_kernel(codes)
        n_looked_up = (self.layout.n_features + self.pairs.numel() + self.triples.numel()) * len(self.unit)
        rows = max(1, CHUNK // max(1, n_looked_up))
        if traced or len(codes) <= rows:
            return self._by_torch(codes)
        return torch.cat([self._by_torch(chunk) for chunk in codes.split(rows)])

    def _by_torch(self, codes: Tensor) -> Tensor:
        at = codes.long() + self.code_start
        found = nn.functional.embedding(at, self.main)  # (batch, n_features, n_outputs)
        for table, features, bins, sizes, start in (
            (self.pair, self.pairs, self.pair_bin, self.pair_sizes, self.pair_start),
            (self.triple, self.triples, self.triple_bin, self.triple_sizes, self.triple_start),
        ):
            if not len(features):
                continue
            own = bins[at].T.contiguous()  # (n_features, batch)
            cell = own[features[:, 0]]
            for position in range(1, features.shape[1]):
                cell = cell * sizes[features[:, position]][:, None] + own[features[:, position]]
            cell = (cell + start[:-1, None]).T  # (batch, n_tables)
            values = nn.functional.embedding(cell, table.flatten(1)).unflatten(2, table.shape[1:])
            # a product, and no scattered sum: onnxruntime adds up a scattered one in several threads at once, and loses parts
            belongs = nn.functional.one_hot(features.flatten(), self.layout.n_features).to(values)
            found = found + torch.einsum("nvk,vj->njk", values.flatten(1, 2), belongs)
        return found.transpose(1, 2) * self.unit[:, None] * self.used

    def _by_kernel(self, codes: Tensor) -> Tensor:
        return torch.from_numpy(look_up(codes.to(torch.int32).numpy(), self.arrays()))

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """What `look_up` reads: the tables' own memory, on the CPU."""
        return tuple(
            tensor.detach().numpy()
            for tensor in (
                self.code_start, self.main,
                self.pair_bin, self.pairs, self.pair_sizes, self.pair_start, self.pair,
                self.triple_bin, self.triples, self.triple_sizes, self.triple_start, self.triple,
                self.unit[:, None] * self.used,
            )
        )  # fmt: skip


def look_up(codes: NDArray[np.int32], arrays: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """The attributions of rows by the arrays of a `TableSum`, in their precision: (n_samples, n_outputs, n_features)."""
    unit = arrays[-1]
    n_outputs, n_features = unit.shape
    out = np.empty((len(codes), n_outputs, n_features), unit.dtype)
    block = max(1, min(len(codes), ROWS, BLOCK // max(1, n_features * n_outputs)))
    found = np.empty((n_features, block, n_outputs), unit.dtype)
    _look_up(codes, *arrays, found, np.empty((2, n_features, block), np.int32), np.empty(block, np.int32), out)
    return out


def bin_positions(bins: NDArray[np.uint8], n_ordered: int) -> NDArray[np.float64]:
    """Where each code stands among the bins: the codes of a bin lie evenly in it, its middle at the bin's number.

    Beyond the middles of the outermost bins of numbers there is nothing to go to.

    Examples
    --------
    >>> bin_positions(np.array([0, 0, 1, 1, 1, 2], np.uint8), 5).round(2).tolist()
    [0.0, 0.25, 0.67, 1.0, 1.0, 2.0]
    """
    place = bins.astype(np.float64)
    first = np.searchsorted(bins[:n_ordered], bins[:n_ordered], side="left")
    size = np.bincount(bins[:n_ordered], minlength=1)[bins[:n_ordered]]
    place[:n_ordered] += (np.arange(n_ordered) - first + 0.5) / size - 0.5
    place[:n_ordered] = np.clip(place[:n_ordered], 0.0, bins[:n_ordered].max(initial=0))
    return place


def _table(*shape: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(*shape))
    parameter.no_decay = True  # type: ignore[attr-defined]
    return parameter


@compiled(
    [
        (
            "int32[:, :]", "int64[::1]", f"{real}[:, ::1]",
            "int64[::1]", "int64[:, ::1]", "int64[::1]", "int64[::1]", f"{real}[:, :, ::1]",
            "int64[::1]", "int64[:, ::1]", "int64[::1]", "int64[::1]", f"{real}[:, :, ::1]",
            f"{real}[:, ::1]", f"out {real}[:, :, ::1]", "out int32[:, :, ::1]", "out int32[::1]", f"out {real}[:, :, ::1]",
        )
        for real in ("float32", "float64")
    ]
)  # fmt: skip
def _look_up(
    codes, code_start, main,
    pair_bin, pairs, pair_size, pair_start, pair,
    triple_bin, triples, triple_size, triple_start, triple,
    unit, found, bins, cells, out,
):  # fmt: skip
    """Add up the values of each row's cells, a block of rows after the other, table by table: one table stays in the cache.

    What happens to each feature of a table is written out: a loop over them takes a quarter longer with many outputs.

    ``found`` (n_features, block, n_outputs), ``bins`` (2, n_features, block) and ``cells`` (block,) are the block's.
    """
    n_samples, n_features = codes.shape
    n_outputs = main.shape[1]
    block = found.shape[1]
    for first in range(0, n_samples, block):
        n_rows = min(block, n_samples - first)
        for j in range(n_features):
            for n in range(n_rows):
                at = code_start[j] + codes[first + n, j]
                bins[0, j, n] = pair_bin[at]
                bins[1, j, n] = triple_bin[at]
                for k in range(n_outputs):
                    found[j, n, k] = main[at, k]
        for number in range(pairs.shape[0]):
            a, b = pairs[number, 0], pairs[number, 1]
            size_b, start = pair_size[b], pair_start[number]
            if n_outputs == 1:
                # cells first, and rows of arrays by name: the compiler makes vector code of what it sees through
                bins_a, bins_b, found_a, found_b = bins[0, a], bins[0, b], found[a], found[b]
                table, size = pair[start:], np.int32(size_b)
                for n in range(n_rows):
                    cells[n] = bins_a[n] * size + bins_b[n]
                for n in range(n_rows):
                    cell = np.uint32(cells[n])
                    found_a[n, 0] += table[cell, 0, 0]
                    found_b[n, 0] += table[cell, 1, 0]
            else:
                for n in range(n_rows):
                    cell = start + bins[0, a, n] * size_b + bins[0, b, n]
                    own, values = found[a, n], pair[cell, 0]
                    for k in range(n_outputs):
                        own[k] += values[k]
                    own, values = found[b, n], pair[cell, 1]
                    for k in range(n_outputs):
                        own[k] += values[k]
        for number in range(triples.shape[0]):
            a, b, c = triples[number, 0], triples[number, 1], triples[number, 2]
            size_b, size_c, start = triple_size[b], triple_size[c], triple_start[number]
            if n_outputs == 1:
                bins_a, bins_b, bins_c = bins[1, a], bins[1, b], bins[1, c]
                found_a, found_b, found_c = found[a], found[b], found[c]
                table, size, last_size = triple[start:], np.int32(size_b), np.int32(size_c)
                for n in range(n_rows):
                    cells[n] = (bins_a[n] * size + bins_b[n]) * last_size + bins_c[n]
                for n in range(n_rows):
                    found_a[n, 0] += table[np.uint32(cells[n]), 0, 0]
                for n in range(n_rows):
                    found_b[n, 0] += table[np.uint32(cells[n]), 1, 0]
                for n in range(n_rows):
                    found_c[n, 0] += table[np.uint32(cells[n]), 2, 0]
            else:
                for n in range(n_rows):
                    cell = start + (bins[1, a, n] * size_b + bins[1, b, n]) * size_c + bins[1, c, n]
                    own, values = found[a, n], triple[cell, 0]
                    for k in range(n_outputs):
                        own[k] += values[k]
                    own, values = found[b, n], triple[cell, 1]
                    for k in range(n_outputs):
                        own[k] += values[k]
                    own, values = found[c, n], triple[cell, 2]
                    for k in range(n_outputs):
                        own[k] += values[k]
        for n in range(n_rows):
            for k in range(n_outputs):
                for j in range(n_features):
                    out[first + n, k, j] = found[j, n, k] * unit[k, j]
