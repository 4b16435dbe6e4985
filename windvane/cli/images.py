"""Commands for networks on images: train, fine-tune, look inside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from windvane.cli.common import (
    AsJson,
    Device,
    Quiet,
    holds_network,
    open_model,
    parse_time,
    print_error,
    print_json,
    print_result,
)

if TYPE_CHECKING:
    from windvane.data.images import ImageSplits
    from windvane.inspect.activations import BatchSize
    from windvane.vision.recipe import Recipe
    from windvane.vision.training.run import TrainingResult

Images = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder with a folder for each class, or a table.")]
# Options of `train` that a recipe decides.
OF_RECIPES = ("model", "image_size", "epochs", "time", "augreg", "batch_size", "learning_rate", "flip", "seed")


def train(
    context: typer.Context,
    images: Images,
    *,
    out: Annotated[Path | None, typer.Option(help="Directory of the run.")] = None,
    model: Annotated[str, typer.Option(help="Any network of timm, or ViT-Lite and CCT of windvane.")] = "vit_lite_7_4",
    recipe: Annotated[str | None, typer.Option(help="Named recipe; it has a model, its settings and a seed.")] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Width and height in pixels; by default that of the network.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the images.")] = 50.0,
    time: Annotated[str | None, typer.Option(help="Time budget instead of epochs, such as 10m.")] = None,
    augreg: Annotated[str | None, typer.Option(help="AugReg level; by default the advised one.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 128,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Images at a time within a step, where the batch does not fit into memory.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    flip: Annotated[bool, typer.Option(help="Flip half of the images left to right.")] = True,
    crop: Annotated[
        str | None,
        typer.Option(help="What is evaluated of an image: center, or squeeze (all of it, stretched to a square)."),
    ] = None,
    fisher_penalty: Annotated[float | None, typer.Option(help="Alpha of the Fisher Penalty, such as 0.01.")] = None,
    track_fisher: Annotated[bool | None, typer.Option("--track-fisher", help="Measure the Fisher trace.")] = None,
    fisher_reference: Annotated[
        str | None, typer.Option(help="Run with --track-fisher that went well, to compare the trace with.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    device: Device = None,
    advise: Annotated[bool, typer.Option("--advise", help="Print advised settings and reasons, and exit.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on images: a folder with a folder for each class, or a table of them."""
    started = monotonic()
    with _interruptible(as_json):
        from windvane import vision
        from windvane.data.images import read_images
        from windvane.errors import InputError

        sources = {name: context.get_parameter_source(name) for name in OF_RECIPES}
        given = [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]
        if recipe is not None and given:
            raise InputError(f"--{given[0].replace('_', '-')} and --recipe do not go together. Allowed: one of them.")
        data = read_images(images)
        if recipe is not None:
            chosen = vision.load_recipe(recipe).recipe
        else:
            chosen = vision.default_recipe(
                model,
                data,
                image_size=image_size,
                epochs=epochs,
                time_budget=None if time is None else parse_time(time),
                batch_size=batch_size,
                learning_rate=learning_rate,
                horizontal_flip=flip,
                augreg=augreg,
                seed=seed,
                device=device,
            )
            if resume and time is not None and augreg is None and (earlier := _recipe_of(out)) is not None:
                # The advice rests on a measured speed, which differs from one call to the next.
                advised = ("augreg", "dropout", "drop_path", "weight_decay")
                chosen = replace(chosen, **{name: getattr(earlier, name) for name in advised})
        if advise:
            if as_json:
                recipe_advised, advice = vision.apply_advice(chosen, data.train, device=device)
                print_json({"recipe": recipe_advised.to_json(), "advice": asdict(advice)})
            else:
                typer.echo(vision.format_advice(chosen, data.train, device=device))
            return
        asked = {
            "eval_crop": crop,
            "fisher_penalty": fisher_penalty,
            "fisher_reference": fisher_reference,
            "micro_batch_size": micro_batch_size,
            "track_fisher": track_fisher,
        }
        chosen = replace(chosen, **{k: v for k, v in asked.items() if v is not None})  # type: ignore[arg-type]
        if out is None:
            raise InputError("--out is missing: the directory of the run.")
        trained = vision.train(
            chosen, data, out=out, resume=resume, device=device, quiet=quiet, started=started, reported=True
        )
        _print_result(trained, data, as_json)


