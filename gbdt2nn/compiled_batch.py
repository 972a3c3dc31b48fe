"""A fitted student's answers to batches in less than double precision: explained prediction as fast as the processor can.

Whatever the precision inside, a complete student's score is its base value plus the attributions it returns, added up in
double precision.
"""

import copy
from threading import local
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn import batch_kernel as kernel
from gbdt2nn.options import trains_in_bfloat16
from gbdt2nn.student_answers import student_explained
from gbdt2nn.students.table_sum import TableSum, look_up

Array = NDArray[np.float64]

PRECISIONS = ("float64", "float32", "fast")
CHUNK = 8192  # rows that go through the tables together
BLOCK = 1024  # rows that go through the network together, for each of torch's threads: a product has a cost of its own
VECTOR = 16  # a product whose columns are no multiple of it takes several times as long where they are few


def in_precision(student: Any, precision: str) -> "CompiledBatch | CastStudent":
    """What answers for a fitted student in less than double precision.

    Parameters
    ----------
    student : nn.Module
        In eval mode.
    precision : {"float32", "fast"}
        "fast": hidden layers in bfloat16 where the processor multiplies such numbers itself, else "float32".

    Returns
    -------
    answers : callable
        ``(codes, explain=True) -> (score, attribution or None)``, with ``network_precision`` and ``is_current()``.
    """
    has_kernel = isinstance(getattr(student, "tables", None), TableSum) and student.base_value.device.type == "cpu"
    if not has_kernel:
        return CastStudent(student)
    return CompiledBatch(student, bfloat16=precision == "fast" and trains_in_bfloat16("auto", "cpu"))


class _Copy:
    """A copy of a student, which knows whether the student has changed since."""

    network_precision = "float32"

    def __init__(self, student: Any) -> None:
        self._tensors = [*student.parameters(), *student.buffers()]
        self._state = self._written()

    def is_current(self) -> bool:
        """Whether the student's numbers are still those that this was made of."""
        return self._written() == self._state

    def _written(self) -> list[tuple[int, int]]:
        """What changes when a number of the student does: where its tensors lie, and how often they were written to."""
        return [(tensor.data_ptr(), tensor._version) for tensor in self._tensors]


class CastStudent(_Copy):
    """A student of any kind and on any device, in single precision by torch.

    Parameters
    ----------
    student : nn.Module
    """

    def __init__(self, student: Any) -> None:
        super().__init__(student)
        self.student = copy.deepcopy(student).float().eval()
        self.base_value = _double(student.base_value)

    def __call__(self, codes: NDArray[np.integer], *, explain: bool = True) -> tuple[Array, Array | None]:
        """As `CompiledBatch.__call__`."""
        complete = self.student.complete
        score, attribution = student_explained(self.student, codes, explain=explain or complete)
        if complete:
            assert attribution is not None
            score = self.base_value + attribution.sum(2)
        return score, attribution if explain else None


