"""The report as pages: ranks against known figures, what is said where something lacks, and hostile records."""

import csv
import html.parser
import io
import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks import BenchmarkError, records
from benchmarks.__main__ import main
from benchmarks.site import drawing, markdown, names, ranking, results, table_csv, write_site

sys.path.insert(0, str(Path(__file__).parent))
from chromium import PROGRAM, Chromium

HOSTILE = "<script>alert(1)</script>\"'&]]>../..\x07 \ud800 {{ 7 * 7 }} & Co"


def result(
    data="sand", method="self_explaining", seed=0, suite="tiny", score=0.95, attribution=0.9, rmse=2.2, **changed
):
    return {
        "schema": 1,
        "kind": "result",
        "suite": suite,
        "data": data,
        "method": method,
        "seed": seed,
        "date": f"2026-01-0{seed + 1}T00:00:00+00:00",
        "versions": {"python": "3.11", "torch": "2.6", "shap": None},
        "hardware": {"cpu": "Some CPU", "cpu_flags": ["avx2"], "cores": 4, "usable_cores": 2, "load_before": 0.5,
                     "system": "Linux x86_64"},
        "settings": {"time_budget": 8.0, "clock": "cpu"},
        "status": "ok",
        "error": None,
        "table": {"task": "regression", "n_classes": None, "n_features": 3, "n_categories": 1, "missing_cells": 4},
        "rows": {"train": 65, "stop": 15, "test": 20},
        "teacher": {"library": "lightgbm", "n_trees": 12, "depth": 5},
        "seconds": {"teacher": 1.0, "student": 9.0, "total": 10.0, "teacher_cpu": 0.5, "student_cpu": 7.5 + seed,
                    "total_cpu": 8.0 + seed},
        "student": {"n_steps": 100},
        "metrics": {"teacher": {"rmse": 2.0, "mae": 1.0}, "student": {"rmse": rmse, "mae": 1.1}},
        "fidelity": {"score_r2": score, "attribution_r2": attribution, "completeness_gap": 1e-9,
                     "attribution_r2_per_feature": {"a": 0.1}},
        "warnings": [],
        **changed,
    }  # fmt: skip


def failed(**changed):
    told = {"type": "TimeLimit", "message": "60 seconds are over", "where": "a.py:3"}
    found = result(status="failed", error=told, **changed)
    for name in ("table", "rows", "teacher", "metrics", "fidelity", "student"):
        found.pop(name, None)
    return {**found, "metrics": {}, "fidelity": None}


def several(n_data=8):
    """Three methods on data sets: the first always best, the others in turns; one has no explanations, one is a rival."""
    found = []
    for i in range(n_data):
        for seed in (0, 1):
            where = {"data": f"set_{i}", "seed": seed}
            found += [
                result(method="self_explaining", score=0.99 + 0.001 * i, attribution=0.98, rmse=2.1, **where),
                result(method="score_imitation", score=0.9 + 0.001 * i, attribution=None, rmse=2.0 + 0.1 * (i % 2), **where),
                result(method="tabm", score=0.9 + 0.001 * (7 - i), attribution=0.7 + 0.01 * i, rmse=1.9,
                       student={"rival": True},
                       explains="permutation_shap", explain_seconds_per_row=0.002 * (i + 1),
                       peak_memory={"bytes": 3 * 2**20, "growth": 1}, **where),
            ]  # fmt: skip
    return found


