"""A family of tiny models that grow exactly, fail on demand and take no time, and problems for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import softmax

from windvane.data.splits import make_folds
from windvane.data.task import Kind, Task
from windvane.evaluation.metrics import get_metric
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.search_space import choose_active
from windvane.runtime.columns.table import Floats, Table
from windvane.search.problem import Problem
from windvane.search.trial import Source, Trial

HOSTILE_NAME, HOSTILE_LABEL = "<script>alert(1)</script>", 'bad"><img src=x onerror=alert(2)>'
CLASSES: dict[Kind, int] = {"binary": 2, "multiclass": 3, "regression": 0}

# Gets "create_model", "train_until", "predict" or "save" and the number of iterations so far; for "train_until" the
# number asked for.
Hook = Callable[[str, int], None]


@dataclass
class ToyFamily:
    """Linear or softmax regression by gradient descent, one step an iteration.

    Attributes
    ----------
    hook
        Called on the way; may raise.
    parts
        Number of training rows of every model that was started.
    """

    name: str = "toy"
    totals: Sequence[int] = (1, 2, 4, 8)
    hook: Hook = lambda event, iterations: None
    parts: list[int] = field(default_factory=list)

    def supports(self, task: Task, table: Table) -> bool:
        return table.n_numbers > 0

    def search_space(self, task: Task) -> dict[str, Param]:
        return {
            "rate": Param(FloatDistribution(0.01, 1.0, log=True), 0.1),
            "kind": Param(CategoricalDistribution(["plain", "strict"]), "plain"),
            "power": Param(IntDistribution(1, 5), 1, when={"kind": ("strict",)}),
        }

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        return tuple(self.totals)

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> ToyModel:
        self.hook("create_model", 0)
        self.parts.append(train.table.n_rows)
        model = ToyModel(self, context) if checkpoint is None else self.load(checkpoint, context)
        model.train, model.rate = train, float(config.get("rate", 0.1))
        return model

    def load(self, folder: Path, context: TrainingContext) -> ToyModel:
        model = ToyModel(self, context)
        with np.load(folder / "state.npz") as state:
            model.coefficients = state["coefficients"]
            model.iterations = model.best_iteration = int(state["iterations"])
        return model


class ToyModel:
    """See `windvane.models.base.Model`."""

    train: DataSplit
    rate: float

    def __init__(self, family: ToyFamily, context: TrainingContext) -> None:
        self.family, self.context = family, context
        self.iterations = self.best_iteration = 0
        self.coefficients: Floats | None = None

    @property
    def finished(self) -> bool:
        return self.iterations >= self.family.totals[-1]

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        self.family.hook("train_until", iterations)
        X, task = features(self.train.table), self.context.task
        wanted: Any = self.train.target[:, None]
        if task.is_classification:
            wanted = np.eye(task.n_classes)[self.train.target]
        if self.coefficients is None:
            self.coefficients = np.random.default_rng(self.context.seed).normal(0, 0.1, (X.shape[1], wanted.shape[1]))
        while self.iterations < iterations and time.monotonic() < deadline:
            self.coefficients = self.coefficients - self.rate * X.T @ (self._raw(X) - wanted) / len(X)
            self.iterations += 1
        self.best_iteration = self.iterations

    def predict(self, table: Table) -> Floats:
        self.family.hook("predict", self.iterations)
        raw = self._raw(features(table))
        return raw if self.context.task.is_classification else raw[:, 0]

    def _raw(self, X: Floats) -> Floats:
        scores = X @ self.coefficients
        return np.asarray(softmax(scores, axis=1) if self.context.task.is_classification else scores)

    def save(self, folder: Path) -> None:
        np.savez(folder / "state.npz", coefficients=self.coefficients, iterations=self.iterations)
        self.family.hook("save", self.iterations)


def features(table: Table) -> Floats:
    """The columns of a table and a one."""
    return np.column_stack([np.nan_to_num(table.matrix), np.ones(table.n_rows)])


def make_problem(
    kind: Kind = "binary", n: int = 90, *, n_folds: int = 3, metric: Any = "auto", weight: Floats | None = None
) -> Problem:
    """Make a small problem that the toy family can learn."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, 3))
    score = X[:, 0] - 0.5 * X[:, 1] + rng.normal(0, 0.3, n)
    target: NDArray[Any] = score
    if kind != "regression":
        cuts = np.quantile(score, np.arange(1, CLASSES[kind]) / CLASSES[kind])
        target = np.searchsorted(cuts, score).astype(np.int64)
    task = Task(kind, n, 3, CLASSES[kind])
    folds, _ = make_folds(target, n_folds, seed=0)
    return Problem(task, get_metric(metric, task, None), Table(X, 3), target, weight, tuple(folds), seed=5)


