"""Looking tables up and adding them, and the student that is nothing else."""

import copy
import pickle

import numpy as np
import pytest
import torch

from gbdt2nn.backfitting import Tables, fit_tables
from gbdt2nn.interactions import TableLayout
from gbdt2nn.students.interaction_tables import InteractionTables
from gbdt2nn.students.table_sum import TableSum

N_CODES = [7, 5, 6, 3]
PAIRS, TRIPLES = [[0, 1], [1, 3]], [[0, 1, 2], [0, 2, 3]]


def layout_of(pairs=PAIRS, triples=TRIPLES):
    fine = tuple(np.arange(n, dtype=np.uint8) for n in N_CODES)
    coarse = tuple((np.arange(n) // 2).astype(np.uint8) for n in N_CODES)
    n_codes = np.array(N_CODES)
    return TableLayout(
        n_codes, n_codes, np.array(pairs, int).reshape(-1, 2), np.array(triples, int).reshape(-1, 3), fine, coarse
    )


def random_tables(layout, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    return Tables(
        [rng.normal(size=(n, n_outputs)) for n in N_CODES],
        rng.normal(size=(layout.pair_start[-1], 2, n_outputs)),
        rng.normal(size=(layout.triple_start[-1], 3, n_outputs)),
    )


def filled(layout, **options):
    module = TableSum(layout, [2.0, 0.5], **options).double().requires_grad_(False)
    module.add_tables(random_tables(layout))
    return module


def codes(n=100, seed=0):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.stack([rng.integers(0, size, n) for size in N_CODES], axis=1).astype(np.int32))


class TestTableSum:
    def test_its_main_effects_are_what_is_left_without_the_others(self):
        module = filled(layout_of(), used=np.array([[1, 1, 0, 1], [1, 1, 1, 1]], bool))
        alone = module.main_effects()
        assert alone.layout.n_interactions == 0
        assert not torch.equal(alone(codes()), module(codes()))
        module.pair.zero_()
        module.triple.zero_()
        torch.testing.assert_close(alone(codes()), module(codes()), rtol=0, atol=0)

    def test_it_adds_up_the_cells_of_each_row(self):
        """Against look-ups in tables with an axis for each feature."""
        layout, x = layout_of(), codes()
        tables = random_tables(layout)
        expected = np.stack([tables.main[j][x[:, j]] for j in range(4)], axis=2)
        for chosen, starts, values, sizes, bins in (
            (PAIRS, layout.pair_start, tables.pair, layout.pair_sizes, layout.pair_bin),
            (TRIPLES, layout.triple_start, tables.triple, layout.triple_sizes, layout.triple_bin),
        ):
            for number, features in enumerate(chosen):
                cube = values[starts[number] : starts[number + 1]].reshape(*sizes[features], len(features), 2)
                cell = cube[tuple(bins[j][x[:, j]] for j in features)]  # (batch, features of the table, n_outputs)
                for position, j in enumerate(features):
                    expected[:, :, j] += cell[:, position]
        np.testing.assert_allclose(filled(layout)(x), expected, atol=1e-12)

    @pytest.mark.parametrize("layout", [layout_of(), layout_of([], []), layout_of(PAIRS, []), layout_of([], TRIPLES)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_kernel_and_torch_agree(self, layout, dtype):
        module, x = filled(layout, used=np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)).to(dtype), codes()
        by_kernel = module(x)
        module.requires_grad_(True)
        by_torch = module(x)
        assert by_torch.requires_grad
        assert not by_kernel.requires_grad
        assert by_kernel.dtype == by_torch.dtype == dtype
        torch.testing.assert_close(by_kernel, by_torch.detach(), atol=1e-5 if dtype == torch.float32 else 1e-12, rtol=0)

    @pytest.mark.parametrize(("way", "bound"), [("torch", "CHUNK"), ("kernel", "BLOCK")])
    def test_many_rows_are_taken_in_parts(self, monkeypatch, way, bound):
        module, x = filled(layout_of()).requires_grad_(way == "torch"), codes()
        whole = module(x)
        monkeypatch.setattr(f"gbdt2nn.students.table_sum.{bound}", 100)
        torch.testing.assert_close(module(x), whole, atol=1e-12, rtol=0)

    def test_what_is_not_used_is_exactly_zero(self):
        used = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)
        answer = filled(layout_of(), used=used)(codes())
        assert (answer[:, ~used] == 0).all()
        assert (answer[:, used] != 0).all()

    def test_tables_are_added_to_those_there(self):
        layout = layout_of()
        module = filled(layout)
        once = module(codes())
        module.add_tables(random_tables(layout))
        torch.testing.assert_close(module(codes()), 2 * once)

    def test_state_pickle_and_copy_answer_alike(self):
        module, x = filled(layout_of()), codes()
        fresh = TableSum(layout_of(), [1.0, 1.0]).double()
        fresh.load_state_dict(module.state_dict())
        for other in (fresh, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            with torch.no_grad():
                assert torch.equal(other(x), module(x))

    def test_no_rows(self):
        assert filled(layout_of())(codes(0)).shape == (0, 2, 4)


class TestInteractionTables:
    def make(self, **options):
        columns = [np.eye(n, dtype=np.float32) for n in N_CODES]
        return InteractionTables(
            columns, base_value=[1.0, -1.0], score_scale=[3.0, 0.1], choose_tables=lambda **_: layout_of(), **options
        )

    def test_fitting_gives_what_least_squares_found_and_replaces_what_was_there(self):
        x, phi, weight = codes(300), np.random.default_rng(0).normal(size=(300, 2, 4)), np.ones(300)
        student = self.make(n_sweeps=2, ridge=1.0).double()
        for _ in range(2):
            student.fit_tables(x.numpy(), phi, weight)
        found = fit_tables(x.numpy(), phi, weight, layout_of(), n_sweeps=2, ridge=1.0)
        np.testing.assert_allclose(student.tables.pair.detach() * torch.tensor([3.0, 0.1]), found.pair, atol=1e-6)
        answer = student.requires_grad_(False)(x)
        assert ((student.base_value + answer.attribution.sum(2) - answer.score).abs() < 1e-12).all()
        error = np.square(phi - answer.attribution.numpy()).mean(0)
        assert (error < phi.var(0)).all()

    def test_without_a_choice_of_tables_there_are_main_effects_only(self):
        student = InteractionTables([np.eye(4, dtype=np.float32)], base_value=[0.0], score_scale=[1.0])
        assert student.tables.pair.numel() == student.tables.triple.numel() == 0
        student.fit_tables(np.arange(4)[:, None], np.arange(4.0).reshape(4, 1, 1), np.ones(4))
        answer = student.requires_grad_(False)(torch.arange(4)[:, None])
        np.testing.assert_allclose(answer.score.ravel(), np.arange(4.0), atol=1e-6)