class Page(html.parser.HTMLParser):
    """Headings, texts, elements and links of a page."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.elements, self.links, self.anchors = [], [], [], set()
        self.words, self._quiet = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.elements.append((tag, given))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in given:
            assert given["id"] not in self.anchors, f"two elements are called {given['id']}"
            self.anchors.add(given["id"])
        self.links += [given[name] for name in ("href", "src") if name in given]
        self._quiet = tag if tag in ("style",) else None

    def handle_endtag(self, tag):
        self._quiet = None

    def handle_data(self, data):
        if self._quiet is None:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def values(table):
    """Values by data set, method and seed of an array (data sets, methods)."""
    return {(f"d{i:02}", f"m{j}", 0): float(v) for i, row in enumerate(np.asarray(table)) for j, v in enumerate(row)}


class TestRanks:
    # Demšar (2006), table 6: AUC of four forms of C4.5 on 14 data sets
    AUC = (
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),
        (0.957, 0.978, 0.946, 0.970),
    )

    def test_the_example_of_the_paper(self):
        """Average ranks 3.143, 2.000, 2.893, 1.964; chi-squared 9.28; p below 0.05; Nemenyi's difference 1.25."""
        found = ranking.rank(values(self.AUC), higher_is_better=True)
        assert found.methods == ("m3", "m1", "m2", "m0")
        assert found.mean_ranks == pytest.approx((1.964, 2.0, 2.893, 3.143), abs=6e-4)
        assert found.p_value < 0.05
        assert found.critical_difference == pytest.approx(1.25, abs=0.01)
        # 3.143 - 2.0 is within 1.25
        assert found.cliques == ((0, 3),)
        assert all(low <= mean <= high for (low, high), mean in zip(found.intervals, found.mean_ranks, strict=True))

    @pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
    def test_critical_values_of_the_paper(self, k, q):
        assert ranking.nemenyi(k, 10) == pytest.approx(q * math.sqrt(k * (k + 1) / 60), abs=1e-3)

    def test_clear_differences_are_told_apart(self):
        found = ranking.rank(values([[4, 3, 2, 1]] * 12), higher_is_better=False)
        assert found.methods == ("m3", "m2", "m1", "m0")
        assert found.critical_difference < 2
        assert found.cliques == ((0, 1), (1, 2), (2, 3))
        assert found.intervals == ((1, 1), (2, 2), (3, 3), (4, 4))

    def test_equals_share_their_ranks_and_are_not_told_apart(self):
        found = ranking.rank(values([[1, 1, 1]] * 5), higher_is_better=True)
        assert found.mean_ranks == (2, 2, 2)
        assert (found.p_value, found.cliques) == (1.0, ((0, 2),))

    def test_two_methods_are_told_apart_by_signed_ranks(self):
        apart = ranking.rank(values([[1, 2 + i / 10] for i in range(8)]), higher_is_better=True)
        assert apart.p_value == pytest.approx(2 / 2**8)
        assert apart.cliques == ()
        few = ranking.rank(values([[1, 2 + i / 10] for i in range(4)]), higher_is_better=True)
        assert few.cliques == ((0, 1),)

    def test_one_data_set_tells_nothing(self):
        found = ranking.rank(values([[1, 2, 3]]), higher_is_better=True)
        assert (found.p_value, found.intervals, found.cliques) == (None, None, ((0, 2),))
        assert ranking.rank(values([[1]]), higher_is_better=True) is None
        assert ranking.rank({}, higher_is_better=True) is None

    def test_ranks_stand_on_what_all_have(self):
        table = values([[1, 2, 3]] * 6)
        del table["d00", "m1", 0]  # absent once: the data set goes
        found = ranking.rank(table, higher_is_better=True)
        assert found.data_left_out == ("d00",)
        assert (len(found.data), found.left_out) == (5, {})
        for i in range(1, 4):  # on two of six: the method goes
            del table[f"d{i:02}", "m1", 0]
        found = ranking.rank(table, higher_is_better=True)
        assert (found.left_out, found.data_left_out) == ({"m1": 2}, ())
        assert found.methods == ("m2", "m0")

    def test_seeds_that_not_all_have_do_not_count(self):
        table = values([[1, 2]] * 3) | {(f"d{i:02}", "m0", 1): 99.0 for i in range(3)}
        found = ranking.rank(table, higher_is_better=True)
        assert found.methods == ("m1", "m0")
        assert found.n_seeds == 3

    def test_the_order_of_records_changes_nothing(self):
        table = values(np.random.default_rng(0).normal(size=(7, 4)))
        turned = dict(reversed(table.items()))
        one, other = (ranking.rank(found, higher_is_better=True) for found in (table, turned))
        assert one.methods == other.methods
        assert one.mean_ranks == other.mean_ranks