def make_trial(number: int, loss: float = 0.5, family: str = "toy", **other: Any) -> Trial:
    """Make a usable trial; an infinite loss makes it a failed one."""
    if not np.isfinite(loss):
        return Trial(number, family, {}, "portfolio", seed=number, status="failed", error="it broke")
    facts = {
        "config": {"rate": 0.1},
        "source": "portfolio",
        "seed": number,
        "status": "done",
        "checkpoint": "checkpoint_0000",
    }
    return Trial(number=number, family=family, loss=loss, **{**facts, **other})


def trials() -> st.SearchStrategy[Trial]:
    """Draw trials of every kind."""
    seconds = st.floats(0, 1e6)
    losses = st.floats(allow_nan=False)
    values = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
    return st.builds(
        Trial,
        number=st.integers(0, 20),
        family=st.text(max_size=8),
        config=st.dictionaries(st.text(max_size=5), values, max_size=3),
        source=st.sampled_from(get_args(Source)),
        seed=st.integers(0, 2**31),
        status=st.sampled_from(
            ["waiting", "running", "done", "stopped", "failed", "timeout", "out_of_memory", "crashed"]
        ),
        n_rows=st.none() | st.integers(1, 10**9),
        iteration_fraction=st.sampled_from([1 / 16, 0.25, 1.0]),
        loss=losses.map(lambda x: abs(x) if np.isinf(x) else x),
        fold_losses=st.lists(st.floats(0) | st.just(float("inf")), max_size=3).map(tuple),
        checkpoint=st.none() | st.sampled_from(["checkpoint_0000", "checkpoint_0012"]),
        best_iterations=st.lists(st.integers(0, 5000), max_size=3).map(tuple),
        fit_seconds=seconds,
        predict_seconds=seconds,
        cpu_seconds=seconds,
        started=seconds,
        ended=seconds,
        error=st.none() | st.text(max_size=20),
    )


class _Tags(HTMLParser):
    """Holds a page to balanced tags and unique names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "wbr", "br", "hr", "img", "link", "input"}:
            self.open.append(tag)
        self.names += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()


def check_html(html: str) -> None:
    """Hold a page to well-formed HTML: every element is closed in order, no name is given twice."""
    tags = _Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    assert len(tags.names) == len(set(tags.names))


def sample(space: Mapping[str, Param], rng: np.random.Generator) -> dict[str, Any]:
    """Draw a configuration, each active hyperparameter from its own distribution."""
    return choose_active(space, lambda _, param: _draw(param.distribution, rng))


def _draw(distribution: Any, rng: np.random.Generator) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        choice: Any = distribution.choices[int(rng.integers(len(distribution.choices)))]
        return choice
    whole = isinstance(distribution, IntDistribution)
    # Half a step on both sides gives the ends of a whole or stepped range the same share as the rest.
    half = (distribution.step or 0.0) / 2
    low, high = distribution.low - half, distribution.high + half
    value = np.exp(rng.uniform(np.log(low), np.log(high))) if distribution.log else rng.uniform(low, high)
    if distribution.step:
        value = distribution.low + distribution.step * np.rint((value - distribution.low) / distribution.step)
    value = float(np.clip(value, distribution.low, distribution.high))
    return int(value) if whole else value


class Ticking:
    """Stands in for the module `time`: each look at the clock finds one second more, from 0 on."""

    def __init__(self) -> None:
        self._ticks: Iterator[int] = count()

    def monotonic(self) -> float:
        return float(next(self._ticks))
