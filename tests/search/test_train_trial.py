from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import CLASSES, Ticking, ToyFamily, ToyModel, make_problem

import windvane.search.train_trial as module
from windvane.data.task import Kind
from windvane.errors import DiskError
from windvane.models import FAMILIES, base_model, linear
from windvane.models.base import TrainingContext
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.ensemble import Ensemble, Member
from windvane.runtime.serialization import read_sealed, write_sealed
from windvane.search.problem import Problem
from windvane.search.run.checkpoint import is_whole, latest_checkpoint
from windvane.search.run.run_directory import RunDirectory
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial, derive_seed

TRIAL = Trial(0, "toy", {"rate": 0.3}, "portfolio", seed=11)


@pytest.fixture(autouse=True)
def every_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy stages take no time; write a checkpoint of each all the same."""
    monkeypatch.setattr(module, "MIN_STAGE_SECONDS", 0.0)


def run(
    family: ToyFamily,
    folder: Path,
    problem: Problem | None = None,
    *,
    submitted: Trial = TRIAL,
    deadline: float = np.inf,
) -> tuple[Trial, list[Trial]]:
    """Train, and check at every checkpoint that the disk holds what the trial says."""
    problem = problem or make_problem()
    steps: list[Trial] = []

    def report(trial: Trial) -> None:
        steps.append(trial)
        assert_kept(trial, problem, folder)

    trial = train_trial(submitted, problem, family, folder, report, deadline=deadline)
    assert "AssertionError" not in (trial.error or "")  # of the report: evaluate takes it for a failure of the model
    return trial, steps


def assert_kept(trial: Trial, problem: Problem, folder: Path) -> None:
    """The last checkpoint of a trial gives its losses exactly, and the model of each fold predicts just that."""
    assert trial.checkpoint is not None
    checkpoint = folder / trial.checkpoint
    assert latest_checkpoint(folder) == checkpoint
    assert is_whole(checkpoint)
    valid = np.load(checkpoint / "valid.npy")
    assert problem.loss(valid.astype(np.float64), problem.validation_rows) == trial.loss
    pieces = np.split(valid, np.cumsum([len(fold.validation) for fold in problem.folds])[:-1])
    for i, (fold, piece) in enumerate(zip(problem.folds, pieces, strict=True)):
        assert problem.loss(piece.astype(np.float64), fold.validation) == trial.fold_losses[i]
        model = ToyFamily().load(checkpoint / f"fold_{i}", TrainingContext(problem.task, 0))
        assert model.iterations == trial.best_iterations[i]
        np.testing.assert_array_equal(model.predict(problem.table.take(fold.validation)).astype(valid.dtype), piece)


def raising(error: BaseException, event: str, least: int = 0) -> Callable[[str, int], None]:
    """Make a hook that fails at an event from some number of iterations on."""

    def hook(name: str, iterations: int) -> None:
        if name == event and iterations >= least:
            raise error

    return hook


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("n_folds", [1, 3])
def test_a_trial_trains_in_stages_with_a_checkpoint_of_each(kind: Kind, n_folds: int, tmp_path: Path) -> None:
    problem = make_problem(kind, n_folds=n_folds)
    trial, steps = run(ToyFamily(), tmp_path / "t", problem)
    assert [s.status for s in steps] == ["stopped", "stopped", "stopped", "done"]
    assert [s.best_iterations for s in steps] == [(n,) * n_folds for n in (1, 2, 4, 8)]
    assert [s.checkpoint for s in steps] == [f"checkpoint_{i:04d}" for i in range(4)]
    assert steps[-1] == trial
    assert trial.without_results() == TRIAL
    assert trial.error is None
    assert steps[0].loss > trial.loss
    shape = (len(problem.validation_rows), CLASSES[kind])[: 2 if CLASSES[kind] else 1]
    assert np.load(tmp_path / "t" / "checkpoint_0003" / "valid.npy").shape == shape


def test_seconds_are_those_inside_the_models(tmp_path: Path) -> None:
    def work(event: str, iterations: int) -> None:
        seconds = 0.02 if event in ("train_until", "predict") else 0
        end, cpu_end = time.perf_counter() + seconds, time.process_time() + seconds
        while time.perf_counter() < end or time.process_time() < cpu_end:  # another thread may use CPU seconds too
            pass

    trial, steps = run(ToyFamily(hook=work), tmp_path)
    assert trial.fit_seconds >= 4 * 3 * 0.02
    assert trial.predict_seconds >= 4 * 3 * 0.02
    assert 0.48 <= trial.cpu_seconds <= trial.fit_seconds + trial.predict_seconds + 0.1
    assert [s.cpu_seconds for s in steps] == sorted(s.cpu_seconds for s in steps)


def test_short_stages_are_merged_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every, _ = run(ToyFamily(), tmp_path / "every")
    monkeypatch.setattr(module, "MIN_STAGE_SECONDS", 0.5)
    joined, steps = run(ToyFamily(), tmp_path / "joined")
    assert [s.best_iterations[0] for s in steps] == [1, 8]
    assert (joined.loss, joined.fold_losses) == (every.loss, every.fold_losses)


def test_a_linear_trial_that_the_clock_cut_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_PORTIONS", (1, 32, 64, 128, 256, 512))
    problem, submitted = make_problem("multiclass", n_folds=1), Trial(0, "linear", {"C": 100.0}, "portfolio", seed=11)

    def train(folder: Path, deadline: float) -> Trial:
        return train_trial(submitted, problem, FAMILIES["linear"], folder, lambda _: None, deadline=deadline)

    whole = train(tmp_path / "whole", np.inf)
    with monkeypatch.context() as patch:
        patch.setattr(base_model, "time", Ticking())  # the first portion begins at 0, the second would at 1
        cut = train(tmp_path / "cut", 1.0)
    assert (cut.status, cut.best_iterations) == ("stopped", (1,))
    continued = train(tmp_path / "cut", np.inf)
    assert whole.best_iterations > (1,) and whole.loss != cut.loss
    assert (continued.status, continued.loss, continued.best_iterations) == ("done", whole.loss, whole.best_iterations)


def test_a_slow_first_fold_leaves_time_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions of the optimizer take a second where `slow` says so, and each model needs four or more."""
    monkeypatch.setattr(linear, "_PORTIONS", (1, 2, 3, 4, 5, 512))
    clock, slow, fit = [0.0], {0, 1, 2}, linear.LinearModel._fit

    def fit_slowly(model: linear.LinearModel, target: Any) -> None:
        fit(model, target)
        clock[0] += seeds.index(model.context.seed) in slow

    def train(name: str, deadline: float) -> Trial:
        clock[0] = 0.0
        return train_trial(submitted, problem, FAMILIES["linear"], tmp_path / name, lambda _: None, deadline=deadline)

    problem, submitted = make_problem("multiclass"), Trial(0, "linear", {"C": 100.0}, "portfolio", seed=11)
    seeds = [derive_seed(submitted.seed, fold) for fold in range(3)]
    whole = train("whole", np.inf)
    assert min(whole.best_iterations) >= 4
    monkeypatch.setattr(linear.LinearModel, "_fit", fit_slowly)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    cut = train("cut", 3.5)
    assert (cut.status, cut.best_iterations, cut.usable) == ("stopped", (2, 1, 1), True)
    slow -= {1, 2}  # then the first fold gets what the others left
    complete = train("complete", 7.0)
    assert (complete.status, complete.loss) == ("done", whole.loss)