class CompiledBatch(_Copy):
    """Batches of rows through tables and network in single precision, the network's inner products perhaps in bfloat16.

    It is a copy: what becomes of the student later does not reach it; `is_current` tells whether anything has.

    Parameters
    ----------
    student : nn.Module
        Fitted: ``"self_explaining"`` or ``"interaction_tables"``, on the CPU.
    bfloat16 : bool
        Whether hidden layers multiply in bfloat16. Sums, the first and the last layer and the tables stay in single
        precision.

    Attributes
    ----------
    network_precision : {"float32", "bfloat16"}
    """

    def __init__(self, student: Any, *, bfloat16: bool) -> None:
        self._local = local()
        has_network = hasattr(student, "trunk")
        self.network_precision = "bfloat16" if bfloat16 and has_network and len(student.trunk.layers) else "float32"
        self.base_value = _double(student.base_value)
        self.n_outputs, self.n_features = len(self.base_value), student.tables.layout.n_features
        tables = copy.deepcopy(student.tables).float().requires_grad_(False)
        self.tables = tables.arrays()
        self.width = 0
        self.head = torch.empty(0, 0)
        if has_network:
            student.trunk.encoding.fold()
        super().__init__(student)
        if not has_network:
            return
        with torch.no_grad():
            encoding, layers = student.trunk.encoding, student.trunk.layers
            self.start = encoding.start.numpy().copy()
            self.first = _single(encoding.folded)
            self.first[: student.tables.layout.n_codes[0]] += _single(encoding.linear.bias)  # once a row
            self.width = self.first.shape[1]
            real = torch.bfloat16 if self.network_precision == "bfloat16" else torch.float32
            self.layers = [(layer.weight.T.to(real).contiguous(), _single(layer.bias)) for layer in layers]
            unit = (student.attribution_scale * student.used * student.score_scale[:, None]).flatten()
            self.head = torch.zeros(self.width, -(-len(unit) // VECTOR) * VECTOR)
            self.head[:, : len(unit)] = (student.head.weight * unit[:, None]).T
            # every row has one code of each feature: the bias of its attribution goes along with that code's main effect
            bias = (student.head.bias * (student.attribution_scale * student.used).flatten()).double()
            owner = torch.as_tensor(np.repeat(np.arange(self.n_features), student.tables.layout.n_codes))
            more = bias.view(self.n_outputs, -1).T[owner]  # (all codes, n_outputs), in units of the score
            tables.main.copy_(student.tables.main.double() + more)

    def __call__(self, codes: NDArray[np.integer], *, explain: bool = True) -> tuple[Array, Array | None]:
        """Raw scores and attributions of rows.

        Parameters
        ----------
        codes : ndarray of shape (n_samples, n_features)
        explain : bool, default=True

        Returns
        -------
        score : ndarray of shape (n_samples, n_outputs)
            float64: the base value and the attributions added up.
        attribution : ndarray of shape (n_samples, n_outputs, n_features), or None with ``explain=False``
            float64 that holds what was computed in single precision.
        """
        n_samples = len(codes)
        score = np.empty((n_samples, self.n_outputs))
        attribution = np.empty((n_samples if explain else 0, self.n_outputs, self.n_features))
        rows = min(n_samples, CHUNK, BLOCK * torch.get_num_threads())
        with torch.no_grad():
            room = self._room(rows) if self.width else None
            for first in range(0, n_samples, CHUNK):
                chunk = np.ascontiguousarray(codes[first : first + CHUNK], np.int32)
                tables = look_up(chunk, self.tables)
                for a in range(0, len(chunk), rows):
                    b = min(a + rows, len(chunk))
                    network = np.empty((0, 0), np.float32) if room is None else self._network(chunk[a:b], room)
                    own = slice(first + a, first + b)
                    kernel.add_up(network, tables[a:b], self.base_value, score[own], attribution[own], explain)
        return score, attribution if explain else None

    def _room(self, rows: int) -> "_Room":
        """Room for a block, kept from call to call in each thread: fresh memory costs more than what is done in it."""
        room: _Room | None = getattr(self._local, "room", None)
        if room is None or len(room.hidden) < rows:
            room = self._local.room = _Room(rows, self)
        return room

    def _network(self, codes: NDArray[np.int32], room: "_Room") -> NDArray[np.float32]:
        """The network's part of the attributions of a block, (len(codes), at least n_outputs * n_features)."""
        n = len(codes)
        hidden, half, product = room.hidden[:n], room.half[:n], room.product[:n]
        kernel.enter(codes, self.start, self.first, room.hidden_numbers[:n], room.half_bits[:n])
        for weight, bias in self.layers:
            if self.network_precision == "bfloat16":
                torch.mm(half, weight, out=product)
                kernel.activate_bfloat16(room.product_numbers[:n], bias, room.hidden_numbers[:n], room.half_bits[:n])
            else:
                torch.mm(hidden, weight, out=product)
                kernel.activate(room.product_numbers[:n], bias, room.hidden_numbers[:n])
        return torch.mm(hidden, self.head).numpy()


class _Room:
    """Where a block's hidden numbers stand, for torch and for the kernels."""

    def __init__(self, rows: int, of: CompiledBatch) -> None:
        bfloat16 = of.network_precision == "bfloat16"
        self.hidden = torch.empty(rows, of.width)
        self.product = torch.empty(rows, of.width, dtype=torch.bfloat16 if bfloat16 else torch.float32)
        self.half = torch.empty(rows if bfloat16 else 0, of.width, dtype=torch.bfloat16)
        self.hidden_numbers, self.half_bits = self.hidden.numpy(), self.half.view(torch.uint16).numpy()
        self.product_numbers = self.product.view(torch.uint16).numpy() if bfloat16 else self.product.numpy()


def _single(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), np.float32, order="C")


def _double(tensor: torch.Tensor) -> Array:
    return np.array(tensor.detach().cpu().numpy(), np.float64)
