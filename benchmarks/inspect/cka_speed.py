"""Time and accuracy of CKA between all layers, compared with torch_cka 0.21 and pytorch-cka 1.1.3.

Claim: every layer, 512 images in batches of 64: windvane is at least 40 times as fast as torch_cka (aim: 20 times),
takes 1.0 to 1.2 times as long as pytorch-cka on ResNet-18 with itself and 0.8 times on ViT-Ti with ResNet-50 (aim: at
most as long), and equals a float64 reference on the same activations to 1e-6.
Hardware: 2 cores, no GPU, nothing else running. Repeats: 3 (1 for ViT-Ti with ResNet-50 and for the growth), the
programs in turn; medians. Each measurement is a separate process, so that peak memory is that of one program. torch_cka
takes hours for 512 images: it is timed on one batch of 64 and every fifth layer of both networks, and its time beyond
the forward pass is multiplied by 25 for each of the 8 batches (it does the same work for every pair and every batch).
Activations that write into their input are switched to copies, because both others would read the values written over;
in-place sums remain, and those layers are counted, not compared. `ratio` is for a machine with other work: processor
time of one thread, 128 images, the programs in turn in one process, medians of three rounds.

    python -m benchmarks.inspect.cka_speed run
    python -m benchmarks.inspect.cka_speed growth
    python -m benchmarks.inspect.cka_speed ratio
    python -m benchmarks.inspect.cka_speed table
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT
from benchmarks.markdown import print_head
from benchmarks.result_table import ResultTable, results_of

HERE = Path(__file__).parent
CASES = {"resnet18": ("resnet18", "resnet18"), "vit-resnet50": ("vit_tiny_patch16_224", "resnet50")}
IMAGES, BATCH, SIZE, THREADS, REPEATS = 512, 64, 224, 2, 3
SHARE = {"torch_cka": 0.2}  # of the layers, and one batch alone
GROWTH = ((0.125, 64), (0.25, 64), (0.5, 64), (1.0, 64), (1.0, 16), (1.0, 128), (1.0, 256))  # layers, batch
GROWN = ("forward", "windvane", "pytorch-cka")
SETTINGS = {"images": IMAGES, "batch": BATCH, "size": SIZE, "threads": THREADS}
RESULTS = results_of(__file__, ("case", "program"), SETTINGS)
GROWTH_SETTINGS = {**SETTINGS, "images": IMAGES // 2, "batch": "varies"}
GROWTH_RESULTS = ResultTable(HERE / "cka_growth.jsonl", ("layers", "batch", "program"), GROWTH_SETTINGS)
RATIO_IMAGES, ROUNDS = 128, 3
RATIO_SETTINGS = {**SETTINGS, "images": RATIO_IMAGES, "threads": 1}
RATIO_RESULTS = ResultTable(HERE / "cka_ratio.jsonl", ("program", "rounds"), RATIO_SETTINGS)

Names = tuple[list[str], list[str]]


def plan() -> list[tuple[Any, ...]]:
    return list(product(CASES, PROGRAMS))


def growth_plan() -> list[tuple[Any, ...]]:
    """Return the measurements of the growth with layers and batches."""
    n_layers = RESULTS.rows()[0]["n_layers"][0]
    return [(round(share * n_layers), batch, program) for share, batch in GROWTH for program in GROWN]


def ratio_plan() -> list[tuple[Any, ...]]:
    """Return the measurements of `ratio`."""
    return [(program, ROUNDS) for program in GROWN]


def networks(case: str) -> tuple[nn.Module, nn.Module]:
    """Two networks with random weights, or one twice."""
    made = []
    for i, name in enumerate(CASES[case]):
        torch.manual_seed(i)
        made.append(timm.create_model(name).eval())
    first, second = made
    for model in made:
        for module in model.modules():
            if getattr(module, "inplace", False):
                module.inplace = False
    return (first, first) if CASES[case][0] == CASES[case][1] else (first, second)


def images(n: int) -> Tensor:
    """Smooth random images, the same for every program."""
    coarse = torch.randn(n, 3, 14, 14, generator=torch.Generator().manual_seed(7))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic")


def chosen(n_layers: int, share: float) -> list[int]:
    """Indices of a fraction of the layers, evenly spread."""
    return [int(i) for i in np.linspace(0, n_layers - 1, max(2, round(share * n_layers)))]


def layers(model: nn.Module, share: float = 1.0) -> list[str]:
    """Modules in the order of execution, or a fraction of them, evenly spread."""
    names: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, module in model.named_modules()
        if name
    ]
    with torch.no_grad():
        model(images(1))
    for handle in handles:
        handle.remove()
    return [names[i] for i in chosen(len(names), share)]


def by_forward(models: tuple[nn.Module, nn.Module], x: Tensor, names: Names, batch: int) -> None:
    """Run the networks and nothing else, which every program has to do."""
    with torch.no_grad():
        for part in x.split(batch):
            for model in dict.fromkeys(models):
                model(part)


def by_windvane(models: tuple[nn.Module, nn.Module], x: Tensor, names: Names, batch: int) -> np.ndarray:
    """Similarity matrix by windvane."""
    from windvane.inspect import Sampling, compare

    return compare(*models, x, names, "cka", Sampling(batch)).values


def by_torch_cka(models: tuple[nn.Module, nn.Module], x: Tensor, names: Names, batch: int) -> np.ndarray:
    """Similarity matrix by torch_cka."""
    from torch_cka import CKA  # type: ignore[import-not-found]

    program = CKA(*models, "first", "second", *names)
    with torch.no_grad():
        program.compare(DataLoader(TensorDataset(x), batch))
    return np.asarray(program.export()["CKA"])


def by_pytorch_cka(models: tuple[nn.Module, nn.Module], x: Tensor, names: Names, batch: int) -> np.ndarray:
    """Similarity matrix by pytorch-cka."""
    from cka import compute_cka  # type: ignore[import-not-found]

    loader = DataLoader(TensorDataset(x), batch)
    found = compute_cka(*models, loader, layers=names[0], model2_layers=names[1], progress=False)
    return np.asarray(found[0])


PROGRAMS = {"forward": by_forward, "windvane": by_windvane, "torch_cka": by_torch_cka, "pytorch-cka": by_pytorch_cka}
MODULES = {"windvane": "windvane.inspect", "torch_cka": "torch_cka", "pytorch-cka": "cka"}  # imported before the clock


def measure(case: str, program: str, n_images: int, batch: int, share: float, out: str) -> None:
    """Time one program once, from networks and images in memory to the matrix."""
    warnings.simplefilter("ignore")
    if program in MODULES:
        importlib.import_module(MODULES[program])
    torch.set_num_threads(THREADS)
    models, x = networks(case), images(n_images)
    names = (layers(models[0], share), layers(models[1], share))
    with torch.no_grad():
        models[0](x[:4])
    with contextlib.redirect_stdout(sys.stderr):
        began = time.perf_counter()
        values = PROGRAMS[program](models, x, names, batch)
        seconds = time.perf_counter() - began
    if values is not None:
        np.save(out, values)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "n_layers": [len(one) for one in names]}))


def measured(case: str, program: str, out: Path, n_images: int, batch: int, share: float) -> Any:
    """Run `measure` in a separate process."""
    arguments = json.dumps([case, program, n_images, batch, share, str(out)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.inspect.cka_speed", "measure", arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(THREADS)},
    )
    return json.loads(done.stdout)


def reference(case: str, n_images: int) -> tuple[np.ndarray, tuple[list[bool], list[bool]]]:
    """Minibatch estimate in float64 on the outputs of each module, and which outputs were written over later."""
    models, x = networks(case), images(n_images)
    hsics: list[Any] = [0.0, 0.0, 0.0]
    for part in x.split(BATCH):
        grams, written = zip(*(_grams(model, part) for model in models), strict=True)
        parts = [_hsic(grams[a], grams[b]) for a, b in ((0, 1), (0, 0), (1, 1))]
        hsics = [total + one for total, one in zip(hsics, parts, strict=True)]
    return hsics[0] / np.sqrt(np.outer(np.diag(hsics[1]), np.diag(hsics[2]))), written


def _grams(model: nn.Module, x: Tensor) -> tuple[np.ndarray, list[bool]]:
    """Gram matrices with zero diagonals, (layers, n, n), summed in float64 by blocks of features."""
    grams: list[np.ndarray] = []
    outputs: list[tuple[Tensor, int]] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        features = output.flatten(1)
        gram = np.zeros((len(x), len(x)))
        for block in features.split(4096, dim=1):
            wide = block.numpy().astype(np.float64)
            gram += wide @ wide.T
        np.fill_diagonal(gram, 0.0)
        grams.append(gram)
        outputs.append((output, output._version))

    handles = [module.register_forward_hook(hook) for name, module in model.named_modules() if name]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return np.stack(grams), [output._version != version for output, version in outputs]


def _hsic(K: np.ndarray, L: np.ndarray) -> np.ndarray:
    """HSIC1 of every pair: the three terms of Nguyen et al. 2021, eq. 3."""
    n = K.shape[1]
    traces = K.reshape(len(K), -1) @ L.reshape(len(L), -1).T
    sums = np.outer(K.sum((1, 2)), L.sum((1, 2))) / ((n - 1) * (n - 2))
    return np.asarray((traces + sums - 2 / (n - 2) * K.sum(1) @ L.sum(1).T) / (n * (n - 3)))


def run(case: str, repeats: int, folder: Path) -> None:
    """Time every program in turn, then compare the matrices with the reference."""
    timings: dict[str, list[Any]] = {program: [] for program in PROGRAMS}
    for _ in range(repeats):
        for program, done in timings.items():
            n_images, share = (BATCH if program in SHARE else IMAGES), SHARE.get(program, 1.0)
            done.append(measured(case, program, folder / f"{case}-{program}.npy", n_images, BATCH, share))
            print(case, program, f"{done[-1]['seconds']:.1f} s, {done[-1]['peak_mb']:.0f} MB", flush=True)
    known = {n: reference(case, n) for n in (BATCH, IMAGES)}
    forward = float(np.median([one["seconds"] for one in timings["forward"]]))
    for program, done in timings.items():
        share, seconds = SHARE.get(program, 1.0), float(np.median([one["seconds"] for one in done]))
        if share < 1:
            n_batches = IMAGES // BATCH
            seconds = forward + n_batches * (seconds - forward / n_batches) / share**2
        entry: dict[str, Any] = {"case": case, "program": program, "repeats": repeats}
        entry |= {"n_layers": timings["windvane"][0]["n_layers"], "written_over": [sum(one) for one in known[BATCH][1]]}
        entry |= {"seconds": round(seconds, 1), "peak_mb": round(max(one["peak_mb"] for one in done))}
        path = folder / f"{case}-{program}.npy"
        if path.exists():
            exact, written = known[BATCH if share < 1 else IMAGES]
            rows, columns = (np.array(chosen(len(one), share)) for one in written)
            error = np.abs(np.load(path) - exact[np.ix_(rows, columns)])
            sound = np.ix_(*(~np.array(one)[kept] for one, kept in zip(written, (rows, columns), strict=True)))
            entry["error"], entry["error_where_written_over"] = float(np.nanmax(error[sound])), float(np.nanmax(error))
        RESULTS.put(entry)


def growth(repeats: int) -> None:
    """Time with the number of layers and with the size of batches, ResNet-18 against itself, 256 images."""
    with tempfile.TemporaryDirectory() as folder:
        for (share, batch), program in product(GROWTH, GROWN):
            out = Path(folder) / "scratch.npy"
            done = [measured("resnet18", program, out, IMAGES // 2, batch, share) for _ in range(repeats)]
            record = {"layers": done[0]["n_layers"][0], "batch": batch, "program": program}
            record["seconds"] = round(float(np.median([one["seconds"] for one in done])), 2)
            record["peak_mb"] = round(max(one["peak_mb"] for one in done))
            GROWTH_RESULTS.put(record)
            print(record, flush=True)


def ratio() -> None:
    """Processor time of one thread, the programs in turn in one process, ResNet-18 with itself; then the errors."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    models, x = networks("resnet18"), images(RATIO_IMAGES)
    names = (layers(models[0]), layers(models[1]))
    exact, _ = reference("resnet18", RATIO_IMAGES)
    errors: dict[str, float] = {}
    seconds: dict[str, list[float]] = {program: [] for program in GROWN}
    for _ in range(ROUNDS + 1):
        for program, done in seconds.items():
            began = time.process_time()
            values = PROGRAMS[program](models, x, names, BATCH)
            done.append(time.process_time() - began)
            if values is not None:
                errors[program] = float(np.nanmax(np.abs(values - exact)))
    for program, done in seconds.items():
        low, median, high = (round(float(np.quantile(done[1:], q)), 2) for q in (0.25, 0.5, 0.75))
        record = {"program": program, "rounds": ROUNDS, "low": low, "seconds": median, "high": high}
        RATIO_RESULTS.put({**record, "error": errors.get(program)})