def test_some_of_the_rows_and_of_the_iterations(tmp_path: Path) -> None:
    family = ToyFamily()
    trial, _ = run(family, tmp_path, submitted=replace(TRIAL, n_rows=20, iteration_fraction=0.5))
    assert family.parts == [20, 20, 20]
    assert trial.best_iterations == (4, 4, 4)
    assert (trial.status, trial.n_rows, trial.iteration_fraction) == ("done", 20, 0.5)


def test_a_failure_at_the_start_is_a_status(tmp_path: Path) -> None:
    trial, steps = run(ToyFamily(hook=raising(RuntimeError("no such device"), "create_model")), tmp_path / "t")
    assert (trial.status, trial.error) == ("failed", "RuntimeError: no such device")
    assert not trial.usable and not steps and trial.without_results() == TRIAL


@pytest.mark.parametrize("event", ["train_until", "predict", "save"])
def test_a_failure_later_leaves_the_checkpoint_before_it(event: str, tmp_path: Path) -> None:
    trial, steps = run(ToyFamily(hook=raising(ValueError("diverged"), event, least=4)), tmp_path)
    assert (trial.status, trial.error) == ("failed", "ValueError: diverged")
    assert trial.usable
    assert trial.best_iterations == (2, 2, 2)
    assert replace(trial, status="stopped", error=None) == steps[-1]
    shutil.rmtree(tmp_path / "temporary", ignore_errors=True)  # a torn step
    assert_kept(trial, make_problem(), tmp_path)


