"""What an engine decided to do for a job."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How an engine computes: which leaves by cell tables, which by quadrature.

    Attributes
    ----------
    algorithm : {"tables", "quadrature", "hybrid", "none"}
        ``"none"`` for an ensemble without any split.
    n_samples : int
        Rows it was made for; tables pay only where many rows use them.
    n_tables : int
        Subtrees whose attributions are tabulated.
    n_cells : int
        Rows of all tables.
    table_bytes : int
        Size of all tables in float64.
    n_chunks : int
        Parts in which the tables are built, used and dropped, one after the other; 1: they are kept.
    n_table_leaves, n_quadrature_leaves : int
        Leaves served by tables, and by quadrature.
    """

    algorithm: str
    n_samples: int
    n_tables: int = 0
    n_cells: int = 0
    table_bytes: int = 0
    n_chunks: int = 0
    n_table_leaves: int = 0
    n_quadrature_leaves: int = 0
