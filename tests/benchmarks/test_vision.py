"""The vision suites: pictures, banks, records, and the verdicts that are made from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import BenchmarkError, records
from benchmarks.__main__ import main
from benchmarks.report import report
from benchmarks.vision import claims, experiments, pictures, runner, teachers, tuning
from benchmarks.vision.augmentation import Moves, moved, on_other_backgrounds
from benchmarks.vision.bank import make_bank, shuffled
from benchmarks.vision.experiments import EXPERIMENTS, METHODS, Experiment
from benchmarks.vision.runs import drawn
from gbdt2nn.joint_loss import Explained

pytest.importorskip("pyarrow", reason='reading the pictures needs pyarrow: pip install "gbdt2nn[bench]"')


# -------------------------------------------------------------------------------------------------------------- pictures
def test_the_part_of_fashion_mnist_that_ships():
    found = pictures.fashion_mnist_small()
    assert [len(part) for part in (found.train, found.validation, found.test)] == [1200, 600, 900]
    assert found.train.images.shape[1:] == (1, 28, 28)
    assert float(found.train.images.max()) == 1.0
    for part in (found.train, found.validation, found.test):
        assert part.labels.bincount().tolist() == [len(part) // 10] * 10
    rows = torch.cat([found.train.images, found.validation.images]).flatten(1)
    assert len(rows.unique(dim=0)) == 1800  # no picture is in two parts


@pytest.fixture(scope="module")
def scenes():
    return pictures.own_scenes(200, 60, aligned=0.95)


class TestOwnScenes:
    def test_the_background_goes_with_the_label_in_training_alone(self, scenes):
        share = [float((part.places == part.labels).float().mean()) for part in (scenes.train, scenes.test)]
        assert share[0] > 0.9
        assert 0.3 < share[1] < 0.7

    def test_the_mask_is_where_the_garment_is(self, scenes):
        """Outside of it two pictures of one kind of background are alike in their means; inside is the garment."""
        part = scenes.train
        area = part.masks.float().mean((1, 2))
        assert float(area.min()) > 0.02
        assert float(area.max()) < 0.4
        outside = [part.images[i][:, ~part.masks[i]].mean(1) for i in range(len(part))]
        blue = torch.tensor([float(o[2] - o[1]) for o in outside])
        assert bool(((blue > 0) == (part.places == 0)).all())

    def test_they_are_drawn_by_the_seed(self, scenes):
        again, other = pictures.own_scenes(200, 60), pictures.own_scenes(200, 60, seed=1)
        assert torch.equal(scenes.train.images, again.train.images)
        assert not torch.equal(scenes.train.images, other.train.images)

    def test_other_backgrounds_keep_the_garment_and_break_the_tie(self, scenes):
        part, donors = scenes.train[:100], scenes.train[100:]
        found = on_other_backgrounds(part, donors)
        inside = part.masks.unsqueeze(1).expand_as(part.images)
        assert torch.equal(found.images[inside], part.images[inside])
        free = (~part.masks & ~donors.masks).unsqueeze(1).expand_as(part.images)
        assert torch.equal(found.images[free], donors.images[free])
        assert torch.equal(found.places, donors.places)


def test_a_set_that_is_not_there_is_named(monkeypatch):
    monkeypatch.delenv("GBDT2NN_DATA", raising=False)
    with pytest.raises(
        BenchmarkError, match=r"lacking garments_on_scenes: no garments_on_scenes\.npz in the folder that"
    ):
        pictures.garments_on_scenes()
    assert not pictures.available("fashion_mnist")
    assert pictures.available("own_scenes")


def test_garments_on_scenes_as_its_file_gives_it(tmp_path, monkeypatch):
    """A file of the same form: masks packed by rows, two halves of the test pictures."""
    rng = np.random.default_rng(0)
    masks = rng.random((6, 32, 32)) < 0.3
    arrays = {}
    for part in ("train", "test"):
        arrays |= {
            f"x_{part}": rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8),
            f"mask_{part}": np.packbits(masks.reshape(6, -1), axis=1),
            f"y_{part}": np.arange(6, dtype=np.uint8) % 2,
            f"place_{part}": np.arange(6, dtype=np.uint8) // 3,
        }
    np.savez(tmp_path / "garments_on_scenes.npz", **arrays)
    monkeypatch.setenv("GBDT2NN_DATA", str(tmp_path))
    found = pictures.garments_on_scenes()
    np.testing.assert_array_equal(found.train.masks.numpy(), masks)
    torch.testing.assert_close(found.train.images[0, :, 3, 5], torch.as_tensor(arrays["x_train"][0, 3, 5]) / 255.0)
    assert len(found.validation) == len(found.test) == 3
    (tmp_path / "manifest.json").write_text(
        json.dumps({"datasets": [{"name": "garments_on_scenes", "sha256": "0" * 64}]})
    )
    with pytest.raises(BenchmarkError, match=r"garments_on_scenes\.npz should have sha256 000"):
        pictures.garments_on_scenes()


# ------------------------------------------------------------------------------------------------------------------- banks
def looks_at_pixels(model, images, target, *, create_graph):
    """An explainer whose map is the picture itself."""
    return Explained(model(images), images.unsqueeze(1))


def grey(images):
    return torch.stack([images.mean((1, 2, 3)), 0.3 + 0 * images[:, 0, 0, 0]], dim=1)


@pytest.fixture
def few():
    return pictures.fashion_mnist_small().train[::60]


def test_moves_are_shifts_and_flips():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    down = moved(image, Moves(torch.tensor([1]), torch.tensor([0]), torch.tensor([False])))
    assert down[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    flip = moved(image, Moves(torch.tensor([0]), torch.tensor([0]), torch.tensor([True])))
    assert flip[0, 0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]


def test_a_frozen_map_is_moved_as_its_picture_is(few):
    """The map is the picture itself, so that after the same move both must be the same still."""
    bank = make_bank(few, grey, {"pixels": looks_at_pixels}, n_variants=3, frozen=True, seed=1)
    torch.testing.assert_close(bank.maps["pixels"][:, 0], bank.images)
    live = make_bank(few, grey, {"pixels": looks_at_pixels}, n_variants=3, seed=1)
    assert torch.equal(live.images, bank.images)
    own = grey(few.images)
    assert torch.equal(bank.score, own.repeat(3, 1))
    assert not torch.equal(live.score, bank.score)
    some = make_bank(few, grey, {"pixels": looks_at_pixels}, n_variants=3, moved_maps=("pixels",), seed=1)
    assert torch.equal(some.score, live.score)
    torch.testing.assert_close(some.maps["pixels"][:, 0], bank.images)


def test_the_control_gives_each_picture_the_map_of_another_of_its_class(few):
    bank = make_bank(few, grey, {"pixels": looks_at_pixels}, n_variants=2)
    control = shuffled(bank, within_class=True)
    assert torch.equal(control.score, bank.score)
    assert torch.equal(control.images, bank.images)
    key = [tuple(m.flatten().tolist()) for m in bank.maps["pixels"]]
    source = torch.tensor([key.index(tuple(m.flatten().tolist())) for m in control.maps["pixels"]])
    assert torch.equal(bank.target[source], bank.target)
    assert float((source == torch.arange(len(source))).float().mean()) < 0.3


def test_shots_are_drawn_by_the_seed_and_of_every_class():
    train = pictures.fashion_mnist_small().train
    experiment = replace(EXPERIMENTS["fashion_10_shots"], shots=3)
    a, b, c = (drawn(train, experiment, seed) for seed in (0, 0, 1))
    assert a.labels.bincount().tolist() == [3] * 10
    assert torch.equal(a.images, b.images)
    assert not torch.equal(a.images, c.images)
    scenes = pictures.own_scenes(100, 10, aligned=0.8).train
    only = drawn(scenes, replace(experiment, shots=None, aligned=True, n_pictures=20), 0)
    assert len(only) == 20
    assert torch.equal(only.places, only.labels)


# -------------------------------------------------------------------------------------------------------------- whole runs
TINY = Experiment(
    "a few pictures",
    "fashion_mnist_small",
    "tiny",
    methods=("kd", "gradcam", "gradcam_shuffled", "kd_as_long_as_gradient_every4", "gradient_every4", "gradcam_frozen"),
    shots=3,
    sizes={"widths": (4, 4, 4)},
    n_variants=2,
    n_steps=3,
    batch_size=16,
    n_test=40,
    n_explained=20,
    chosen_on="tiny",
)


@pytest.fixture
def tiny(monkeypatch):
    sizes = {"widths": (4, 4, 4)}
    scenes = replace(
        TINY,
        data="own_scenes",
        teacher="tiny_scenes",
        methods=("kd", "gradcam"),
        shots=None,
        n_pictures=30,
        aligned=True,
    )
    x = replace(TINY, methods=("kd_mixed", "x_code", "x_code_two_stages", "x_code_shap", "attention_transfer", "catkd"))
    own = {"tiny": TINY, "tiny_scenes": scenes, "tiny_x": replace(x, n_pictures=None)}
    own["tiny_bcos"] = replace(
        scenes, teacher="tiny_bcos", student="bcos", methods=("kd", "bcos"), explainers=("bcos", "bcos_contributions"),
        chosen_on="tiny_bcos",
    )  # fmt: skip
    grid = {"kd": {"learning_rate": (1e-2, 1e-3), "temperature": (1.0,)}, "gradcam": {"explanation_weight": (1.0,)}}
    grids = {
        "tiny": {**grid, "gradient_every4": {"explanation_weight": (1.0,)}},
        "tiny_bcos": {"kd": grid["kd"], "bcos": {"explanation_weight": (1.0,)}},
    }
    recipes = {
        "tiny": teachers.Recipe("fashion_mnist_small", "cnn", sizes, n_epochs=1),
        "tiny_scenes": teachers.Recipe(
            "own_scenes", "cnn", sizes, n_epochs=1, free_of_background=True, guidance=0.5
        ),
        "tiny_bcos": teachers.Recipe("own_scenes", "bcos", sizes, n_epochs=1),
    }  # fmt: skip
    for place, known in ((EXPERIMENTS, own), (experiments.GRIDS, grids), (teachers.TEACHERS, recipes)):
        for name in list(place):
            monkeypatch.delitem(place, name)
        for name, value in known.items():
            monkeypatch.setitem(place, name, value)
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    monkeypatch.setattr(tuning, "_STEPS", 2)


def test_tuned_run_resumed_and_reported(tiny, tmp_path, capsys, monkeypatch):
    from benchmarks.vision import runner

    monkeypatch.setattr(runner, "TUNED", tmp_path / "nothing")  # the committed choice is of other experiments
    out = tmp_path / "results"
    ask = ["--out", str(out), "--processes", "1"]
    assert main(["run", "--suite", "papers-vision", *ask]) == 2
    assert "papers-vision needs the records of papers-vision-tune" in capsys.readouterr().err
    assert main(["run", "--suite", "papers-vision-tune", *ask]) == 0
    chosen = tuning.choices(out)
    rates = {}
    for path in (out / "papers-vision-tune" / "tiny").glob("kd-*.json"):
        record = records.read(path)
        rates[record["settings"]["choice"]["learning_rate"]] = record["metrics"]["validation"]["agreement"]
    best = max(rates.values())
    assert rates[chosen["tiny"]["kd"]["learning_rate"]] == best
    assert tuning.choice_of(TINY, METHODS["gradcam"], chosen)["learning_rate"] == chosen["tiny"]["kd"]["learning_rate"]
    ratio = chosen["tiny"]["seconds_per_step"]["gradient_every4"] / chosen["tiny"]["seconds_per_step"]["kd"]

    assert main(["run", "--suite", "papers-vision", "--seeds", "1", *ask]) == 0
    said = capsys.readouterr().out
    assert "planned  16 records, about" in said
    assert "16 made, 0 of them failed" in said
    found = {(r["data"], r["method"]): r for r in records.read_all(out / "papers-vision")}
    assert len(found) == 16
    assert found["tiny", "kd_as_long_as_gradient_every4"]["n_steps"] == round(3 * ratio)
    for record in found.values():
        student = record["metrics"]["student"]
        assert 0.0 <= student["agreement"] <= 1.0
        assert student["n_parameters"] > 0
        assert record["seconds"]["training"] > 0
        assert record["warnings"] == [w for w in record["warnings"] if "zero everywhere" in w]
    assert {"epg", "iou", "ood_accuracy"} <= set(found["tiny_scenes", "gradcam"]["metrics"]["student"])
    assert "ablated_accuracy" in found["tiny_x", "x_code"]["metrics"]["student"]
    sizes = [found["tiny_x", name]["metrics"]["student"]["n_parameters"] for name in ("kd_mixed", "x_code")]
    assert sizes[1] > sizes[0]  # the autoencoder counts

    assert main(["run", "--suite", "papers-vision", "--seeds", "1", *ask]) == 0
    assert "0 made, 0 of them failed; 16 kept" in capsys.readouterr().out
    (out / "papers-vision" / "tiny" / "kd-seed0.json").unlink()
    before = found["tiny", "kd"]["metrics"]["student"]
    assert main(["run", "--suite", "papers-vision", "--seeds", "1", *ask]) == 0
    again = records.read(out / "papers-vision" / "tiny" / "kd-seed0.json")["metrics"]["student"]
    assert again == before  # one seed, one student

    page = tmp_path / "page.md"
    assert main(["report", str(out), "--markdown", str(page)]) == 0
    text = page.read_text()
    assert "| e2KD, GradCAM | 1 | 3 |" in text
    assert "Choice of settings" in text
    assert "| *teacher* | 1 |" in text


def test_a_failure_is_recorded_and_can_be_run_again(tiny, tmp_path, monkeypatch, capsys):
    out = tmp_path
    assert runner.run("papers-vision-tune", data_names=["tiny"], out=out, n_processes=1, say=print).failed == 0

    def broken(*args, **kwargs):
        raise ValueError("the dog ate it")

    monkeypatch.setattr(runner, "train", broken)
    ask = {"data_names": ["tiny"], "method_names": ["kd"], "n_seeds": 1, "out": out, "n_processes": 1}
    assert runner.run("papers-vision", **ask).failed == 1
    assert "the dog ate it" in capsys.readouterr().out
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (["--data", "nowhere"], "unknown experiment 'nowhere'"),
        (["--methods", "nothing"], "unknown method 'nothing'"),
        (["--processes", "0"], "processes must be at least 1, got 0"),
    ],
)
def test_requests_that_cannot_be_met(ask, told, tmp_path, capsys):
    assert main(["run", "--suite", "papers-vision", "--out", str(tmp_path), *ask]) == 2
    assert told in capsys.readouterr().err


def test_processes_are_for_these_suites_alone(capsys):
    assert main(["run", "--suite", "smoke", "--processes", "2"]) == 2
    assert "--processes is for the suites papers-vision" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------------- claims
def test_every_claim_is_about_results_that_the_suite_makes():
    """A claim about a method that no experiment runs would never be judged."""
    for claim in claims.CLAIMS:
        for comparison in claim.comparisons:
            there = EXPERIMENTS[comparison.experiment]
            assert comparison.method in there.methods, comparison.label
            other = EXPERIMENTS[comparison.other_experiment or comparison.experiment]
            assert comparison.other in other.methods, comparison.label
            for place in [comparison.minus] * (comparison.minus is not None):
                assert {comparison.method, comparison.other} <= set(EXPERIMENTS[place].methods), comparison.label


def test_every_experiment_can_be_run_as_it_is_written():
    for name, experiment in EXPERIMENTS.items():
        assert experiment.teacher in teachers.TEACHERS, name
        assert experiment.data == teachers.TEACHERS[experiment.teacher].data, name
        grid = experiments.GRIDS[experiment.chosen_on]
        for method in experiment.methods:
            assert METHODS[method].tuned_as in grid, (name, method)
            longer = METHODS[method].as_long_as
            assert longer is None or longer in EXPERIMENTS[experiment.chosen_on].methods, (name, method)


def record(method, seed, **student):
    return {"status": "ok", "data": "somewhere", "method": method, "seed": seed, "metrics": {"student": student}}


def test_a_comparison_is_up_where_it_is_higher_at_every_seed():
    found = [record("a", s, accuracy=0.5 + 0.1 * s, epg={"gradcam": 0.3}) for s in range(3)]
    found += [record("b", s, accuracy=0.4 + 0.1 * s, epg={"gradcam": 0.3 + 0.01 * (s - 1)}) for s in range(3)]
    results = claims.Results(found)
    better = claims.Comparison("somewhere", "a", "b", "accuracy")
    assert results.differences(better) == pytest.approx([0.1] * 3)
    assert claims.way(results.differences(better)) == "up"
    assert claims.way(results.differences(replace(better, method="b", other="a"))) == "down"
    assert claims.way(results.differences(replace(better, metric="epg.gradcam"))) == "open"
    assert claims.way(results.differences(better)[:2]) == "open"  # two seeds are not three
    assert claims.interval([0.1, 0.2, 0.3]) == pytest.approx((0.2, 4.303 * 0.1 / 3**0.5))


def test_without_records_no_claim_has_a_verdict():
    assert {verdict for _, verdict, _ in claims.judged(claims.Results([]))} == {"not run"}


# ------------------------------------------------------------------------------------------------------- committed records
COMMITTED = Path(__file__).parents[2] / "benchmarks" / "records"


def committed(suite):
    folder = COMMITTED / suite
    if not folder.is_dir():
        pytest.skip(f"no full run of {suite} is on record yet")
    return records.read_all(folder)


def test_the_page_of_tables_is_made_from_the_records():
    found = [r for suite in ("papers-vision", "papers-vision-tune") for r in committed(suite)]
    page = COMMITTED.parents[1] / "docs" / "papers_vision_tables.md"
    assert page.read_text() == report(found)


def test_the_records_have_the_settings_that_were_chosen():
    """The main suite was run with what the tuning found, on the experiments as they are written here."""
    chosen = tuning.choices(COMMITTED) if committed("papers-vision-tune") else {}
    for record in committed("papers-vision"):
        experiment, method = EXPERIMENTS[record["data"]], METHODS[record["method"]]
        settings = record["settings"]
        assert settings["choice"] == tuning.choice_of(experiment, method, chosen)
        assert settings["n_steps"] == tuning.steps_of(experiment, method, chosen)
        own = records.plain(experiment.settings())
        assert {name: settings[name] for name in own if name != "n_steps"} == {
            name: value for name, value in own.items() if name != "n_steps"
        }
        assert record["status"] == "ok"
