"""One run: create or open its directory, prepare its search, write and read its result."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from numpy.typing import NDArray

from windvane import persistence
from windvane.errors import DiskError, MetricError, NoModelError, RunError, RunMismatchError, warn_user
from windvane.evaluation.metrics import Metric
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.persistence import Predictor
from windvane.runtime.columns.schema import Schema
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.labels import labels_from_json, labels_to_json
from windvane.runtime.predictor import check_predictor, classes_from_json
from windvane.runtime.serialization import temporary_folder
from windvane.runtime.targets import Targets
from windvane.search.ensemble_selection import EnsembleBuilder
from windvane.search.problem import ImageSource, PreparedProblem, Problem, array_digest
from windvane.search.run.history import describe_failures
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import FitBudget, RunDirectory
from windvane.search.run.unseen_rows import read_test_score
from windvane.search.search import Callback, Search, SearchListener
from windvane.search.strategy.budget import Budget
from windvane.search.strategy.families import choose_families, supported_families
from windvane.search.strategy.halving import make_rungs
from windvane.search.strategy.policy import Policy
from windvane.search.strategy.portfolio import PortfolioEntry
from windvane.search.strategy.scheduler import Scheduler
from windvane.search.trial import Trial
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.messages import RunContext, pack_objects, session_objects
from windvane.search.workers.pool import WorkerPool
from windvane.settings import Settings, available_cores
from windvane.stop_signals import StopRequest

# Rows x columns x outputs on which the first models of large data train: about a second of boosting.
INITIAL_CELLS = 3e6


def inherit_settings(settings: Settings, seed_is_given: bool) -> Settings:
    """Take seed and policy from an existing run where the user left them open."""
    manifest = _existing_manifest(settings)
    if manifest is None:
        return settings
    policy = manifest["policy"]["name"] if settings.policy == "auto" else settings.policy
    return replace(settings, policy=policy, seed=settings.seed if seed_is_given else int(manifest["seed"]))


def inherited_positive_class(settings: Settings) -> Any:
    """Return the label of the positive class of an existing run; None without one."""
    manifest = _existing_manifest(settings)
    if manifest is None:
        return None
    code, classes = manifest.get("positive_class"), classes_from_json(manifest["classes"])
    return None if code is None or classes is None else classes[code]


def _existing_manifest(settings: Settings) -> dict[str, Any] | None:
    if settings.run_dir is None or not RunDirectory(settings.run_dir).exists():
        return None
    return RunDirectory(settings.run_dir).manifest()


def create_run(estimator: str, prepared: PreparedProblem, settings: Settings, own_metric: bool) -> RunDirectory:
    """Create the directory of a run, or open the existing one, and lock it.

    `estimator` is the name of the estimator's class; `own_metric`: the metric has no name in windvane. Raises
    RunMismatchError if the directory holds a run of other data or settings; nothing of it is changed.
    """
    directory = RunDirectory(settings.run_dir if settings.run_dir is not None else temporary_folder())
    problem = prepared.problem
    images = prepared.images
    identity = {
        **_data_identity(problem, prepared.schema, prepared.classes, prepared.targets),
        "metric": problem.metric.name,
        "positive_class": problem.metric.positive,
        "policy": prepared.policy.name,
        "families": sorted(prepared.families),
        "seed": settings.seed,
    }
    directory.lock()
    try:
        if directory.exists():
            _check_same(directory, identity)
        else:
            manifest = persistence.build_manifest(
                estimator, problem.task, prepared.schema, prepared.classes, problem.metric, own_metric, prepared.targets
            )
            manifest |= {**identity, "policy": asdict(prepared.policy), "families": list(prepared.families)}
            manifest["kind"] = "run"
            if images is not None:
                manifest |= {"images": images.reader.to_json(), "source": images.digest}
            directory.create(manifest)
        has_data = False
        with suppress(RunError):  # a new run, one that kept no data, or a damaged file
            has_data = _read_data(directory, directory.manifest(), problem.metric).task == problem.task
        if not has_data:
            if images is not None:
                directory.write_images(images.reader.folder, images.names)
            problem.write(directory.data)
    except BaseException:
        directory.unlock()
        if settings.run_dir is None:
            shutil.rmtree(directory.root, ignore_errors=True)
        raise
    return directory


def _data_identity(
    problem: Problem, schema: Schema, classes: NDArray[Any] | None, targets: Targets | None
) -> dict[str, str]:
    """Return the digests of a run's data and of its folds."""
    labels: Any = None if classes is None else labels_to_json(classes)["values"]
    labels = labels if targets is None else targets.to_json()
    terms = [schema.to_json(), labels, *(["ordered"] if problem.task.ordered else [])]
    return {
        "data": problem.fingerprint(terms),
        "folds": array_digest(rows for fold in problem.folds for rows in (fold.train, fold.validation)),
    }


