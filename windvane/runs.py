"""A run from its beginning to its outcome: directory, workers, search, and the predictor in the end."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from windvane import persist
from windvane.errors import NoModelError, RunError, RunMismatchError
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.predictor import Predictor
from windvane.progress import Progress
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.predictor import classes_from_json
from windvane.runtime.schema import Schema
from windvane.search import channel
from windvane.search.ensemble import EnsembleBuilder
from windvane.search.evaluate import kept_trial
from windvane.search.halving import make_rungs
from windvane.search.history import History
from windvane.search.loop import Callback, Clock, Search, describe_failures
from windvane.search.policy import Policy
from windvane.search.portfolio import Entry
from windvane.search.prepare import Prepared, choose_families, first_rows, fitting_families, own_parts
from windvane.search.run import Problem, RunDirectory, digest, fingerprint, write_json
from windvane.search.trial import Trial
from windvane.search.workers import Session, Workers
from windvane.settings import Settings, available_cores

# Rows x columns x outputs on which the first models of large data train: about a second of boosting.
FIRST_CELLS = 3e6
Curve = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    predictor: Predictor
    trials: list[Trial]
    curve: Curve
    policy: Policy

    @classmethod
    def of_run(cls, directory: RunDirectory, families: Mapping[str, Family], metric: Any, threads: int = 1) -> Outcome:
        """Open a run that was finished, or left unfinished.

        Parameters
        ----------
        directory
            Of the run.
        families
            That may be in its ensemble.
        metric
            The user's own, or None.
        threads
            Models that predict at once.

        Returns
        -------
        Outcome
            With the ensemble that was written, or one made now from what the trials kept.

        Raises
        ------
        NoModelError
            Where no trial has a usable state.
        """
        manifest = directory.manifest()
        history = recovered(directory)
        ensemble = _read_ensemble(directory)
        if ensemble is None and not directory.data.exists():
            raise NoModelError(f"The run in {str(directory.root)!r} has no ensemble, and its data were not kept.")
        resolved = persist.resolve_metric(manifest, metric)
        if ensemble is None:
            problem = Problem.read(directory.data, resolved)
            ensemble = EnsembleBuilder(problem, directory, 25).build(history.trials, finish=True)
        if ensemble is None:
            raise NoModelError(
                f"The run in {str(directory.root)!r} has no usable model yet:\n" + describe_failures(history.trials)
            )
        folders = _member_folders(directory, ensemble)
        predictor = persist.open_predictor(
            manifest, ensemble, folders, families=families, metric=resolved, threads=threads
        )
        return cls(predictor, history.trials, _read_curve(directory), Policy(**manifest["policy"]))


def reopen(settings: Settings, given_seed: bool) -> Settings:
    """Take from an existing run what the user left open: seed and policy.

    Parameters
    ----------
    settings
        Of this call.
    given_seed
        Whether the user chose the seed.

    Returns
    -------
    Settings
        Those of the run, where there is one.
    """
    if settings.run_dir is None or not RunDirectory(settings.run_dir).exists():
        return settings
    manifest = RunDirectory(settings.run_dir).manifest()
    policy = manifest["policy"]["name"] if settings.policy == "auto" else settings.policy
    return replace(settings, policy=policy, seed=settings.seed if given_seed else int(manifest["seed"]))


def begin(estimator: str, prepared: Prepared, settings: Settings, own_metric: bool) -> RunDirectory:
    """Make the directory of a run, or open the one that is there, and claim it.

    Parameters
    ----------
    estimator
        Name of the estimator's class.
    prepared, settings
        The run.
    own_metric
        Whether the metric is not one of windvane's names.

    Returns
    -------
    RunDirectory
        Locked, with manifest and data.

    Raises
    ------
    RunMismatchError
        Where a run on other data or with other settings is there; nothing of it is changed.
    """
    directory = RunDirectory(settings.run_dir if settings.run_dir is not None else temporary_directory())
    problem = prepared.problem
    empty = Predictor(problem.task, prepared.schema, problem.metric, prepared.classes, Ensemble((), np.inf), (), ())
    labels = None if prepared.classes is None else prepared.classes.tolist()
    identity = {
        "data": fingerprint(problem, [prepared.schema.to_json(), labels]),
        "folds": digest(rows for fold in problem.folds for rows in (fold.train, fold.valid)),
        "metric": problem.metric.name,
        "policy": prepared.policy.name,
        "families": sorted(prepared.families),
        "seed": settings.seed,
    }
    directory.lock()
    try:
        if directory.exists():
            _check_same(directory, identity)
        else:
            directory.create(
                {
                    **persist.facts(estimator, empty, own_metric),
                    **identity,
                    "kind": "run",
                    "policy": asdict(prepared.policy),
                    "families": list(prepared.families),
                }
            )
        if not (directory.data / "task.json").exists():
            problem.write(directory.data)
    except BaseException:
        directory.unlock()
        raise
    return directory


def open_run(directory: RunDirectory, families: Any, metric: Any) -> Prepared:
    """Read a run's problem again, to go on with it.

    Parameters
    ----------
    directory
        Of the run.
    families, metric
        As the user gives them now.

    Returns
    -------
    Prepared
        As it was.

    Raises
    ------
    RunError
        Where its data were not kept, or its metric was the user's own and is not given.
    """
    manifest = directory.manifest()
    if not (directory.data / "task.json").exists():
        raise RunError(f"The run in {str(directory.root)!r} kept no data (keep_data=False); give them to fit again.")
    if manifest.get("own_metric") and metric is None:
        raise RunError(f"The run's metric {manifest['metric']!r} was the user's own: load(path, metric=...) brings it.")
    problem = Problem.read(directory.data, persist.resolve_metric(manifest, metric))
    known = {**FAMILIES, **choose_families(families)}
    missing = [name for name in manifest["families"] if name not in known]
    if missing:
        raise RunError(f"The run uses the user's own families {missing}: load(path, families=[...]) brings them.")
    chosen = fitting_families({name: known[name] for name in manifest["families"]}, problem.task, problem.table)
    classes = classes_from_json(manifest["classes"])
    return Prepared(problem, Schema.from_json(manifest["schema"]), classes, Policy(**manifest["policy"]), chosen, ())


def conduct(
    prepared: Prepared,
    settings: Settings,
    portfolio: Sequence[Entry],
    pool: Workers,
    directory: RunDirectory,
    started: float,
    callbacks: Sequence[Callback],
) -> Outcome:
    """Search and open what was found.

    Parameters
    ----------
    prepared, settings
        The run.
    portfolio
        The configurations that come first.
    pool
        Its workers; closed in the end.
    directory
        Locked.
    started
        `time.monotonic` instant from which the budget counts.
    callbacks
        Get every finished trial.

    Returns
    -------
    Outcome
        With at least one member.

    Raises
    ------
    NoModelError
        Where no model came out.
    """
    problem = prepared.problem
    objects = channel.pack(own_parts(problem.metric, prepared.families))
    pool.open(Session(directory.root.absolute(), directory.log.absolute(), settings.memory_limit, objects))
    history, curve = recovered(directory), _read_curve(directory)
    earlier = max([trial.ended for trial in history.trials] + [point[0] for point in curve], default=0.0)
    n_train = min(len(fold.train) for fold in problem.folds)
    with Progress(quiet=settings.verbose == 0) as progress:
        left = settings.time_budget - (time.monotonic() - started)
        progress.start(left if settings.n_trials is None else None, settings.n_jobs)
        search = Search(
            problem=problem,
            settings=settings,
            families=prepared.families,
            history=history,
            pool=pool,
            builder=EnsembleBuilder(problem, directory, settings.ensemble_size, most_blending(settings)),
            clock=Clock(started, settings.time_budget, earlier),
            portfolio=portfolio,
            rungs=make_rungs(n_train, prepared.policy.halving, first_rows(problem, FIRST_CELLS)),
            callbacks=callbacks,
            progress=progress,
            at_leisure=persist.preload,
            curve=curve,
        )
        ensemble = search.run()
    directory.drop(directory.temporary)
    if ensemble is None:
        reasons = search.failed or describe_failures(history.trials)
        raise NoModelError(f"No model came out of {time.monotonic() - started:.0f} s:\n{reasons}")
    curve = [*search.curve, (search.clock.now(), min(t.loss for t in history.trials if t.usable), ensemble.loss)]
    write_json(directory.root / "ensemble.json", {**ensemble.to_json(), "curve": curve})
    predictor = persist.open_predictor(
        directory.manifest(),
        ensemble,
        _member_folders(directory, ensemble),
        families=prepared.families,
        metric=problem.metric,
        threads=min(settings.n_jobs, available_cores()),
    )
    if not settings.keep_data:
        directory.drop(directory.data)
    return Outcome(predictor, history.trials, curve, prepared.policy)


def most_blending(settings: Settings) -> float:
    """Say how many seconds an ensemble may take to build: 2 % of the budget; no clock with a trial limit."""
    return 0.02 * settings.time_budget if settings.n_trials is None else np.inf


def recovered(directory: RunDirectory) -> History:
    """Read the history, and the kept steps of trials that a kill left out of it.

    Parameters
    ----------
    directory
        Of the run.

    Returns
    -------
    History
        Every trial with a state that can be used.
    """
    history = History(directory.history)
    known = {trial.number: trial for trial in history.trials}
    for folder in sorted(directory.trials.glob("*")):
        trial = kept_trial(folder)
        if trial is None:
            continue
        if trial.number not in known or known[trial.number].step != trial.step:
            earlier = known.get(trial.number)
            ended = max((t.ended for t in known.values()), default=0.0) if earlier is None else earlier.ended
            history.records.append(replace(trial, status="partial", ended=ended))
    return history


def temporary_directory() -> Path:
    """Make a directory for a run that goes with its object."""
    return Path(tempfile.mkdtemp(prefix="windvane-"))


def remove(folder: Path) -> None:
    """Delete a temporary directory."""
    shutil.rmtree(folder, ignore_errors=True)


def _check_same(directory: RunDirectory, identity: Mapping[str, Any]) -> None:
    manifest = directory.manifest()
    was = {**{key: manifest.get(key) for key in identity}, "policy": manifest["policy"]["name"]}
    was["families"] = sorted(was["families"])
    different = [key for key, value in identity.items() if was[key] != value]
    if len(different) > 1 and "folds" in different:
        different.remove("folds")  # they follow from the others
    if different:
        shown = "; ".join(f"{key}: {was[key]!r} there, {identity[key]!r} here" for key in different)
        raise RunMismatchError(
            f"run_dir={str(directory.root)!r} holds a run with other {', '.join(different)} ({shown}). "
            "Allowed: the same data, groups, split, metric, policy, families and seed, or another run_dir."
        )


def _read_record(directory: RunDirectory) -> dict[str, Any]:
    """Read what was written of the ensemble last; nothing where no fit came to its end."""
    try:
        return dict(json.loads((directory.root / "ensemble.json").read_text()))
    except (OSError, ValueError):
        return {}


def _read_curve(directory: RunDirectory) -> list[tuple[float, float, float]]:
    return [(float(a), float(b), float(c)) for a, b, c in _read_record(directory).get("curve", [])]


def _read_ensemble(directory: RunDirectory) -> Ensemble | None:
    """Read the ensemble that was written last; none where its steps are gone."""
    record = _read_record(directory)
    record.pop("curve", None)
    if not record:
        return None
    ensemble = Ensemble.from_json(record)
    there = all(directory.step(member.number, member.step).exists() for member in ensemble.members)
    return ensemble if there else None


def _member_folders(directory: RunDirectory, ensemble: Ensemble) -> list[list[Path]]:
    folders = []
    for member in ensemble.members:
        step = directory.step(member.number, member.step)
        folds = member.folds or range(len(list(step.glob("fold_*"))))
        folders.append([step / f"fold_{fold}" for fold in folds])
    return folders
