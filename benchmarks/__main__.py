"""Command line: ``python -m benchmarks COMMAND``; ``--help`` lists the commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import BenchmarkError, data, records
from benchmarks.claims import SUITE as CLAIMS
from benchmarks.claims.methods import DATA as CLAIMS_DATA
from benchmarks.claims.methods import METHODS as CLAIMS_METHODS
from benchmarks.methods import METHODS
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
    run.add_argument("--suite", required=True, metavar="NAME", help=f"one of: {suites}")
    run.add_argument("--data", nargs="+", metavar="NAME", help="these data sets instead of the suite's own")
    run.add_argument("--methods", nargs="+", metavar="NAME", help="these methods or groups instead of the suite's")
    run.add_argument("--seeds", type=int, metavar="N", help="so many seeds instead of the suite's own number")
    run.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default: results/")
    run.add_argument("--retry-failed", action="store_true", help="run again what an earlier run recorded as failed")
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

    report = commands.add_parser("report", help="make Markdown tables from records")
    report.add_argument("results", type=Path, nargs="+", metavar="RESULTS", help="folders of records")
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write to this file instead of the screen")
    report.set_defaults(command=_report)

    listing = commands.add_parser("list", help="name suites, methods and data sets")
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
        from benchmarks.plan import unknown
        from benchmarks.progress import can_be_shown
        from benchmarks.runner import run

        if asked.suite not in SUITES:
            raise unknown("suite", [asked.suite], (*SUITES, SPEED, CLAIMS, *VISION))
        jobs = 1 if asked.jobs is None else asked.jobs
        counts = run(asked.suite, **common, **workers, repair=asked.repair, jobs=jobs, live=can_be_shown())
    _say(
        f"{counts.made} made, {counts.failed} of them failed; {counts.kept} kept; "
        f"{counts.lacking} data sets are not here{_absent(counts.absent)}. Tables: python -m benchmarks report {asked.out}"
    )
    return 1 if counts.failed else 0


def _absent(n: int) -> str:
    return f"; {n} results lack what their method needs" if n else ""


def _report(asked: argparse.Namespace) -> int:
    from benchmarks.report import report

    return _write(report([record for folder in asked.results for record in records.read_all(folder)]), asked)


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
    from benchmarks.speed.measurements import MEASUREMENTS
    from benchmarks.speed.problems import PROBLEMS

    entries = data.available()
    print("Suites")
    for name, suite in SUITES.items():
        print(f"  {name:<20} {suite.summary}: {', '.join(suite.data)}")
    print(f"  {SPEED:<20} how fast rows are explained; its data sets are boosters, its methods measurements:")
    for name, problem in PROBLEMS.items():
        print(f"    {name:<26} {problem.summary} of {problem.table}")
    for name, measurement in MEASUREMENTS.items():
        print(f"    {name:<26} {measurement.summary}")
    print(f"  {CLAIMS:<20} whether and why it helps to imitate explanations: {', '.join(CLAIMS_DATA)}; its methods:")
    for name, method in CLAIMS_METHODS.items():
        print(f"    {name:<26} {method.summary}")
    from benchmarks.vision.experiments import EXPERIMENTS

    print(f"  {VISION[0]:<20} e2KD and XDistillation on pictures; its data sets are experiments:")
    for name, experiment in EXPERIMENTS.items():
        print(f"    {name:<26} {experiment.summary}")
    print(f"  {VISION[1]:<20} how the settings of {VISION[0]} are chosen, on validation pictures")
    print("Methods")
    for name, method in METHODS.items():
        print(f"  {name:<20} {(method.__doc__ or '').splitlines()[0]}")
    print("Data sets")
    for name, entry in entries.items():
        rows = "" if entry.n_rows is None else f", {entry.n_rows} rows"
        print(f"  {name:<20} {entry.task}{rows} ({entry.origin})")
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
