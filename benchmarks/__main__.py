"""Command line: ``python -m benchmarks COMMAND``; ``--help`` lists the commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import BenchmarkError, data, records
from benchmarks.claims import SUITE as CLAIMS
from benchmarks.speed import SUITE as SPEED
from benchmarks.suites import SUITES
from benchmarks.vision import SUITES as VISION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 if all is well, 1 if a method failed, 2 if the request cannot be met, 130 if stopped."""
    asked = _parser().parse_args(arguments)
    try:
        return asked.command(asked)
    except BenchmarkError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m benchmarks: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks of gbdt2nn.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a suite; results that are there already are kept")
    suites = ", ".join((*SUITES, SPEED, CLAIMS, *VISION))
    run.add_argument("--suite", metavar="NAME", help=f"openml:NUMBER, or one of: {suites}")
    run.add_argument(
        "--data", nargs="+", metavar="NAME", help="these data sets instead of the suite's own, or one file of your own"
    )
    run.add_argument("--methods", nargs="+", metavar="NAME", help="these methods or groups instead of the suite's")
    run.add_argument("--seeds", type=int, metavar="N", help="so many seeds instead of the suite's own number")
    run.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    run.add_argument("--retry-failed", action="store_true", help="run again what an earlier run recorded as failed")
    own = run.add_argument_group("a file of your own", "--data names a .parquet, .csv or .csv.gz file; no --suite")
    own.add_argument("--target", metavar="COLUMN", help="what is to be predicted")
    own.add_argument(
        "--task", metavar="TASK", help=f"one of: {', '.join(data.TASKS)}; default: what the labels look like"
    )
    own.add_argument(
        "--categories", nargs="+", metavar="COLUMN", help="numbers that are categories; text is one anyhow"
    )
    own.add_argument("--not-features", nargs="+", metavar="COLUMN", help="columns to leave out")
    own.add_argument("--weight", metavar="COLUMN", help="weights of the rows")
    workers = run.add_argument_group(f"suites {', '.join(SUITES)}")
    workers.add_argument("--jobs", type=int, metavar="N", help="worker processes; 0: in this process; default: 1")
    workers.add_argument("--time-budget", type=float, metavar="S", help="seconds of a fit instead of the suite's own")
    workers.add_argument(
        "--time-limit", type=float, metavar="S", help="end a method after so many seconds: it has failed"
    )
    workers.add_argument("--memory-limit", type=float, metavar="GIB", help="end a method above: it has failed")
    workers.add_argument("--repair", action="store_true", help="set files aside that are no records, make those anew")
    speed = run.add_argument_group(f"suite {SPEED}", "here --data names boosters and --methods measurements")
    speed.add_argument("--rounds", type=int, metavar="N", help="rounds in which everyone runs once; default: 5")
    speed.add_argument("--rows", type=int, metavar="N", help="rows for gbdt2nn and predict; default: 50000")
    speed.add_argument("--slow-rows", type=int, metavar="N", help="rows for the booster's own call and the peers")
    speed.add_argument("--models", type=Path, metavar="FOLDER", help="where trained boosters are kept for other runs")
    claims = run.add_argument_group(f"suite {CLAIMS}", "here --methods names its own")
    claims.add_argument("--first-seed", type=int, metavar="SEED", help="seeds from this one on; default: 0")
    claims.add_argument("--sizes", type=int, nargs="+", metavar="N", help="these numbers of rows instead of all")
    vision = run.add_argument_group(
        f"suites {', '.join(VISION)}", "here --data names experiments; --models keeps teachers"
    )
    vision.add_argument("--processes", type=int, metavar="N", help="processes of one thread each; default: 2")
    run.set_defaults(command=_run)

    report = commands.add_parser("report", help="make tables and pages from records")
    report.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders of records")
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write to this file instead of the screen")
    report.add_argument("--html", type=Path, metavar="FOLDER", help="write pages, tables and a csv of all records here")
    report.add_argument("--csv", type=Path, metavar="FILE", help="write one row for each record")
    report.set_defaults(command=_report)

    gate = commands.add_parser("gate", help="hold records to bounds of fidelity; exit code 1 where one is not held")
    gate.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders of records")
    gate.add_argument("--min", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="least values")
    gate.add_argument("--max", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="largest values")
    gate.add_argument("--suite", nargs="+", metavar="NAME", help="these suites alone")
    gate.add_argument("--data", nargs="+", metavar="NAME", help="these data sets alone")
    gate.add_argument("--methods", nargs="+", metavar="NAME", help="these methods alone")
    gate.add_argument("--mean", action="store_true", help="hold means over seeds, in place of each seed")
    gate.add_argument("--json", action="store_true", help="say one JSON object")
    gate.set_defaults(command=_gate)

    listing = commands.add_parser("list", help="name suites, data sets and methods, with sizes and what each needs")
    listing.set_defaults(command=_list)

    demo = commands.add_parser("demo", help="train a student of California housing, print its table, write its report")
    demo.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    demo.set_defaults(command=_demo)

    stream = commands.add_parser("stream", help="run and record the experiment on a drifting stream")
    stream.add_argument("--data", nargs="+", default=["bike_sharing"], metavar="NAME", help="sets in the order of time")
    stream.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1; default: 3")
    stream.add_argument("--rows", type=int, metavar="N", help="evenly spaced rows of each set; default: all")
    stream.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    stream.set_defaults(command=_stream)

    training = commands.add_parser("training-time", help="train GBDT2NN at the size of DeepGBM's Zillow table")
    training.add_argument("--jobs", type=int, default=1, metavar="N", help="threads; default: 1")
    training.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    training.set_defaults(command=_training_time)

    papers = commands.add_parser("papers", help="make the page of the papers' results from records")
    papers.add_argument("results", type=Path, metavar="RESULTS", help="a folder of records")
    papers.add_argument("--markdown", type=Path, metavar="FILE", help="write to this file instead of the screen")
    papers.set_defaults(command=_papers)

    deploy = commands.add_parser("deploy", help="run and record equality and latency of deployed forms")
    deploy.add_argument("--data", nargs="+", metavar="NAME", help="default: california_housing, adult, letter")
    deploy.add_argument("--teachers", nargs="+", default=["lightgbm"], metavar="LIBRARY", help="default: lightgbm")
    deploy.add_argument("--rows", type=int, default=100_000, metavar="N", help="rows held against the models")
    deploy.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of the clock; default: 5")
    deploy.add_argument("--steps", type=int, default=1000, metavar="N", help="of the student; default: 1000")
    deploy.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    deploy.set_defaults(command=_deploy)

    maps = commands.add_parser("maps", help="draw what teacher and students of the vision suite look at")
    maps.add_argument("--out", type=Path, required=True, metavar="FILE", help="the figure, .png or .svg")
    maps.add_argument("--experiment", default="fashion_50_shots", metavar="NAME", help="default: fashion_50_shots")
    maps.add_argument(
        "--results", type=Path, default=Path("benchmarks/records"), metavar="FOLDER", help="tuned settings"
    )
    maps.add_argument("--models", type=Path, default=Path("results/models"), metavar="FOLDER", help="of the teachers")
    maps.set_defaults(command=_maps)

    search = commands.add_parser("search", help="run and record the grid search on California housing")
    search.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    search.set_defaults(command=_search)
    return parser


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:  # a full disk, or a reader that has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter tries once more as it ends
        raise BenchmarkError(f"standard output cannot be written to: {error.strerror}") from error