class TestScales:
    def test_nines(self):
        scale = drawing.nines_scale([0.9, 0.99, 0.999])
        places = [scale(value) for value in (0.9, 0.99, 0.999)]
        assert places[2] - places[1] == pytest.approx(places[1] - places[0])
        assert {0.9, 0.99, 0.999} <= {value for value, _ in scale.ticks}

    @pytest.mark.parametrize("make", [drawing.nines_scale, drawing.log_scale, drawing.percent_scale])
    @pytest.mark.parametrize("found", [[1.0], [0.5, 0.5], [1e-9, 1e9], [0.97231, 0.97233], [3.3]])
    def test_no_values_break_a_scale(self, make, found):
        scale = make(found)
        assert scale.ticks
        assert all(0 <= scale(value) <= 1 for value in [*found, *(value for value, _ in scale.ticks)])

    def test_a_student_far_off_has_a_place(self):
        scale = drawing.nines_scale([-1e6, 1.0])
        assert (scale(-1e6) < 0.2, scale(1.0) > 0.8) == (True, True)


def test_marks_of_neighbours_differ_in_shape_and_colour():
    drawn = [str(drawing.marker(0, 0, number)) for number in range(28)]
    assert len(set(drawn)) == 28  # 7 colours in 4 shapes
    shapes = [re.match("<(\\w+)", mark)[1] + re.search("points=.*? |r=.*? ", mark)[0] for mark in drawn]
    assert all(a != b for a, b in pairwise(shapes))


def test_names_of_files_stay_in_their_folder():
    found = [names.slug(text) for text in ("adult", "../adult", "a/b", "a b", "", ".", "..", HOSTILE, "é", "x" * 200)]
    assert found[0] == "adult"
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) and len(name) < 80 for name in found)


def test_markdown_of_tables_becomes_blocks():
    text = "# T\n\n## A <b>\n\none `x*y` *two*\nthree\n\n| a | b |\n|---|---|\n| 1 \\| 2 | <i> |\n\n- p\n- q\n* r\n"
    found = list(markdown.blocks(text))
    assert [block["kind"] for block in found] == ["heading", "heading", "paragraph", "table", "list"]
    assert found[1]["text"] == "A &lt;b&gt;"
    assert found[2]["text"] == "one <code>x*y</code> <em>two</em> three"
    assert found[3]["head"] == ["a", "b"]
    assert found[3]["rows"] == [["1 | 2", "&lt;i&gt;"]]
    assert found[4]["items"] == ["p", "q", "r"]


class TestCsv:
    def test_a_row_for_each_record(self):
        found = [*several(2), failed(seed=5)]
        rows = list(csv.DictReader(io.StringIO(table_csv.as_csv(found))))
        assert len(rows) == len(found)
        tabm = rows[2]
        assert (tabm["method"], tabm["fidelity.score_r2"], tabm["metrics.student.rmse"]) == ("tabm", "0.907", "1.9")
        assert (tabm["seconds.total_cpu"], tabm["peak_memory.bytes"], tabm["versions.torch"]) == (
            "8.0",
            "3145728",
            "2.6",
        )
        assert rows[1]["fidelity.attribution_r2"] == rows[0]["peak_memory.bytes"] == ""
        assert (rows[-1]["status"], rows[-1]["error.type"]) == ("failed", "TimeLimit")
        assert not any("per_feature" in name for name in rows[0])

    def test_every_digit_of_a_number_is_there(self):
        value = 0.1 + 0.2
        rows = list(csv.DictReader(io.StringIO(table_csv.as_csv([result(score=value)]))))
        assert float(rows[0]["fidelity.score_r2"]) == value

    def test_no_text_is_a_formula(self):
        text = table_csv.as_csv([result(data='=HYPERLINK("x")', method='@a,b\n"c'), result(data="-1", score=-0.5)])
        rows = list(csv.DictReader(io.StringIO(text)))
        assert (rows[0]["data"], rows[0]["method"]) == ('\'=HYPERLINK("x")', "'@a,b\n\"c")
        assert (rows[1]["data"], rows[1]["fidelity.score_r2"]) == ("'-1", "-0.5")


def pages_of(folder):
    return {
        str(path.relative_to(folder)): Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))
    }