def _read_data(directory: RunDirectory, manifest: Mapping[str, Any], metric: Metric) -> Problem:
    """Read the data of a run; raises RunError if one bit is not as it was when the run began."""
    problem = Problem.read(directory.data, metric)
    schema, classes = Schema.from_json(manifest["schema"]), classes_from_json(manifest["classes"])
    identity = _data_identity(problem, schema, classes, persistence.read_targets(manifest))
    same_task = (problem.task.to_json(), problem.seed) == (manifest["task"], manifest["seed"])
    if not same_task or any(manifest.get(key) != value for key, value in identity.items()):
        raise RunError(
            f"The data in {str(directory.data)!r} are not those that the run began with: a file is damaged. Delete "
            "that folder and call fit with the same data and run_dir: it writes them again and resumes the run."
        )
    return problem


def _check_same(directory: RunDirectory, identity: Mapping[str, Any]) -> None:
    manifest = directory.manifest()
    earlier = {**{key: manifest.get(key) for key in identity}, "policy": manifest["policy"]["name"]}
    earlier["families"] = sorted(earlier["families"])
    different = [key for key, value in identity.items() if earlier[key] != value]
    if len(different) > 1 and "folds" in different:
        different.remove("folds")  # they follow from the others
    if different:
        if different == ["positive_class"]:
            labels = labels_from_json(manifest["classes"]).tolist()
            earlier, identity = ({"positive_class": labels[values["positive_class"]]} for values in (earlier, identity))
        shown = "; ".join(f"{key}: {earlier[key]!r} there, {identity[key]!r} here" for key in different)
        raise RunMismatchError(
            f"run_dir={str(directory.root)!r} holds a run with other {', '.join(different)} ({shown}). "
            "Allowed: the same data, groups, split, metric, positive class, policy, families and seed, or another "
            "run_dir."
        )


def open_run(directory: RunDirectory, families: Any, metric: Any) -> PreparedProblem:
    """Read the problem of a run that is to be resumed, with families and metric as the user passes them now."""
    manifest = directory.manifest()
    if not (directory.data / "task.json").exists():
        raise RunError(f"The run in {str(directory.root)!r} kept no data (keep_data=False); give them to fit again.")
    if manifest.get("own_metric") and metric is None:
        raise RunError(f"The run's metric {manifest['metric']!r} was the user's own: load(path, metric=...) brings it.")
    problem = _read_data(directory, manifest, persistence.resolve_metric(manifest, metric))
    known = {**FAMILIES, **choose_families(families)}
    missing = [name for name in manifest["families"] if name not in known]
    if missing:
        raise RunError(f"The run uses the user's own families {missing}: load(path, families=[...]) brings them.")
    chosen = supported_families({name: known[name] for name in manifest["families"]}, problem.task, problem.table)
    reader = persistence.open_reader(manifest, directory.root)
    return PreparedProblem(
        problem,
        Schema.from_json(manifest["schema"]),
        classes_from_json(manifest["classes"]),
        Policy(**manifest["policy"]),
        chosen,
        images=None if reader is None else ImageSource(reader, directory.read_image_names(), manifest["source"]),
        targets=persistence.read_targets(manifest),
    )


