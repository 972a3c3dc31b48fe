"""A student that is done learning, and what it answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gbdt2nn.batches import LabelledCodes
from gbdt2nn.fidelity_metrics import score_r2
from gbdt2nn.students.code_encoding import CodeEncoding, ResidualTrunk

Array = NDArray[np.float64]


def settle(student: Any) -> None:
    """A student that answers and does not learn: float64, eval mode, its first layer multiplied out."""
    student.double()
    if hasattr(student, "tables_apart"):
        student.tables_apart = False
    student.requires_grad_(False).eval()
    for module in student.modules():
        if isinstance(module, ResidualTrunk):
            module.mixed_precision = False
        if isinstance(module, CodeEncoding):
            module.fold()


def student_explained(
    student: Any, codes: NDArray[np.integer], *, explain: bool = True, batch_size: int = 8192
) -> tuple[Array, Array | None]:
    """A student's raw scores and attributions of rows, in float64.

    Returns
    -------
    score : ndarray of shape (n_samples, n_outputs)
    attribution : ndarray of shape (n_samples, n_outputs, n_features), or None with ``explain=False``
    """
    device = student.base_value.device
    scores, parts = [], []
    with torch.no_grad():
        for start in range(0, len(codes), batch_size):
            block = torch.as_tensor(codes[start : start + batch_size].astype(np.int32), device=device)
            answer = student(block, explain=explain)
            scores.append(answer.score.cpu().numpy().astype(np.float64))
            if explain:
                parts.append(answer.attribution.cpu().numpy().astype(np.float64))
    return np.concatenate(scores), np.concatenate(parts) if explain else None


def embedding_r2(student: Any, rows: LabelledCodes) -> float:
    """Fidelity of the first stage by itself: R² of the score that leaf embeddings give against the teacher's."""
    assert rows.leaves is not None
    with torch.no_grad():
        leaves = torch.as_tensor(rows.leaves, device=student.base_value.device)
        score = student.leaf_score(leaves).cpu().numpy().astype(np.float64)
    return score_r2(rows.score, score, rows.weight)


@contextmanager
def torch_at_work(n_threads: int) -> Iterator[None]:
    """Torch with ``n_threads`` threads, float32 and gradients, whatever the caller has set; put back afterwards."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