def test_long_errors_are_cut(tmp_path: Path) -> None:
    trial, _ = run(ToyFamily(hook=raising(ValueError("x" * 10_000), "train_until")), tmp_path)
    assert len(trial.error or "") == 2000


@pytest.mark.parametrize(
    ("error", "words"), [(MemoryError(), "out of memory"), (MemoryError("9 GB"), "out of memory: 9 GB")]
)
def test_no_memory_is_a_status_of_its_own(error: MemoryError, words: str, tmp_path: Path) -> None:
    trial, _ = run(ToyFamily(hook=raising(error, "train_until", least=2)), tmp_path)
    assert (trial.status, trial.error, trial.best_iterations) == ("out_of_memory", words, (1, 1, 1))
    assert trial.usable


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_program_is_no_failure_of_a_model(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        run(ToyFamily(hook=raising(error(), "train_until")), tmp_path)


class Odd(ToyFamily):
    """Changes what its models predict."""

    change: Callable[[Floats], Floats] = staticmethod(lambda found: found)

    def load(self, folder: Path, context: TrainingContext) -> ToyModel:
        return super().load(folder, context)

    def create_model(self, *args: Any) -> ToyModel:
        model = super().create_model(*args)
        plain = model.predict

        def predict(table: Table) -> Floats:
            return self.change(plain(table))

        model.predict = predict  # type: ignore[method-assign]
        return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_predictions_that_are_not_finite_have_an_infinite_loss(kind: Kind, value: float, tmp_path: Path) -> None:
    problem = make_problem(kind)

    def change(found: Floats) -> Floats:
        found[-1] = value
        return found

    family = Odd()
    family.change = change  # type: ignore[method-assign]
    trial = train_trial(TRIAL, problem, family, tmp_path, lambda trial: None)
    assert trial.status == "done"
    assert trial.loss == math.inf and trial.fold_losses == (math.inf,) * 3
    assert not trial.usable


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("binary", lambda found: found[:, 1], r"shape (30,), but must return (30, 2)"),
        ("binary", lambda found: found[:-1], r"shape (29, 2), but must return (30, 2)"),
        ("multiclass", lambda found: found[:, :2], r"shape (30, 2), but must return (30, 3)"),
        ("regression", lambda found: found[:, None], r"shape (30, 1), but must return (30,)"),
    ],
)
def test_predictions_of_another_shape_fail(kind: Kind, change: Any, words: str, tmp_path: Path) -> None:
    family = Odd()
    family.change = change
    trial = train_trial(TRIAL, make_problem(kind), family, tmp_path, lambda trial: None)
    assert trial.status == "failed"
    assert words in (trial.error or "")


def test_numbers_around_a_large_mean_keep_their_digits(tmp_path: Path) -> None:
    """In float32 neighbours of 1e9 are 64 apart."""
    family = Odd()
    family.change = lambda found: 1e9 + np.linspace(0, 1, len(found))  # type: ignore[method-assign]
    problem = make_problem("regression")
    problem = replace(problem, target=problem.target + 1e9)
    trial = train_trial(TRIAL, problem, family, tmp_path, lambda trial: None)
    found = np.load(tmp_path / str(trial.checkpoint) / "valid.npy")
    np.testing.assert_array_equal(found, np.tile(1e9 + np.linspace(0, 1, 30), 3))
    assert trial.loss == problem.loss(found, problem.validation_rows) < 3


def test_no_time_is_no_checkpoint(tmp_path: Path) -> None:
    trial, steps = run(ToyFamily(), tmp_path, deadline=time.monotonic() - 1)
    assert (trial.status, steps) == ("stopped", [])
    assert trial.error == "no checkpoint was written for every fold in its time"
    assert not trial.usable