def finetune(
    images: Images,
    *,
    weights: Annotated[
        list[str],
        typer.Option(
            help="efficientnet_lite0 to 2, timm/NAME, NAME=FILE, or a run; repeated for several runs: the best."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    model: Annotated[str | None, typer.Option(help="Name of the timm network, if --weights is a file alone.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Largest width and height in pixels.")] = None,
    time: Annotated[str | None, typer.Option(help="Such as 5m; by default 10m on a CPU, 500 steps on a GPU.")] = None,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune pretrained weights on images."""
    started = monotonic()
    with _interruptible(as_json):
        from windvane import vision
        from windvane.data.images import read_images

        budget = vision.default_time_budget(device) if time is None else parse_time(time)
        chosen = weights[0]
        if len(weights) > 1:
            selection = vision.select_run(weights)
            chosen = selection.checkpoint.name
            if not quiet:
                typer.echo(f"windvane: fine-tuning {chosen}, {selection.reason}", err=True)
        recipe = vision.finetune_recipe(chosen, model=model, image_size=image_size, time_budget=budget, seed=seed)
        data, run = read_images(images), vision.train if budget is None else vision.finetune_timed
        trained = run(recipe, data, out=out, resume=resume, device=device, quiet=quiet, started=started, reported=True)
        _print_result(trained, data, as_json)


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Name of a timm network, NAME=FILE with weights, or a run of train, finetune or fit."
        ),
    ],
    others: Annotated[
        list[str], typer.Argument(metavar="[MODEL2] IMAGES", help="A second network; a folder of images.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Page to write; ends in .html.")] = Path("inspect.html"),
    n_images: Annotated[int, typer.Option(help="Images, drawn at random.")] = 256,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights instead of those that timm downloads.")
    ] = False,
    layers: Annotated[list[str] | None, typer.Option(help="Layers of the matrices: glob or kind (residual).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time; by default as each analysis needs.")] = None,
    repeats: Annotated[int, typer.Option(help="Draws of half of the images, for intervals.")] = 1,
    device: Annotated[str, typer.Option(help="Such as cuda:0.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Inspect one or two networks on a folder of images, and write one page."""
    from windvane.errors import InputError
    from windvane.inspect.report.inspection import InspectionSettings, write_inspection_page

    *second, folder = others
    if len(second) > 1:
        raise InputError(f"{1 + len(second)} networks were named. Allowed: one or two, then a folder of images.")
    size: BatchSize = "auto" if batch_size is None else batch_size
    settings = InspectionSettings(n_images, layers or "*", size, repeats, device, not untrained, seed)
    named = [_find_network(name) for name in (model, *second)]
    models, titles = [name for name, _ in named], [title for _, title in named]
    page = write_inspection_page(models, Path(folder), out, settings, titles)
    print_result({"page": page}, page, as_json=as_json)


def _find_network(model: str) -> tuple[str, str | None]:
    """Return the folder and a title of the heaviest network of a run of `fit` on images; other models as they are."""
    run = Path(model)
    if holds_network(run) or not (run / "manifest.json").is_file():
        return model, None
    from windvane import AutoImageClassifier
    from windvane.errors import InputError

    opened = open_model(run, quiet=True)
    allowed = "Allowed: a run of windvane train, of finetune, or of fit on images whose ensemble has a network."
    if not isinstance(opened, AutoImageClassifier):
        raise InputError(f"MODEL={model!r} is a run on a table, which has no network on images. {allowed}")
    predictor = opened.predictor_
    members = zip(predictor.ensemble.members, predictor.folders, strict=True)
    for member, (first_fold, *_) in sorted(members, key=lambda pair: -pair[0].weight):
        if holds_network(first_fold):
            return str(first_fold), f"trial {member.number} of {run.name}"
    families = ", ".join(dict.fromkeys(member.family for member in predictor.ensemble.members))
    raise InputError(
        f"MODEL={model!r} has no network in its ensemble ({families}), only models on features of images; windvane "
        f"report shows what these look at. {allowed}"
    )


def let_threads_sleep() -> None:
    """Let the threads of torch sleep where they wait for each other, unless the user has chosen; before its import."""
    # Spinning threads take the cores from those that they wait for where other programs run: 22 s instead of 2 a step.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _print_result(trained: TrainingResult, data: ImageSplits, as_json: bool) -> None:
    from windvane import vision

    page = vision.write_report(trained, data)
    record = {
        "run": trained.folder,
        "page": page,
        "epoch": trained.best.epoch,
        "validation_accuracy": trained.best.valid_accuracy,
        "validation_loss": trained.best.valid_loss,
        "seconds": trained.seconds,
    }
    print_result(record, f"page: {page}\n{vision.format_result(trained)}", as_json=as_json)


@contextmanager
def _interruptible(as_json: bool) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one message and exit code 130; checkpoints stay."""
    import signal

    let_threads_sleep()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        print_error("KeyboardInterrupt", str(stop) or "stopped", as_json=as_json)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _recipe_of(out: Path | None) -> Recipe | None:
    """Return the recipe of an interrupted or finished run; None without one."""
    from windvane.vision.recipe import recipe_from_json
    from windvane.vision.training.checkpoint import CHECKPOINT, load_checkpoint

    if out is None or not (out / CHECKPOINT).exists():
        return None
    return recipe_from_json(load_checkpoint(out / CHECKPOINT, with_tensors=False)["identity"]["recipe"])
