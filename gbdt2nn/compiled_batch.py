"""A fitted student's answers to batches in less than double precision: explained prediction at the speed of the processor."""

import copy
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn import batch_kernel as kernel

Array = NDArray[np.float64]

CHUNK = 8192  # rows that go through the tables together
BLOCK = 256  # rows that go through the network together, for each of torch's threads: they stay in a core's own cache


class CompiledBatch:
    """Batches of rows through tables and network in single precision, the network's inner products perhaps in bfloat16.

    It is a copy: what becomes of the student later does not reach it; `is_of` tells whether anything has.

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
        self._state = state_of(student)
        has_network = hasattr(student, "trunk")
        self.network_precision = "bfloat16" if bfloat16 and has_network and len(student.trunk.layers) else "float32"
        self.base_value = _double(student.base_value)
        self.n_outputs, self.n_features = len(self.base_value), student.tables.layout.n_features
        self.tables = copy.deepcopy(student.tables).float().requires_grad_(False).eval()
        self.width = 0
        self.head = torch.empty(0, 0)
        if not has_network:
            return
        with torch.no_grad():
            encoding, layers = student.trunk.encoding, student.trunk.layers
            encoding.fold()
            self.start = encoding.start.numpy().copy()
            self.first, self.first_bias = _single(encoding.folded), _single(encoding.linear.bias)
            self.width = self.first.shape[1]
            real = torch.bfloat16 if self.network_precision == "bfloat16" else torch.float32
            self.layers = [(layer.weight.T.to(real).contiguous(), _single(layer.bias)) for layer in layers]
            unit = (student.attribution_scale * student.used * student.score_scale[:, None]).flatten()
            self.head = (student.head.weight * unit[:, None]).float().contiguous()
            # every row has one code of each feature: the bias of its attribution goes along with that code's main effect
            bias = (student.head.bias / student.score_scale.repeat_interleave(self.n_features) * unit).double()
            owner = torch.as_tensor(np.repeat(np.arange(self.n_features), student.tables.layout.n_codes))
            more = bias.view(self.n_outputs, -1).T[owner]  # (all codes, n_outputs), in units of the score
            self.tables.main.copy_(student.tables.main.double() + more)

    def is_of(self, student: Any) -> bool:
        """Whether the student's numbers are still those that this was made of."""
        return state_of(student) == self._state

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
        rows = min(n_samples, BLOCK * torch.get_num_threads())
        with torch.no_grad():
            room = _Room(rows, self) if self.width else None
            for first in range(0, n_samples, CHUNK):
                chunk = np.ascontiguousarray(codes[first : first + CHUNK], np.int32)
                tables = self.tables(torch.from_numpy(chunk)).numpy()
                for a in range(0, len(chunk), rows):
                    b = min(a + rows, len(chunk))
                    network = np.empty((0, 0), np.float32) if room is None else self._network(chunk[a:b], room)
                    kernel.add_up(
                        network, tables[a:b], self.base_value, score[first + a : first + b],
                        attribution[first + a : first + b], explain,
                    )  # fmt: skip
        return score, attribution if explain else None

    def _network(self, codes: NDArray[np.int32], room: "_Room") -> NDArray[np.float32]:
        """The network's part of the attributions of a block, (n_outputs * n_features, at least len(codes))."""
        n = len(codes)
        hidden, half, product = room.hidden[:n], room.half[:n], room.product[:n]
        kernel.enter(codes, self.start, self.first, self.first_bias, room.hidden_numbers[:n], room.half_bits[:n])
        for weight, bias in self.layers:
            if self.network_precision == "bfloat16":
                torch.mm(half, weight, out=product)
                kernel.activate_bfloat16(
                    room.product_numbers[:n], bias, room.hidden_numbers[:n], room.half_bits[:n]
                )
            else:
                torch.mm(hidden, weight, out=product)
                kernel.activate(room.product_numbers[:n], bias, room.hidden_numbers[:n])
        # outputs by rows: where outputs are few, torch multiplies this way round much faster
        return torch.mm(self.head, hidden.T).numpy()


class _Room:
    """Where a block's hidden numbers stand, for torch and for the kernels."""

    def __init__(self, rows: int, of: CompiledBatch) -> None:
        bfloat16 = of.network_precision == "bfloat16"
        self.hidden = torch.empty(rows, of.width)
        self.product = torch.empty(rows, of.width, dtype=torch.bfloat16 if bfloat16 else torch.float32)
        self.half = torch.empty(rows if bfloat16 else 0, of.width, dtype=torch.bfloat16)
        self.hidden_numbers, self.half_bits = self.hidden.numpy(), self.half.view(torch.uint16).numpy()
        self.product_numbers = self.product.view(torch.uint16).numpy() if bfloat16 else self.product.numpy()


def state_of(student: Any) -> tuple[tuple[int, int], ...]:
    """What changes when a number of a student does: where its tensors lie, and how often they were written to."""
    return tuple((tensor.data_ptr(), tensor._version) for tensor in chain(student.parameters(), student.buffers()))


def _single(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), np.float32, order="C")


def _double(tensor: torch.Tensor) -> Array:
    return np.array(tensor.detach().cpu().numpy(), np.float64)
