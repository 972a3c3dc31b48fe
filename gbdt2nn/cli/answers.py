"""``predict`` and ``explain``: tables of any size, a block at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray

from gbdt2nn.cli.output import progress, say
from gbdt2nn.cli.tables import TableFile, TableWriter, format_of, to_pandas, types_of_categories
from gbdt2nn.files import check_place, replaced
from gbdt2nn.loading import load

BLOCK_BYTES = 1 << 24  # of attributions of one block
MOST_ROWS, FEWEST_ROWS = 1 << 14, 256

Model = Annotated[Path, typer.Argument(metavar="STUDENT", help="A file that `distil` or model.save wrote.")]
Rows = Annotated[Path, typer.Argument(metavar="TABLE", help="csv, parquet or arrow.")]
Out = Annotated[Path, typer.Option("--out", help="Table to write: csv, parquet or arrow. Whole or not at all.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", help="Column of the table to copy; may be repeated.")]
Drop = Annotated[
    list[str] | None, typer.Option("--drop", help="Column to leave out, of a table without names of its own.")
]
Json = Annotated[bool, typer.Option("--json", help="Say one JSON object and nothing else.")]


def predict(student: Model, table: Rows, out: Out, keep: Keep = None, drop: Drop = None, json: Json = False) -> int:
    """Predict every row: a number, or a class and the probability of each."""
    model = load(student)
    classes = getattr(model, "classes_", None)
    schema: list[tuple[str, pa.DataType]] = [("prediction", _type_of(classes))]
    if classes is not None:
        schema += [(f"probability/{label}", pa.float64()) for label in classes.tolist()]

    def answer(X: Any) -> dict[str, Any]:
        found = {"prediction": model.predict(X)}
        if classes is not None:
            proba = model.predict_proba(X)
            found |= {f"probability/{label}": proba[:, k] for k, label in enumerate(classes.tolist())}
        return found

    return _stream("Predicting", model, table, out, keep, drop, schema, answer, as_json=json)


def explain(student: Model, table: Rows, out: Out, keep: Keep = None, drop: Drop = None, json: Json = False) -> int:
    """Explain every row: prediction, raw score, base value, and the attribution of each column to the raw score.

    With several classes each has a score, a base value and attributions of its own, named attribution/CLASS/COLUMN.
    """
    model = load(student)
    if not model.distilled_.explains:
        raise ValueError("explain needs a student that was taught explanations, got one of explanation_weight=0")
    names = list(model.encoder_.feature_names_)
    n_outputs = len(model.base_value_)
    classes = getattr(model, "classes_", None)
    of_output = [""] if n_outputs == 1 or classes is None else [f"/{label}" for label in classes.tolist()]
    schema: list[tuple[str, pa.DataType]] = [("prediction", _type_of(classes))]
    for part in ("raw_score", "base_value"):
        schema += [(part + output, pa.float64()) for output in of_output]
    schema += [(f"attribution{output}/{name}", pa.float64()) for output in of_output for name in names]

    def answer(X: Any) -> dict[str, Any]:
        score, attribution = model.distilled_.student_explained(X, precision=model.precision)
        response = model.distilled_.description.link(score)
        found: dict[str, Any] = {"prediction": response[:, 0] if classes is None else _decided(response, classes)}
        for k, output in enumerate(of_output):
            found["raw_score" + output] = score[:, k]
            found["base_value" + output] = np.full(len(score), model.base_value_[k])
            found |= {f"attribution{output}/{name}": attribution[:, k, j] for j, name in enumerate(names)}
        return found

    return _stream("Explaining", model, table, out, keep, drop, schema, answer, as_json=json)


def _decided(response: NDArray[np.float64], classes: NDArray[Any]) -> NDArray[Any]:
    proba = np.hstack([1.0 - response, response]) if response.shape[1] == 1 else response
    return classes[proba.argmax(1)]


def _type_of(classes: NDArray[Any] | None) -> pa.DataType:
    if classes is None:
        return pa.float64()
    return pa.array(classes.tolist()).type


def _stream(
    label: str,
    model: Any,
    table: Path,
    out: Path,
    keep: list[str] | None,
    drop: list[str] | None,
    schema: list[tuple[str, pa.DataType]],
    answer: Callable[[Any], dict[str, Any]],
    *,
    as_json: bool,
) -> int:
    """Read, answer and write block by block; the output is moved to its place when the last block is in it."""
    kept = list(keep or [])
    check_place("--out", out)
    kind = format_of(out)
    source = TableFile(table)
    names = columns_of(model, source, drop or [])
    source._check(kept)
    full = pa.schema([*(source.schema.field(name).with_metadata(None) for name in kept), *schema])
    if len(set(full.names)) < len(full.names):
        twice = sorted({name for name in full.names if full.names.count(name) > 1})
        raise ValueError(f"columns of the output must have names of their own, got more than one {twice[:3]}")
    n_rows = 0
    with (
        replaced(out) as unfinished,
        TableWriter(unfinished, full, kind) as writer,
        progress(label, source.n_rows, as_json=as_json) as step,
    ):
        for block in _blocks(model, source, names, kept):
            found = answer(table_of(model, block.select(names)))
            writer.write({name: block.column(name) for name in kept} | found)
            n_rows += block.num_rows
            step(block.num_rows)
    found = {"out": str(out), "n_rows": n_rows, "columns": full.names}
    say(found, as_json=as_json, rows=[("wrote", str(out)), ("rows", f"{n_rows:,}"), ("columns", str(len(full.names)))])
    return 0


def columns_of(model: Any, source: TableFile, drop: list[str]) -> list[str]:
    """The columns that the model reads: by name, or all but ``drop`` where it was fitted without names."""
    if hasattr(model, "feature_names_in_"):
        return [str(name) for name in model.feature_names_in_]
    names = [name for name in source.names if name not in drop]
    if len(names) != model.n_features_in_:
        raise ValueError(
            f"the model was fitted without names of columns, so that the table must have its {model.n_features_in_} and no "
            f"others, got {len(names)}: leave others out by --drop"
        )
    return names


def csv_types(model: Any, source: TableFile, names: list[str]) -> dict[str, pa.DataType]:
    """The types of the columns that a model reads, as they stand in a csv file."""
    categories = model.encoder_.categories_
    numeric = [name for name, labels in zip(names, categories, strict=True) if labels is None]
    return source.csv_types(numeric) | types_of_categories(names, categories)


def table_of(model: Any, block: pa.Table) -> Any:
    """A block as the model takes it."""
    frame = to_pandas(block)
    return frame if hasattr(model, "feature_names_in_") else frame.to_numpy(np.float64)


def _blocks(model: Any, source: TableFile, names: list[str], kept: list[str]) -> Iterator[pa.Table]:
    per_row = 8 * len(names) * len(model.base_value_)
    n_rows = max(FEWEST_ROWS, min(MOST_ROWS, BLOCK_BYTES // per_row))
    read = list(dict.fromkeys([*kept, *names]))
    types = {name: source.schema.field(name).type for name in kept} | csv_types(model, source, names)
    return (block for block in source.blocks(read, n_rows, types) if block.num_rows)
