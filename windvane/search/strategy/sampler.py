"""Configurations after the portfolio: an Optuna study in memory, fed from the history.

The space is sampled define-by-run, the family first, then the hyperparameters that its conditions leave active; the
tree-structured Parzen estimator treats the hyperparameters of a family as one group.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, Family, Param, Value
from windvane.models.search_space import choose_active, fill_defaults
from windvane.search.strategy.halving import Rung, rung_of
from windvane.search.trial import ConfigKey, Trial, config_key

N_STARTUP = 10  # results before the estimator knows more than random search
MIN_RESULTS = 8  # on a rung, to learn from it
MAX_ATTEMPTS = 20


class ConfigSampler:
    """Suggests configurations; it learns from the highest rung that has enough results."""

    def __init__(self, families: Mapping[str, Family], task: Task, seed: int, rungs: Sequence[Rung]) -> None:
        self._spaces = {name: family.search_space(task) for name, family in families.items()}
        self._seed, self._rungs = seed, rungs
        self._level = -1
        self._study: Any = None
        self._asked: dict[ConfigKey, Any] = {}
        self._told: dict[int, float] = {}
        self._begun = 0

    def suggest(self, records: Sequence[Trial], allowed: Callable[[str, Config], bool]) -> tuple[str, Config]:
        """Return an allowed family and configuration, learned from `records`, or the last of a few that are not."""
        import optuna

        self._learn(records)
        for attempt in range(MAX_ATTEMPTS):
            trial = self._study.ask()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # multivariate TPE warns of falling back for new branches
                family = trial.suggest_categorical("family", sorted(self._spaces))
                config = sample_config(trial, family, self._spaces[family])
            if allowed(family, config) or attempt == MAX_ATTEMPTS - 1:
                break
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        self._asked[config_key(family, config)] = trial
        return family, config

    def _learn(self, records: Sequence[Trial]) -> None:
        levels = [rung_of(trial, self._rungs) for trial in records]
        known = [level for level in levels if level >= 0]  # not those of other rungs, in an earlier fit of the run
        enough = [level for level in set(known) if known.count(level) >= MIN_RESULTS]
        level = max(enough, default=min(known, default=0))
        latest = {trial.number: trial for trial, at in zip(records, levels, strict=True) if at == level}
        # A study cannot forget: if a resumed trial became better, a new study begins.
        outdated = any(self._told.get(number, trial.loss) != trial.loss for number, trial in latest.items())
        if self._study is None or level != self._level or outdated:
            self._begin(level)
        for number, trial in latest.items():
            if number not in self._told:
                self._told[number] = trial.loss
                self._tell(trial)

    def _begin(self, level: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        seed = int(np.random.SeedSequence([self._seed, level, self._begun]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(n_startup_trials=N_STARTUP, multivariate=True, group=True, seed=seed)
        self._study = optuna.create_study(sampler=sampler)
        self._level, self._told, self._asked = level, {}, {}
        self._begun += 1

    def _tell(self, trial: Trial) -> None:
        import optuna

        asked = self._asked.pop(trial.key, None)
        if asked is not None:
            if trial.usable:
                self._study.tell(asked, trial.loss)
            else:
                self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
        elif trial.usable and trial.family in self._spaces:
            space = self._spaces[trial.family]
            params: dict[str, Any] = {"family": trial.family}
            distributions: dict[str, Any] = {
                "family": optuna.distributions.CategoricalDistribution(sorted(self._spaces))
            }
            for name, value in fill_defaults(trial.config, space).items():
                params[f"{trial.family}.{name}"] = value
                distributions[f"{trial.family}.{name}"] = space[name].distribution
            self._study.add_trial(
                optuna.trial.create_trial(params=params, distributions=distributions, value=trial.loss)
            )


def sample_config(trial: Any, family: str, space: Mapping[str, Param]) -> dict[str, Value]:
    """Let an Optuna trial choose the active hyperparameters of a family."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    def suggest(name: str, param: Param) -> Value:
        d, full = param.distribution, f"{family}.{name}"
        if isinstance(d, CategoricalDistribution):
            chosen: Value = trial.suggest_categorical(full, d.choices)
        elif isinstance(d, IntDistribution):
            chosen = trial.suggest_int(full, d.low, d.high, step=d.step, log=d.log)
        else:
            chosen = trial.suggest_float(full, d.low, d.high, step=d.step, log=d.log)
        return chosen

    return choose_active(space, suggest)