def test_time_that_ends_leaves_a_stopped_trial(tmp_path: Path) -> None:
    deadline = time.monotonic() + 1.0
    asked = []

    def slow(event: str, iterations: int) -> None:
        asked.append((event, iterations))
        if asked.count(("train_until", 4)) == 3:  # the last fold has no time for its third step
            time.sleep(max(0.0, deadline - time.monotonic()))

    trial, steps = run(ToyFamily(hook=slow), tmp_path, deadline=deadline)
    assert trial.status == "stopped" and trial.error is None and trial.usable
    assert steps[-1] == trial
    assert trial.best_iterations == (4, 4, 2)


@pytest.mark.parametrize("kind", ["binary", "regression"])
@pytest.mark.parametrize("shares", [(1 / 8, 1.0), (0.25, 0.5, 1.0)])
def test_resuming_a_checkpoint_is_as_one_training(kind: Kind, shares: tuple[float, ...], tmp_path: Path) -> None:
    problem = make_problem(kind)
    for share in shares:
        trial, _ = run(ToyFamily(), tmp_path / "parts", problem, submitted=replace(TRIAL, iteration_fraction=share))
        assert trial.status == "done"
    whole, _ = run(ToyFamily(), tmp_path / "whole", problem)
    assert (trial.loss, trial.fold_losses, trial.best_iterations) == (
        whole.loss,
        whole.fold_losses,
        whole.best_iterations,
    )
    checkpoint, fresh = (
        np.load(folder / str(t.checkpoint) / "valid.npy")
        for folder, t in ((tmp_path / "parts", trial), (tmp_path / "whole", whole))
    )
    np.testing.assert_array_equal(checkpoint, fresh)


def test_seconds_of_a_resumed_trial_add_up(tmp_path: Path) -> None:
    first, _ = run(ToyFamily(), tmp_path, submitted=replace(TRIAL, iteration_fraction=0.5))
    path = tmp_path / str(first.checkpoint) / "trial.json"
    record = read_sealed(path)
    record["trial"] |= {"fit_seconds": 100.0, "cpu_seconds": 90.0}
    write_sealed(path, record)
    second, _ = run(ToyFamily(), tmp_path)
    assert second.fit_seconds > 100 and second.cpu_seconds > 90


def test_an_unfinished_checkpoint_is_ignored(tmp_path: Path) -> None:
    full = ToyFamily(hook=raising(OSError(28, "No space left on device"), "save", least=4))
    with pytest.raises(DiskError, match=rf"{tmp_path}.*No space left.*[Ee]arlier checkpoints .* are safe"):
        run(full, tmp_path)
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_0001" and is_whole(tmp_path / "checkpoint_0001")
    assert not list(tmp_path.glob("temporary*"))
    (tmp_path / "temporary" / "fold_0").mkdir(parents=True)
    (tmp_path / "temporary" / "junk").write_text("torn")
    second, _ = run(ToyFamily(), tmp_path)
    whole, _ = run(ToyFamily(), tmp_path / "whole")
    assert (second.status, second.loss) == ("done", whole.loss)
    assert not (tmp_path / second.checkpoint / "junk").exists()  # type: ignore[operator]


@pytest.mark.parametrize("event", ["create_model", "train_until"])
def test_the_checkpoint_counts_when_resuming_fails(event: str, tmp_path: Path) -> None:
    first, _ = run(ToyFamily(), tmp_path, submitted=replace(TRIAL, iteration_fraction=0.5))
    second, steps = run(ToyFamily(hook=raising(ValueError("now it breaks"), event)), tmp_path)
    assert steps == []
    assert second == replace(first, iteration_fraction=1.0, status="failed", error="ValueError: now it breaks")
    assert_kept(second, make_problem(), tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_not_resumed(tmp_path: Path) -> None:
    run(ToyFamily(), tmp_path, submitted=replace(TRIAL, iteration_fraction=0.5))
    for file in tmp_path.rglob("trial.json"):
        file.write_text("{")
    trial, _ = run(ToyFamily(), tmp_path)
    assert trial.status == "done" and trial.usable
    assert trial.checkpoint is not None and trial.checkpoint > "checkpoint_0000"


def test_no_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "gone") is None
    for name in ("temporary", "checkpoint_0002", "checkpoint_0010"):
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint_0010"