def check_pages(folder):
    """Every page is whole by itself: headings in order, named pictures and tables, links that lead somewhere."""
    pages = pages_of(folder)
    for name, page in pages.items():
        assert page.headings[0] == 1, name
        assert page.headings.count(1) == 1, name
        assert all(b <= a + 1 for a, b in pairwise(page.headings)), (name, page.headings)
        tags = [tag for tag, _ in page.elements]
        assert not {"script", "iframe", "img", "object", "embed", "form", "base"} & set(tags), name
        assert not [key for _, given in page.elements for key in given if key.startswith("on")], name
        assert tags.count("caption") == tags.count("table"), name
        drawings = [given for tag, given in page.elements if tag == "svg" and given.get("role") == "img"]
        assert all(set(given["aria-labelledby"].split()) <= page.anchors for given in drawings), name
        for link in page.links:
            assert not re.match(r"(?i)\s*(javascript|https?|//|file)", link), (name, link)
            if link.startswith("data:"):
                continue
            path, _, anchor = link.partition("#")
            goal = (folder / name).parent / path if path else folder / name
            assert goal.resolve().is_relative_to(folder.resolve()), (name, link)
            assert goal.is_file(), (name, link)
            if anchor:
                assert anchor in pages[str(goal.resolve().relative_to(folder.resolve()))].anchors, (name, link)
        for svg in re.findall(r"<svg.*?</svg>", (folder / name).read_text(encoding="utf-8"), re.DOTALL):
            ET.fromstring(svg)  # well-formed, so that every browser draws it alike
    return pages