def table() -> None:
    """Print the results as Markdown."""
    print_head("| one thread | processor seconds, quartiles | times pytorch-cka | largest difference |")
    timed = {row["program"]: row for row in RATIO_RESULTS.rows()}
    for program, one in timed.items():
        times = one["seconds"] / timed["pytorch-cka"]["seconds"]
        error = "" if one.get("error") is None else f"{one['error']:.1e}"
        print(f"| {program} | {one['seconds']} ({one['low']} to {one['high']}) | {times:.2f} | {error} |")
    print_head("\n| layers | batch | program | seconds | peak MB |")
    for one in GROWTH_RESULTS.rows():
        print(f"| {one['layers']} | {one['batch']} | {one['program']} | {one['seconds']} | {one['peak_mb']} |")
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    for case in CASES:
        ours = rows[case, "windvane"]
        print(f"\n{case}: {ours['n_layers']} layers, of which {ours['written_over']} are written over in place\n")
        print_head("| program | seconds | times windvane | peak MB | largest difference | where written over |")
        for program in PROGRAMS:
            one = rows[case, program]
            errors = [f"{one[key]:.1e}" if key in one else "" for key in ("error", "error_where_written_over")]
            ratio = one["seconds"] / ours["seconds"]
            print(f"| {program} | {one['seconds']} | {ratio:.2f} | {one['peak_mb']} | {' | '.join(errors)} |")
    print_head("\n| windvane takes so many times as long as | pytorch-cka | torch_cka |")
    for case in CASES:
        ours, *others = (rows[case, program]["seconds"] for program in ("windvane", "pytorch-cka", "torch_cka"))
        print(f"| {case} | {' | '.join(f'{ours / other:.3f}' for other in others)} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    for one in (running, commands.add_parser("growth")):
        one.add_argument("--repeats", type=int, default=REPEATS)
    commands.add_parser("ratio")
    commands.add_parser("table")
    commands.add_parser("measure").add_argument("arguments", type=json.loads, help="of `measure`, a JSON list")
    given = parser.parse_args(words)
    if given.command == "run":
        with tempfile.TemporaryDirectory() as folder:
            for case in given.cases:
                run(case, given.repeats, Path(folder))
    elif given.command == "growth":
        growth(given.repeats)
    elif given.command == "ratio":
        ratio()
    elif given.command == "measure":
        measure(*given.arguments)
    else:
        table()


if __name__ == "__main__":
    main()