def test_a_part_is_a_copy_of_its_rows() -> None:
    problem = make_problem("regression", weight=np.arange(90.0))
    found = problem.part(np.array([5, 3]))
    np.testing.assert_array_equal(found.table.matrix, problem.table.matrix[[5, 3]])
    np.testing.assert_array_equal(found.target, problem.target[[5, 3]])
    np.testing.assert_array_equal(found.weight, [5, 3])
    assert make_problem().part(np.array([0])).weight is None


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 99), st.booleans())
def test_samples_are_nested_and_hold_every_class(few: int, more: int, seed: int, classes: bool) -> None:
    problem = make_problem("multiclass" if classes else "regression", n=200)
    rng = np.random.default_rng(seed)
    if classes:  # one class is rare
        target = (rng.random(200) < 0.4).astype(np.int64)
        target[seed % 200] = 2
        problem = replace(problem, target=target)
    train = np.sort(rng.permutation(200)[:150])
    small, large = (problem.sample_rows(train, n) for n in (few, few + more))
    n_classes = len(np.unique(problem.target[train])) if classes else 0
    assert len(small) == min(150, max(few, n_classes))
    assert len(large) == min(150, max(few + more, n_classes))
    assert set(small) <= set(large) <= set(train)
    np.testing.assert_array_equal(small, np.unique(small))
    if classes:
        assert set(problem.target[small]) == set(problem.target[train])
    np.testing.assert_array_equal(problem.sample_rows(train, few), small)
    np.testing.assert_array_equal(problem.sample_rows(train, 10**9), train)


def test_a_model_of_all_rows_predicts_where_the_problem_says_so(tmp_path: Path) -> None:
    problem = replace(make_problem(n_folds=1), refits=True)
    plain, _ = run(ToyFamily(), tmp_path / "plain", replace(problem, refits=False))
    family = ToyFamily()
    trial, steps = run(family, tmp_path / "t", problem)  # every checkpoint has the fold's model and its predictions
    assert family.parts == [len(problem.folds[0].train), problem.table.n_rows]
    assert (trial.loss, trial.best_iterations, trial.status) == (plain.loss, plain.best_iterations, "done")
    assert [step.checkpoint for step in steps] == [f"checkpoint_{i:04d}" for i in range(4)]
    assert trial.checkpoint == "checkpoint_0004"
    everything = problem.part(np.arange(problem.table.n_rows))
    seed = int(np.random.SeedSequence([TRIAL.seed, 0]).generate_state(1)[0] % 2**31)
    expected = ToyFamily().create_model(TRIAL.config, everything, everything, TrainingContext(problem.task, seed))
    expected.train_until(trial.best_iterations[0])
    directory = RunDirectory(tmp_path)
    shutil.move(tmp_path / "t", directory.trial(0))
    member = Member(0, trial.checkpoint, "toy", 1.0, folds=(0,))
    ((folder,),) = directory.model_folders(Ensemble((member,), trial.loss))
    found = ToyFamily().load(folder, TrainingContext(problem.task, 0)).predict(problem.table)
    np.testing.assert_array_equal(found, expected.predict(problem.table))


@pytest.mark.parametrize(
    ("n_folds", "submitted", "deadline"),
    [
        (3, TRIAL, np.inf),
        (1, replace(TRIAL, n_rows=20), np.inf),
        (1, replace(TRIAL, iteration_fraction=0.5), np.inf),
        (1, TRIAL, 0.0),
    ],
)
def test_folds_rungs_and_a_deadline_need_no_second_model(
    n_folds: int, submitted: Trial, deadline: float, tmp_path: Path
) -> None:
    problem = replace(make_problem(n_folds=n_folds), refits=True)
    family = ToyFamily()
    run(family, tmp_path / "t", problem, submitted=submitted, deadline=time.monotonic() + deadline)
    assert len(family.parts) == n_folds


def test_a_trial_that_has_no_time_for_a_second_model_is_whole(tmp_path: Path) -> None:
    def slow(event: str, iterations: int) -> None:
        time.sleep(0.1 if event == "train_until" else 0)

    problem = replace(make_problem(n_folds=1), refits=True)
    family = ToyFamily(hook=slow)
    trial, steps = run(family, tmp_path / "t", problem, deadline=time.monotonic() + 0.8)
    assert len(family.parts) == 1
    assert trial == steps[-1]