def _run(asked: argparse.Namespace) -> int:
    request = _request(asked)
    common = {
        "data_names": asked.data,
        "method_names": asked.methods,
        "n_seeds": asked.seeds,
        "out": asked.out,
        "retry_failed": asked.retry_failed,
        "say": _say,
    }
    size = {"n_rounds": asked.rounds, "n_rows": asked.rows, "n_slow_rows": asked.slow_rows}
    size = {name: value for name, value in size.items() if value is not None}
    if asked.suite not in (SPEED, *VISION) and (size or asked.models):
        raise BenchmarkError(f"--rounds, --rows, --slow-rows and --models are for the suite {SPEED!r} alone")
    if asked.suite != CLAIMS and (asked.first_seed is not None or asked.sizes):
        raise BenchmarkError(f"--first-seed and --sizes are for the suite {CLAIMS!r} alone")
    if asked.processes is not None and asked.suite not in VISION:
        raise BenchmarkError(f"--processes is for the suites {', '.join(VISION)} alone")
    workers = {"time_budget": asked.time_budget, "time_limit": asked.time_limit, "memory_limit": asked.memory_limit}
    isolated = {asked.jobs, asked.repair or None, *workers.values()} != {None}
    if asked.suite in (SPEED, CLAIMS, *VISION) and isolated:
        raise BenchmarkError(
            "--jobs, --time-budget, --time-limit, --memory-limit and --repair are not for the suites "
            f"{', '.join((SPEED, CLAIMS, *VISION))}"
        )
    if asked.suite in VISION and not size:
        from benchmarks.vision.runner import run as run_vision

        counts = run_vision(
            asked.suite, **common, models=asked.models, n_processes=2 if asked.processes is None else asked.processes
        )
    elif asked.suite == SPEED:
        from benchmarks.speed.runner import Size
        from benchmarks.speed.runner import run as run_speed

        counts = run_speed(**common, size=Size(**size), models=asked.models)
    elif asked.suite == CLAIMS:
        from benchmarks.claims.runner import run as run_claims

        counts = run_claims(**common, first_seed=asked.first_seed or 0, sizes=asked.sizes)
    else:
        from benchmarks.progress import can_be_shown
        from benchmarks.runner import run

        if request is None and asked.suite not in SUITES:
            raise data.unknown("suite", [asked.suite], (*SUITES, SPEED, CLAIMS, *VISION, "openml:NUMBER"))
        if asked.suite is None:
            common["data_names"] = None  # the file is all there is
        jobs = 1 if asked.jobs is None else asked.jobs
        counts = run(
            asked.suite, request=request, **common, **workers, repair=asked.repair, jobs=jobs, live=can_be_shown()
        )
    _say(
        f"{counts.made} made, {counts.failed} of them failed; {counts.kept} kept; "
        f"{counts.lacking} data sets are not here{_absent(counts.absent)}. Tables: python -m benchmarks report {asked.out}"
    )
    return 1 if counts.failed else 0