def prepare_search(
    prepared: PreparedProblem,
    settings: Settings,
    portfolio: Sequence[PortfolioEntry],
    pool: WorkerPool | DaskPool,
    directory: RunDirectory,
    started: float,
    callbacks: Sequence[Callback],
    listener: SearchListener,
    stop: StopRequest,
    *,
    slowdown: float = 1.0,
    kept_seconds: float = 0.0,
) -> Search:
    """Let the workers read a run whose directory is locked, and return its search.

    `started` is the `time.monotonic` instant from which the budget counts, `slowdown` that of `SlowdownMeter`;
    `kept_seconds` are kept back for what follows.
    """
    problem = prepared.problem
    listener.start(settings.time_budget - (time.monotonic() - started), settings.n_jobs, problem.metric)
    objects = pack_objects(session_objects(problem.metric, prepared.families))
    pool.open(RunContext(directory.root.absolute(), objects))
    history = directory.read_history()
    listener.resume(history.trials)
    for note in prepared.notes:
        listener.note(note)
    directory.drop_damaged(history)
    begun = time.time() - (time.monotonic() - started)
    directory.write_budget(FitBudget(begun, settings.time_budget, settings.n_trials, settings.n_jobs))
    instants = [trial.ended for trial in history.trials] + [point[0] for point in directory.read_outcome().curve]
    n_train = min(len(fold.train) for fold in problem.folds)
    # Networks and linear models on features learn from all images from the start.
    first_rows = None if prepared.images is not None else problem.initial_sample_size(INITIAL_CELLS)
    rungs = make_rungs(n_train, prepared.policy.halving, first_rows)

    def open_models(ensemble: Ensemble) -> Predictor:
        threads = min(settings.n_jobs, available_cores())
        return open_ensemble(directory, ensemble, prepared.families, problem.metric, threads)

    return Search(
        Scheduler(
            problem.task, prepared.families, history, portfolio, rungs, seed=settings.seed, n_trials=settings.n_trials
        ),
        pool,
        EnsembleBuilder(problem, directory, settings.ensemble_size, 0.02 * settings.time_budget),
        Budget(started, settings.time_budget, max(instants, default=0.0), slowdown),
        listener=listener,
        open_models=open_models,
        callbacks=callbacks,
        idle_callback=persistence.preload if prepared.images is None else None,  # libraries of boosting
        kept_seconds=kept_seconds,
        stop=stop,
    )


def finish_search(
    search: Search, ensemble: Ensemble | None, prepared: PreparedProblem, settings: Settings
) -> tuple[Predictor, RunRecord]:
    """Open the ensemble of a search that has ended, and write it; raises NoModelError if no trial is usable."""
    problem, directory = prepared.problem, search.builder.directory
    trials, budget = search.history.trials, search.budget
    shutil.rmtree(directory.temporary, ignore_errors=True)
    if ensemble is not None and (budget.earlier or search.error):  # files of another day, or a disk with errors
        ensemble = _whole_ensemble(search.builder, trials, ensemble)
    if ensemble is None:
        if search.interrupted:
            raise KeyboardInterrupt
        raise _no_model_error(trials, search.error, time.monotonic() - budget.started)
    last = (budget.now(), min(trial.loss for trial in trials if trial.usable), ensemble.loss)
    earlier = directory.read_outcome()
    curve = [*earlier.curve, *search.curve, last]
    constant = problem.constant_baseline()
    uncertainty = search.builder.uncertainty(ensemble)
    if earlier.tuning is not None:
        warn_user(
            "The threshold or the costs that were set for the earlier ensemble do not hold for the new one: call "
            "tune_threshold or set_threshold again.",
        )
    try:
        if uncertainty is not None:
            directory.write_uncertainty(uncertainty, ensemble)
        directory.write_ensemble(ensemble, curve, constant)
    except DiskError as error:
        if not search.error:  # else said already
            warn_user(f"{error} The model in memory predicts, and save() keeps it elsewhere.")
    predictor = replace(search.open_models(ensemble), uncertainty=uncertainty)
    if not settings.keep_data:
        shutil.rmtree(directory.data, ignore_errors=True)
    ended = sum(trial.status != "stopped" for trial in trials)
    if settings.n_trials is not None and ended < settings.n_trials and not search.stop.requested:
        search.listener.note(
            f"The time budget ended after {ended} of {settings.n_trials} trials: another run with this seed may differ."
        )
    return predictor, RunRecord(trials, curve, prepared.policy, constant=constant)


def _no_model_error(trials: Sequence[Trial], error: str, seconds: float) -> NoModelError:
    """Return the error of a search without a model: `error` of the run itself, or the failures of the trials."""
    reasons = error or describe_failures(trials)
    failed = [trial.error or "" for trial in trials if not trial.usable]
    if failed and all(one.startswith(MetricError.__name__) for one in failed):
        return NoModelError(f"The models were trained, but the metric could not be computed for any:\n{reasons}")
    return NoModelError(f"No model came out of {seconds:.0f} s:\n{reasons}")


