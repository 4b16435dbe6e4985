"""Ensembles without the members that an export format (scikit-learn, ONNX) cannot express."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from windvane.errors import InputError, warn_user
from windvane.evaluation.score_text import metric_name, score_number
from windvane.persistence import Predictor
from windvane.runtime.columns.schema import Schema

# Selects an ensemble without some families and some trials; None where that cannot be done.
SelectAgain = Callable[[Collection[str], Collection[int]], Predictor | None]
# Why the models of a member (its family, its models) cannot be expressed; None if they can.
Obstacle = Callable[[Predictor, str, Sequence[Any]], str | None]


@dataclass(frozen=True)
class ExportFormat:
    """A format to which an ensemble is converted, and what it cannot express."""

    name: str
    table_obstacles: Callable[[Predictor], list[str]]  # in the columns and the decision
    obstacle: Obstacle  # in the models of one member
    family_obstacle: Obstacle  # in any model of a family on this table

    def left_out(self, predictor: Predictor) -> dict[int, tuple[str, str]]:
        """Position -> name and reason of each member that cannot be expressed."""
        found = {}
        for i, (member, models) in enumerate(zip(predictor.ensemble.members, predictor.models, strict=True)):
            reason = self.obstacle(predictor, member.family, models)
            if reason is not None:
                found[i] = f"{member.family} #{member.number} (weight {member.weight:.2f})", reason
        return found


def choose_members(predictor: Predictor, select_again: SelectAgain, export_format: ExportFormat) -> Predictor:
    """Return the predictor, or, with a warning, one of members that can all be expressed.

    `select_again` selects another ensemble without some families and trials. Where it returns None, the members are
    left out of this one. Raises InputError if the table, or every member, cannot be expressed.
    """
    obstacles, left_out = export_format.table_obstacles(predictor), export_format.left_out(predictor)
    if not obstacles and not left_out:
        return predictor
    other = None if obstacles else _expressible(predictor, select_again, export_format)
    if obstacles or (other is None and len(left_out) == len(predictor.models)):
        reasons = dict.fromkeys([*obstacles, *(reason for _, reason in left_out.values())])
        raise InputError(
            f"{export_format.name} cannot express this model: {'; '.join(reasons)}. "
            "export(folder) can express more: see docs/guide/export.md."
        )
    named = "; ".join(f"{name}: {reason}" for name, reason in left_out.values())
    text = f"{export_format.name} cannot express {len(left_out)} of {len(predictor.models)} members ({named}). "
    if other is None:
        warn_user(
            f"{text}The converted ensemble leaves them out, so it predicts differently, with a loss that is not known "
            "here: only a run directory with its data has the predictions to select another ensemble on. "
            "export(folder) keeps all members."
        )
        return _only(predictor, [i for i in range(len(predictor.models)) if i not in left_out])
    metric, losses = predictor.metric, (other.ensemble.loss, predictor.ensemble.loss)
    scores = [score_number(metric.score(loss)) for loss in losses]
    warn_user(
        f"{text}A second ensemble without them was selected on the validation rows: {metric_name(metric)} {scores[0]} "
        f"there, {scores[1]} for the whole ensemble. export(folder) keeps all members."
    )
    return other


def column_obstacles(schema: Schema, kinds: Sequence[str] = ("date", "duration", "text")) -> list[str]:
    """Name what an export format cannot express in the columns of a table, columns of these kinds included."""
    found = ["the table is sparse"] if schema.n_sparse else []
    if schema.lags is not None:
        found.append("lags, which are found among other rows")
    for kind in kinds:
        names = [repr(column.name) for column in schema.columns if column.kind == kind]
        if names:
            found.append(f"columns of {kind}s ({', '.join(names)})")
    written = [repr(column.name) for column in schema.columns if column.number_format is not None]
    if written:
        found.append(f"numbers written as texts ({', '.join(written)}): convert these columns to numbers before fit")
    return found


def _expressible(predictor: Predictor, select_again: SelectAgain, export_format: ExportFormat) -> Predictor | None:
    """Select ensembles until every member can be expressed."""
    families: set[str] = set()
    numbers: set[int] = set()
    found: Predictor | None = predictor
    while found is not None and (left_out := export_format.left_out(found)):
        for i in left_out:
            member, models = found.ensemble.members[i], found.models[i]
            numbers.add(member.number)
            if export_format.family_obstacle(found, member.family, models) is not None:
                families.add(member.family)
        found = select_again(families, numbers)
    return found


def _only(predictor: Predictor, kept: Sequence[int]) -> Predictor:
    """Return the predictor with some members alone, their weights scaled to sum 1."""
    members = [predictor.ensemble.members[i] for i in kept]
    total = sum(member.weight for member in members)
    scaled = tuple(replace(member, weight=member.weight / total) for member in members)
    return replace(
        predictor,
        ensemble=replace(predictor.ensemble, members=scaled),
        models=[predictor.models[i] for i in kept],
        folders=[predictor.folders[i] for i in kept],
    )