def _absent(n: int) -> str:
    return f"; {n} results lack what their method needs" if n else ""


def _request(asked: argparse.Namespace) -> Any:
    """The suite of the caller's file, or of OpenML; None where a suite is asked for by its name."""
    from benchmarks.requests import of_file, of_openml
    from benchmarks.sources import openml, own

    given = {name: getattr(asked, name) for name in ("target", "task", "categories", "not_features", "weight")}
    given = {name: value for name, value in given.items() if value is not None}
    files = [name for name in asked.data or () if own.is_own(name)]
    if asked.suite is None and files:
        if len(asked.data) > 1:
            raise BenchmarkError(f"--data takes one file, got {', '.join(map(repr, asked.data))}")
        if "target" not in given:
            raise BenchmarkError("--target must name the column to predict, got none")
        return of_file(Path(files[0]), own.Columns(**given), out=asked.out, say=_say)
    if files:
        raise BenchmarkError(f"a file is a suite of its own: leave out --suite {asked.suite}, or --data {files[0]}")
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise BenchmarkError(f"{options} must go with a file of your own as --data, got none")
    if asked.suite is None:
        named = f", got {', '.join(map(repr, asked.data))}" if asked.data else ""
        raise BenchmarkError(f"--suite must name a suite, or --data a .parquet, .csv or .csv.gz file{named}")
    if asked.suite == own.NAME:
        raise BenchmarkError(
            f"the suite {own.NAME!r} is of a file: give --data FILE and --target COLUMN instead of --suite"
        )
    return of_openml(asked.suite, say=_say) if asked.suite.startswith(openml.PREFIX) else None


def _report(asked: argparse.Namespace) -> int:
    from benchmarks.report import report

    def aside(line: str) -> None:
        print(line, file=sys.stderr)

    found = [record for folder in asked.results for record in records.read_all(folder, say=aside)]
    if asked.html is not None:
        from benchmarks.site import write_site

        paths = write_site(found, asked.html)
        _say(f"wrote {len(paths)} files; begin at {asked.html / 'index.html'}")
    if asked.csv is not None:
        from benchmarks.site import write_file
        from benchmarks.site.table_csv import as_csv

        write_file(asked.csv, as_csv(found))
    if asked.markdown is None and (asked.html is not None or asked.csv is not None):
        return 0
    return _write(report(found), asked)


def _gate(asked: argparse.Namespace) -> int:
    import json

    from benchmarks.gate import as_json, as_text, bounds_of, gate

    bounds = bounds_of(asked.min, asked.max)
    found = [record for folder in asked.results for record in records.read_all(folder)]
    chosen = {"suites": asked.suite, "data_names": asked.data, "method_names": asked.methods}
    verdict = gate(found, bounds, **chosen, means=asked.mean)
    print(json.dumps(as_json(verdict, bounds), allow_nan=False) if asked.json else as_text(verdict, bounds))
    return 1 if verdict.failures else 0


def _papers(asked: argparse.Namespace) -> int:
    from benchmarks.papers import page

    return _write(page(records.read_all(asked.results)), asked)


def _write(markdown: str, asked: argparse.Namespace) -> int:
    if asked.markdown is None:
        print(markdown, end="")
    else:
        asked.markdown.parent.mkdir(parents=True, exist_ok=True)
        asked.markdown.write_text(markdown, encoding="utf-8")
    return 0


def _list(asked: argparse.Namespace) -> int:
    from benchmarks.listing import lines

    for line in lines():
        print(line)
    return 0


def _demo(asked: argparse.Namespace) -> int:
    from benchmarks.demo import demo

    demo(asked.out, say=_say)
    return 0


def _stream(asked: argparse.Namespace) -> int:
    from benchmarks.stream import stream

    for name in asked.data:
        for seed in range(asked.seeds):
            stream(name, seed=seed, out=asked.out, max_rows=asked.rows, say=_say)
    return 0


def _training_time(asked: argparse.Namespace) -> int:
    from benchmarks.training_time import training_time

    training_time(out=asked.out, n_jobs=asked.jobs, say=_say)
    return 0


def _deploy(asked: argparse.Namespace) -> int:
    from benchmarks.deploy.runner import DATA, TEACHERS, deploy

    unknown = sorted(set(asked.teachers) - set(TEACHERS))
    if unknown:
        raise data.unknown("teacher", unknown, TEACHERS)
    size = {"n_checked": asked.rows, "n_rounds": asked.rounds, "student": {"max_steps": asked.steps}}
    for library in asked.teachers:
        for name in asked.data or DATA:
            deploy(name, library=library, out=asked.out, say=_say, **size)
    return 0


def _maps(asked: argparse.Namespace) -> int:
    from benchmarks.vision.maps import draw

    draw(asked.out, experiment_name=asked.experiment, tuned=asked.results, models=asked.models, say=_say)
    return 0


def _search(asked: argparse.Namespace) -> int:
    from benchmarks.search import search

    search(asked.out, say=_say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
