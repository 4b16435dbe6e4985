"""How the networks of a run were trained: learning curves, the level of augmentation and why, the Fisher trace."""

from __future__ import annotations

from dataclasses import dataclass

from windvane.errors import WindvaneError
from windvane.models.image_network import FineTune, FromScratch, NetworkTraining, read_training
from windvane.pages.html_builder import Html, Section, bullet_list, details, note, number, paragraph, table, tag
from windvane.report.report_data import ReportData
from windvane.search.trial import Trial

MAX_TRIALS = 20  # of the table


@dataclass(frozen=True)
class TrainedNetwork:
    """A trial that trained a network, of which the first fold is shown."""

    trial: Trial
    training: NetworkTraining

    @property
    def name(self) -> str:
        return f"{self.trial.family} #{self.trial.number}"


def networks_section(data: ReportData) -> Section | None:
    """The best network of each family; None where the run trained none, or its directory is gone."""
    networks = _trained_networks(data)
    if not networks:
        return None
    best_of_family: dict[str, TrainedNetwork] = {}
    for one in networks:
        best_of_family.setdefault(one.trial.family, one)
    content: list[Html] = []
    for one in best_of_family.values():
        content += _training(one, data, networks)
    rows = [_row(one) for one in networks[:MAX_TRIALS]]
    header = ["network", "model", "AugReg level", "pixels", "epochs", "best epoch", "validation accuracy", "log loss"]
    title = "Every network of the run"
    content.append(details(f"{title}: {len(networks)}", table(header, rows, label=title)))
    return Section("Networks", content)


def _trained_networks(data: ReportData) -> list[TrainedNetwork]:
    """The networks whose checkpoints are there, the best first."""
    if data.directory is None or data.problem is None:
        return []
    found = []
    for trial in sorted(data.trials, key=lambda trial: (trial.loss, trial.number)):
        if trial.family not in (FineTune.name, FromScratch.name) or not trial.usable or trial.checkpoint is None:
            continue
        folder = data.directory.checkpoint(trial.number, trial.checkpoint) / "fold_0"
        try:
            found.append(TrainedNetwork(trial, read_training(folder)))
        except WindvaneError:
            continue  # its other figures are on the page
    return found


def _training(one: TrainedNetwork, data: ReportData, networks: list[TrainedNetwork]) -> list[Html]:
    from windvane.vision.report.training_page import describe_recipe, recipe_table, training_curves

    training = one.training
    n_folds = len(one.trial.fold_losses)
    of = f", the first of its {n_folds} folds" if n_folds > 1 else ""
    content = [
        tag("h3", f"{one.name}{of}"),
        bullet_list([*describe_recipe(training.recipe), *_advice_sentences(one, data)]),
        *training_curves(training.history, training.best, training.fisher),
    ]
    if training.fisher:
        content += _alarms(one, networks)
    return [*content, recipe_table(training.recipe)]


def _advice_sentences(one: TrainedNetwork, data: ReportData) -> list[str]:
    """The advised AugReg level beside that of the recipe, and why; nothing of a network that cannot be created."""
    from windvane.vision.advice import advise
    from windvane.vision.networks.create import create_model
    from windvane.vision.networks.profiling import count_parameters

    assert data.problem is not None
    recipe = one.training.recipe
    try:
        n_params = count_parameters(create_model(recipe, data.task.n_classes))
    except WindvaneError:
        return []
    epochs = recipe.epochs or one.training.history[-1].epoch
    advice = advise(len(data.problem.folds[0].train), n_params, epochs, recipe.weights is not None)
    same = "as advised" if advice.level == recipe.augreg else f"where {advice.level} is advised"
    chosen = f"AugReg level {recipe.augreg}, {same}: {advice.reasons['level']}"
    if advice.level != recipe.augreg:
        chosen += " The search evaluates other levels, too; validation images choose."
    return [chosen]


def _alarms(one: TrainedNetwork, networks: list[TrainedNetwork]) -> list[Html]:
    """What the explosion alarm says of other trainings of the same network, compared with this one, the best."""
    from windvane.vision.training.fisher import NETWORK_FIELDS, check_explosion

    def identity(network: TrainedNetwork) -> list[str]:
        return [repr(getattr(network.training.recipe, name)) for name in NETWORK_FIELDS]

    others = [o for o in networks if o is not one and o.training.fisher and identity(o) == identity(one)]
    if not others:
        return [paragraph("The explosion alarm compares trainings of one network; this run has no other one of this.")]
    raised = []
    for other in others:
        training = other.training
        warmup = training.recipe.warmup_fraction
        message = check_explosion(training.fisher, training.history[-1], warmup, one.training.fisher)
        if message is not None:
            raised.append(note(f"{other.name} beside {one.name}: {message}", "warn"))
    if raised:
        return raised
    named = ", ".join(other.name for other in others)
    return [paragraph(f"The explosion alarm is silent: the trace of {named} stays near that of {one.name}.")]


def _row(one: TrainedNetwork) -> list[object]:
    recipe, best = one.training.recipe, one.training.best
    return [
        one.name,
        recipe.model,
        recipe.augreg,
        recipe.image_size,
        f"{one.training.history[-1].epoch:.1f}",
        f"{best.epoch:.1f}",
        f"{best.valid_accuracy:.1%}",
        number(best.valid_loss),
    ]