class TestPages:
    def test_what_is_written(self, tmp_path):
        out = tmp_path / "out"
        (out / "data").mkdir(parents=True)
        (out / "data" / "mine.txt").write_text("mine")
        paths = write_site(several(), out)
        assert {str(path.relative_to(out)) for path in paths} == {
            "index.html", "tables.md", "results.csv", *(f"data/tiny/set_{i}.html" for i in range(8)),
        }  # fmt: skip
        assert paths[-1] == out / "index.html"
        assert (out / "data" / "mine.txt").read_text() == "mine"
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]
        pages = check_pages(out)
        index = pages["index.html"].text
        assert "3 methods on 8 data sets, in the seeds that all of them have: 16 runs each." in index
        assert "Not ranked, as they state no explanation: score imitation." in index
        assert "tabm (rival) (explained by permutation_shap)" in index
        assert "Explanation throughput" in index
        page = pages["data/tiny/set_3.html"].text
        assert "one mark a seed" in page.lower()
        assert "peak memory, MB" in page

    def test_the_same_records_make_the_same_files(self, tmp_path):
        for name in "ab":
            write_site(several(3), tmp_path / name)
        for path in (tmp_path / "a").rglob("*.*"):
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()

    def test_what_lacks_is_said(self, tmp_path):
        found = [r for r in several() if (r["data"], r["method"]) != ("set_0", "tabm")]
        found.remove(next(r for r in found if (r["data"], r["method"], r["seed"]) == ("set_1", "score_imitation", 1)))
        found += [failed(data="set_0", method="tabm"), failed(data="set_0", method="broken")]
        write_site(found, tmp_path)
        index = check_pages(tmp_path)["index.html"].text
        assert "Left out, as not every ranked method has them: set_0." in index
        assert "tabm: set_0" in index
        assert "score imitation: set_1 (seed 1)" in index
        assert "(1 of 2)" in index
        assert "TimeLimit: 60 seconds are over" in index
        assert "broken: set_0, set_1" in index

    def test_one_method_and_failures_alone_make_pages_too(self, tmp_path):
        write_site([result()], tmp_path / "one")
        index = check_pages(tmp_path / "one")["index.html"].text
        assert "2 methods on 1 data set, in" in index  # the student and its teacher, against the labels
        assert "One data set tells no methods apart." in index
        write_site([failed(), failed(data="clay")], tmp_path / "failed")
        assert "No student ran to its end." in check_pages(tmp_path / "failed")["index.html"].text
        alone = result(method="teacher", fidelity=None, metrics={"teacher": {"rmse": 2.0}})
        del alone["student"]
        write_site([alone], tmp_path / "teacher")
        assert "Ranks need two methods" in check_pages(tmp_path / "teacher")["index.html"].text

    def test_what_explains_the_teacher_and_predicts_nothing_has_its_place(self, tmp_path):
        found = several()
        for i in range(8):
            for seed in (0, 1):
                found.append(
                    result(data=f"set_{i}", method="fastshap_like", seed=seed, score=None, attribution=0.8,
                           student={"rival": True}, explains="own", explain_seconds_per_row=0.1,
                           metrics={"teacher": {"rmse": 2.0}})
                )  # fmt: skip
                told = result(data=f"set_{i}", method="teacher", seed=seed, fidelity=None, explain_seconds_per_row=0.01,
                              explains="tree_shap", metrics={"teacher": {"rmse": 2.0}})  # fmt: skip
                del told["student"]
                found.append(told)
        write_site(found, tmp_path)
        index = check_pages(tmp_path)["index.html"].text
        assert "3 methods on 8 data sets" in index  # ranks of attributions have it, those of scores do not
        assert re.search(r"\d teacher: 100\b", index)  # rows a second of the teacher's own explanation

    def test_numbers_of_other_hands_break_nothing(self, tmp_path):
        found = several(3)
        found[0]["fidelity"] = {"score_r2": 1.0, "attribution_r2": -1e9}
        found[1]["seconds"] = {"student": 0.0, "total": None}
        found[2]["metrics"] = {"teacher": {"rmse": 0.0}, "student": {"rmse": 1e12}}
        found[3]["metrics"] = {"teacher": {}, "student": {"other": "much"}}
        found[4]["peak_memory"] = None
        found[5]["explain_seconds_per_row"] = 0.0
        write_site(found, tmp_path)
        check_pages(tmp_path)

    def test_text_of_records_stays_text(self, tmp_path):
        found = several(2)
        for record in found:
            record["data"] = record["data"].replace("set_0", HOSTILE)
            record["method"] = record["method"].replace("tabm", f"m{HOSTILE}")
            record["hardware"] = {**record["hardware"], "cpu": HOSTILE}
            record["teacher"] = {**record["teacher"], "library": HOSTILE}
            record["warnings"] = [HOSTILE]
            record["suite"] = f"s{HOSTILE}"
            record["metrics"]["student"][HOSTILE] = 1.0
        found += [
            failed(suite=f"s{HOSTILE}", method=HOSTILE)
            | {"error": dict.fromkeys(("type", "message", "where"), HOSTILE)}
        ]
        stream = {**result(), "kind": "stream", "metric": HOSTILE, "errors": {HOSTILE: [1.0, 2.0]}, "data": HOSTILE}
        write_site([*found, stream], tmp_path)
        pages = check_pages(tmp_path)
        shown = "<script>alert(1)</script>"
        for name in ("index.html", "more.html"):
            assert shown in pages[name].text  # the reader sees it as it is written
            assert "<script" not in (tmp_path / name).read_text(encoding="utf-8").lower()
        assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in tmp_path.rglob("*"))

    def test_what_cannot_be_written_is_one_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(BenchmarkError, match="cannot be written"):
            write_site([result()], tmp_path / "file")
        (tmp_path / "out" / "index.html").mkdir(parents=True)
        with pytest.raises(BenchmarkError, match=r"index.html cannot be written"):
            write_site([result()], tmp_path / "out")

    def test_a_full_disk_leaves_the_old_page(self, tmp_path, monkeypatch):
        write_site([result()], tmp_path)
        before = (tmp_path / "index.html").read_bytes()

        def full(path, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(BenchmarkError, match="No space left on device"):
            write_site(several(), tmp_path)
        monkeypatch.undo()
        assert (tmp_path / "index.html").read_bytes() == before
        assert not [path for path in tmp_path.rglob(".*")]

    def test_twins_are_refused_before_anything_is_written(self, tmp_path):
        with pytest.raises(BenchmarkError, match="two records hold suite tiny"):
            write_site([result(), result()], tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_command_line_writes_pages_and_tables(tmp_path, capsys):
    folder = tmp_path / "results"
    for i, record in enumerate(several(2)):
        records.write(folder / f"{i}.json", record)
    out = tmp_path / "out"
    assert main(["report", str(folder), "--html", str(out), "--csv", str(tmp_path / "t" / "all.csv")]) == 0
    assert "begin at" in capsys.readouterr().out
    assert (tmp_path / "t" / "all.csv").read_text() == (out / "results.csv").read_text()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == (out / "tables.md").read_text()
    assert main(["report", str(folder), "--html", str(folder / "0.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_without_jinja2_the_cure_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(BenchmarkError, match=r'pip install "gbdt2nn\[report\]"'):
        write_site([result()], tmp_path)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The pages of the records that the repository holds."""
    out = tmp_path_factory.mktemp("committed")
    found = records.read_all(Path(__file__).parents[2] / "benchmarks" / "records")
    write_site(found, out)
    return found, out


def test_the_pages_of_the_committed_records_are_whole(committed):
    found, out = committed
    pages = check_pages(out)
    tabular = {(r["suite"], r["data"]) for r in found if r["kind"] in ("result", "speed")}
    assert len(pages) == len(tabular) + 2
    n_files = sum(path.is_file() for path in out.rglob("*"))
    told = (Path(__file__).parents[2] / "docs" / "benchmark_report.md").read_text()
    assert f"wrote {n_files} files; begin at out/index.html" in told
    docs = Path(__file__).parents[2] / "docs"
    pages_of_docs = [(docs / name).read_text() for name in ("benchmarks.md", "papers_vision_tables.md")]
    assert (out / "tables.md").read_text() == "\n".join(pages_of_docs)  # pictures have a page of their own in the docs
    assert len((out / "results.csv").read_text().splitlines()) == len(found) + 1


COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
# how wide a page is, which texts of its pictures leave them, and the pixels of the smallest letters in those
LOOK = """(() => {
  const texts = [...document.querySelectorAll("svg[role=img] text")];
  const clipped = texts.filter((text) => {
    const a = text.getBoundingClientRect(), b = text.ownerSVGElement.getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
  });
  const sizes = texts.map((text) => {
    const svg = text.ownerSVGElement;
    return parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  });
  return [document.documentElement.scrollWidth, clipped.map((text) => text.textContent), Math.min(99, ...sizes)];
})()"""


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
def test_every_page_in_a_browser(committed, tmp_path):
    """On a phone and a desk: nothing said on the console, nothing fetched, no page wider than the screen, no clipped text."""
    _, out = committed
    long = "a_data_set_whose_name_is_longer_than_any_telephone_is_wide_" * 3
    extra = [{**r, "data": long if r["data"] == "set_0" else r["data"]} for r in several(3)]
    write_site([*extra, failed(data=long, method=long)], tmp_path / "extra")
    browser = Chromium(tmp_path / "profile")
    try:
        for path in sorted([*out.rglob("*.html"), *(tmp_path / "extra").rglob("*.html")]):
            browser.open(path, width=360)
            wide, clipped, least = browser.evaluate(LOOK)
            assert wide <= 360, f"{path.name} is {wide} wide"
            assert clipped == [], path.name
            assert least >= 10, f"{path.name} has letters of {least} pixels"
            assert [e for e in browser.events if e["method"] in COMPLAINTS] == [], path.name
            asked = [
                e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
            ]
            assert [url for url in asked if not url.startswith("data:")] == [path.resolve().as_uri()]
        index = out / "index.html"
        colours = set()
        for dark in (False, True):
            browser.open(index, width=1280, dark=dark)
            assert browser.evaluate("document.documentElement.scrollWidth") == 1280
            colours.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert len(colours) == 2
        browser.print(tmp_path / "index.pdf")
        assert (tmp_path / "index.pdf").read_bytes()[:5] == b"%PDF-"
    finally:
        browser.close()


def test_values_of_records_are_read_as_they_stand():
    alone = result(method="teacher", data="set_0", fidelity=None, metrics={"teacher": {"rmse": 2.0}})
    suite = results.Suite("tiny", [*several(2), failed(data="clay"), alone])
    assert suite.methods == ["score_imitation", "self_explaining", "tabm"]
    assert suite.rivals == {"tabm"}
    gained = suite.values(results.error_gained)
    assert gained["set_0", "tabm", 0] == pytest.approx(-5.0)
    assert gained["set_0", "self_explaining", 0] == pytest.approx(5.0)
    assert suite.values(results.student_seconds)["set_0", "tabm", 1] == 8.5  # the processor's, as the suite's clock
    assert suite.values(results.explained_per_second)["set_1", "tabm", 0] == pytest.approx(250.0)
    assert json.dumps(suite.data) == '["set_0", "set_1", "clay"]'