def read_result(
    directory: RunDirectory, families: Mapping[str, Family], metric: Any, threads: int
) -> tuple[Predictor, RunRecord]:
    """Read the result of a run; an ensemble is built now if the run was not finished.

    `families` may be in its ensemble; `metric` is the user's own, or None; `threads` models predict at once. Raises
    NoModelError if no trial is usable.
    """
    manifest = directory.manifest()
    history = directory.read_history()
    outcome = directory.read_outcome()
    recorded = outcome.ensemble
    damaged = set() if recorded is None else directory.damaged_members(recorded)
    ensemble = None if damaged else recorded
    if ensemble is None and not directory.data.exists():
        raise NoModelError(f"The run in {str(directory.root)!r} has no ensemble, and its data were not kept.")
    resolved = persistence.resolve_metric(manifest, metric)
    constant, uncertainty = outcome.constant, None
    if ensemble is None:
        problem = _read_data(directory, manifest, resolved)
        constant = problem.constant_baseline()
        builder = EnsembleBuilder(problem, directory, 25)
        # A later fit may have replaced a checkpoint of the ensemble and ended without one; that is no damage.
        known = {} if recorded is None else {member.number: member.checkpoint for member in recorded.members}
        replaced = {trial.number for trial in history.trials if trial.checkpoint != known.get(trial.number)}
        left = _without_damaged(history.trials, damaged - replaced)
        ensemble = _whole_ensemble(builder, left, builder.build(left, finish=True))
        uncertainty = ensemble and builder.uncertainty(ensemble)
    if ensemble is None:
        raise NoModelError(
            f"The run in {str(directory.root)!r} has no usable model yet; fit with the same data and settings "
            f"continues it:\n{describe_failures(history.trials)}"
        )
    predictor = open_ensemble(directory, ensemble, families, resolved, threads)
    if predictor.images is None:
        check_predictor(predictor, directory.root / "manifest.json", predictor.folders)
    uncertainty = uncertainty or directory.read_uncertainty(ensemble, predictor.task.n_classes)
    predictor = replace(predictor, uncertainty=uncertainty)
    tuning = outcome.tuning if ensemble == recorded else None
    policy = Policy(**manifest["policy"])
    knows_metric = metric is not None or not manifest.get("own_metric")
    score = read_test_score(directory.test, ensemble) if knows_metric else None
    return predictor, RunRecord(history.trials, outcome.curve, policy, score, constant, tuning)


def select_without(
    directory: RunDirectory,
    predictor: Predictor,
    size: int,
    own_families: Mapping[str, Family],
    families: Collection[str],
    numbers: Collection[int],
) -> Predictor | None:
    """Select an ensemble without some families and trials on the same predictions; None if no data or trial is left."""
    if not (directory.data / "task.json").exists():
        return None
    left = [t for t in directory.read_history().trials if t.family not in families and t.number not in numbers]
    builder = EnsembleBuilder(_read_data(directory, directory.manifest(), predictor.metric), directory, size)
    ensemble = _whole_ensemble(builder, left, builder.build(left, finish=True))
    if ensemble is None:
        return None
    return open_ensemble(directory, ensemble, own_families, predictor.metric, predictor.threads)


def open_ensemble(
    directory: RunDirectory, ensemble: Ensemble, families: Mapping[str, Family], metric: Metric, threads: int
) -> Predictor:
    """Open the models of an ensemble of a run."""
    return persistence.open_predictor(
        directory.manifest(),
        ensemble,
        directory.model_folders(ensemble),
        root=directory.root,
        families=families,
        metric=metric,
        threads=threads,
    )


def _whole_ensemble(builder: EnsembleBuilder, trials: Sequence[Trial], ensemble: Ensemble | None) -> Ensemble | None:
    """Build an ensemble again without the trials whose files are damaged; None if no trial is left."""
    while ensemble is not None and (damaged := builder.directory.damaged_members(ensemble)):
        trials = _without_damaged(trials, damaged)
        ensemble = builder.build(trials, finish=True)
    return ensemble


def _without_damaged(trials: Sequence[Trial], damaged: set[int]) -> list[Trial]:
    """Leave out trials, with a warning that names them."""
    if damaged:
        numbers = ", ".join(map(str, sorted(damaged)))
        warn_user(f"Files of trial {numbers} are damaged; the ensemble does without.")
    return [trial for trial in trials if trial.number not in damaged]
