"""The paper's row for SimpleCNN on CIFAR-10 without augmentation, and what it says of the Fisher trace.

Claim: with the learning rate at a tenth of the best one, the Fisher trace rises higher early on and test accuracy is
lower; the Fisher Penalty lowers the one and gains back the other (Jastrzebski et al., arXiv 2012.14193, table 1: best
rate 76.9, a tenth 71.3, FP 79.7, GP_r 79.8, GP 75.7 with 50,000 images and 300 epochs).
Recipe: SGD, momentum 0.9, batch 128, rate x0.1 after half and three quarters of the epochs, no weight decay, no
augmentation; 10,000 training images (2,000 others choose rates and alphas, nothing else), 40 epochs, three seeds.
Hardware: 2 cores, no GPU. Cost, by `time` on a busy machine: 30 s for an epoch of 10,000 images with one thread, 31 s
with two, so one thread a run and two runs side by side: at most 20 minutes a plain run of 40 epochs, 25 with the
penalty, 40 with SAM for the same epochs; 5 runs for the rates, 12 for the alphas, 15 for the row. Repeats: 3 seeds.
Resumable: each run is a JSON of its own in results/curvature/runs, with its history; what exists is not run again.

    python benchmarks/fisher_replication.py time
    python benchmarks/fisher_replication.py run rates          choose the best rate (5 runs of one seed)
    python benchmarks/fisher_replication.py run alphas         choose alpha of FP, GP_r, GP at a tenth of it
    python benchmarks/fisher_replication.py run row            the paper's row: 5 settings x 3 seeds
    python benchmarks/fisher_replication.py run noise          25 % wrong labels: plain, FP, Mixup
    python benchmarks/fisher_replication.py run when           FP early, late, or from epoch 1, 2, 4 ... on
    python benchmarks/fisher_replication.py run equal_time     FP, GP, SAM, GNP within the same wall time
    python benchmarks/fisher_replication.py run alarm          a grid of rates and batch sizes, for the alarm
    python benchmarks/fisher_replication.py table              all tables, and the pictures
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from curvature_nets import RESULTS, cifar, simple_cnn
from torch import Tensor, nn
from torch.nn import functional

from windvane.curvature import (
    ExplosionAlarm,
    FisherPenalty,
    FisherRecord,
    FisherTracker,
    hessian_trace,
    memorisation,
)

RUNS = RESULTS / "runs"
RATES = (0.01, 0.0316, 0.1, 0.3162, 1.0)
ALPHAS = (0.01, 0.0316, 0.1, 0.3162)
METHODS = {"FP": "sampled", "GP_r": "uniform", "GP": "true"}
PAPER = {"best rate": 76.94, "a tenth": 71.32, "FP": 79.66, "GP_r": 79.76, "GP": 75.73}
STANDARD = {"epochs": 40, "images": 10_000}


@dataclass(frozen=True)
class Run:
    """One training run.

    `method` is plain, FP, GP_r, GP, Mixup, SAM or GNP; `alpha` the weight of the penalty (GNP: its share, SAM: none);
    `first` and `last` the epochs in which it acts; `seconds` a limit of wall time instead of epochs.
    """

    group: str
    method: str = "plain"
    rate: float = 0.1
    alpha: float = 0.0
    seed: int = 0
    batch: int = 128
    noise: float = 0.0
    first: int = 0
    last: int | None = None
    epochs: int = STANDARD["epochs"]
    images: int = STANDARD["images"]
    seconds: float | None = None
    threads: int = field(default=1, compare=False)

    @property
    def name(self) -> str:
        """Of its file; the number of threads makes no other run."""
        skip = ("threads",)
        return "-".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in asdict(self).items() if k not in skip
        )


@cache
def data(images: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training, validation and test part; the test part is never trained on nor chosen by."""
    x, y = cifar("train", images + 2000)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    x, y = x[order].contiguous(memory_format=torch.channels_last), y[order]
    return (x[:images], y[:images]), (x[images:], y[images:]), cifar("test")


def accuracy(model: nn.Module, part: tuple[Tensor, Tensor]) -> float:
    """Share of right predictions."""
    model.eval()
    with torch.no_grad():
        right = [
            (model(x).argmax(1) == y).sum().item()
            for x, y in zip(part[0].split(1000), part[1].split(1000), strict=True)
        ]
    model.train()
    return sum(right) / len(part[1])


def wrong_labels(y: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Give a share of the examples a label drawn from the other classes; labels and which are wrong."""
    generator = torch.Generator().manual_seed(seed + 1000)
    noisy = torch.rand(len(y), generator=generator) < share
    return torch.where(noisy, (y + torch.randint(1, 10, y.shape, generator=generator)) % 10, y), noisy


def ascent(model: nn.Module, loss: Callable[[], Tensor], share: float, radius: float) -> None:
    """Put (1 - share) g(here) + share g(here + radius g / ||g||) into the gradients: SAM with share 1, else GNP."""
    parameters = list(model.parameters())
    here = torch.autograd.grad(loss(), parameters)
    length = radius / torch.stack([g.norm() for g in here]).norm().item()
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        torch._foreach_add_(parameters, here, alpha=length)
    ahead = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        torch._foreach_copy_(parameters, kept)
    for p, a, b in zip(parameters, here, ahead, strict=True):
        p.grad = (1 - share) * a + share * b


def mixed(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup with Beta(1, 1)."""
    share = torch.rand((), generator=generator)
    other = torch.randperm(len(x), generator=generator)
    one_hot = functional.one_hot(y, 10).float()
    return share * x + (1 - share) * x[other], share * one_hot + (1 - share) * one_hot[other]


class Trainer:
    """One run from its start to its record."""

    def __init__(self, run: Run) -> None:
        self.run = run
        torch.manual_seed(run.seed)
        self.train, self.valid, self.test = data(run.images)
        self.labels, self.noisy = wrong_labels(self.train[1], run.noise, run.seed)
        self.model = simple_cnn().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), run.rate, momentum=0.9)
        self.generator = torch.Generator().manual_seed(run.seed)
        self.per_epoch = math.ceil(run.images / run.batch)
        self.tracker = FisherTracker(self.model, every=20, random_state=run.seed)
        self.penalty = self._penalty()
        self.history: list[dict[str, Any]] = []
        self.memory: list[dict[str, Any]] = []
        self.step = 0

    def _penalty(self) -> FisherPenalty | None:
        if self.run.method not in METHODS:
            return None
        stop = None if self.run.last is None else self.run.last * self.per_epoch
        return FisherPenalty(
            self.model,
            self.run.alpha,
            labels=METHODS[self.run.method],  # type: ignore[arg-type]
            start_step=self.run.first * self.per_epoch,
            stop_step=stop,
            random_state=self.run.seed,
        )

    def one_step(self, rows: Tensor) -> float:
        """Train on some rows; the loss, nan where it is not computed."""
        x, y = self.train[0][rows], self.labels[rows]
        if self.run.method in ("SAM", "GNP"):
            if self.step % self.tracker.every == 0:
                self.tracker.update(self.model(x), self.step)
            ascent(
                self.model,
                lambda: functional.cross_entropy(self.model(x), y),
                1.0 if self.run.method == "SAM" else self.run.alpha,
                0.05 if self.run.method == "SAM" else 0.1,
            )
            self.optimizer.step()
            return math.nan
        targets: Tensor = y
        if self.run.method == "Mixup":
            x, targets = mixed(x, y, self.generator)
        logits = self.model(x)
        self.tracker.update(logits, self.step)
        if self.run.noise and self.step % 100 == 0 and self.run.method != "Mixup":
            self.memory.append(asdict(memorisation(self.model, logits, y, self.noisy[rows], self.step)))
        loss = functional.cross_entropy(logits, targets)
        self.optimizer.zero_grad()
        loss.backward()
        if self.penalty is not None:
            self.penalty(lambda: self.model(x), y)
        self.optimizer.step()
        return loss.item()

    def __call__(self) -> dict[str, Any]:
        """Train to the end."""
        torch.set_num_threads(self.run.threads)
        spent = 0.0
        epoch = 0
        while epoch < self.run.epochs and (self.run.seconds is None or spent < self.run.seconds):
            begin = time.perf_counter()
            done = epoch / self.run.epochs if self.run.seconds is None else spent / self.run.seconds
            for group in self.optimizer.param_groups:
                group["lr"] = self.run.rate * (1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01)
            losses = []
            for rows in torch.randperm(self.run.images, generator=self.generator).split(self.run.batch):
                losses.append(self.one_step(rows))
                self.step += 1
            spent += time.perf_counter() - begin
            epoch += 1
            self.history.append(
                {
                    "epoch": epoch,
                    "loss": float(np.nanmean(losses)) if not all(map(math.isnan, losses)) else None,
                    "valid": accuracy(self.model, self.valid),
                    "test": accuracy(self.model, self.test),
                    "seconds": spent,
                }
            )
            if not math.isfinite(losses[-1]) and self.run.method not in ("SAM", "GNP"):
                break  # it diverged
        return self._record()

    def _record(self) -> dict[str, Any]:
        part = self.train[0][:1000], self.labels[:1000]
        self.model.eval()
        flat = hessian_trace(self.model, lambda: functional.cross_entropy(self.model(part[0]), part[1]), probes=10)
        fit = {"clean": accuracy(self.model, (self.train[0][~self.noisy], self.labels[~self.noisy]))}
        if self.run.noise:
            fit["noisy"] = accuracy(self.model, (self.train[0][self.noisy], self.labels[self.noisy]))
        late = [r.trace for r in self.tracker.records_ if r.step >= self.per_epoch]
        return {
            "run": asdict(self.run),
            "test": self.history[-1]["test"],
            "valid": self.history[-1]["valid"],
            "best_epoch_test": max(self.history, key=lambda one: one["valid"])["test"],
            "peak_trace": max((float(np.mean(late[i : i + 5])) for i in range(max(1, len(late) - 4))), default=math.nan)
            if late
            else math.nan,
            "hessian": [flat.trace, flat.standard_error],
            "train_fit": fit,
            "seconds": self.history[-1]["seconds"],
            "history": self.history,
            "records": [[r.step, round(r.trace, 5)] for r in self.tracker.records_],
            "layers": [
                {name: round(value, 5) for name, value in r.per_layer.items()} for r in self.tracker.records_[::10]
            ],
            "memorisation": self.memory,
        }


def finished(group: str) -> list[dict[str, Any]]:
    """Read the runs of a group that are done."""
    return [json.loads(path.read_text()) for path in sorted(RUNS.glob(f"group={group}-*.json"))]


def best(group: str, method: str) -> dict[str, Any]:
    """Find what did best on the validation part in a group."""
    found = [one for one in finished(group) if one["run"]["method"] == method]
    if not found:
        raise SystemExit(f"Run the group {group!r} first: no run of {method} there.")
    return max(found, key=lambda one: one["valid"] if math.isfinite(one["valid"]) else -1.0)["run"]


def planned(group: str, base: Run) -> Iterator[Run]:
    """List the runs of a group; what earlier groups chose is read from their files."""
    if group == "rates":
        yield from (replace(base, rate=rate) for rate in RATES)
        return
    rate = best("rates", "plain")["rate"]
    low = replace(base, rate=rate / 10)
    if group == "alphas":
        yield from (replace(low, method=m, alpha=a) for m in METHODS for a in ALPHAS)
        return
    if group == "alarm":
        yield from (replace(base, rate=r, batch=b) for r in RATES for b in (32, 128, 512))
        return
    alpha = {method: best("alphas", method)["alpha"] for method in METHODS}
    penalised = {m: replace(low, method=m, alpha=alpha[m]) for m in METHODS}
    for seed in range(3):
        settings: list[Run] = []
        if group == "row":
            settings = [replace(base, rate=rate), low, *penalised.values()]
        elif group == "noise":
            settings = [
                replace(low, noise=0.25),
                replace(low, noise=0.25, method="Mixup"),
                replace(base, rate=rate, noise=0.25),
            ]
            settings += [replace(penalised["FP"], noise=0.25)]
        elif group == "when":
            onsets = [epoch for epoch in (1, 2, 4, 8, 16) if epoch < base.epochs]
            settings = [
                replace(penalised["FP"], last=base.epochs // 4),
                replace(penalised["FP"], first=base.epochs // 4),
            ]
            settings += [replace(penalised["FP"], first=epoch) for epoch in onsets]
        elif group == "equal_time":
            limit = float(np.median([r["seconds"] for r in finished("row") if r["run"]["method"] == "plain"]))
            timed = {"seconds": round(limit, 1), "epochs": 10 * base.epochs}
            settings = [replace(low, **timed), replace(low, method="SAM", **timed)]
            settings += [replace(low, method="GNP", alpha=0.8, **timed)]
            settings += [replace(penalised[m], **timed) for m in ("FP", "GP")]
        yield from (replace(one, seed=seed) for one in settings)


def run_group(group: str, base: Run) -> None:
    """Run what of a group is not done yet."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for run in planned(group, base):
        path = RUNS / f"{run.name}.json"
        if path.exists():
            continue
        record = Trainer(run)()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(record))
        part.replace(path)
        print(
            f"{run.name}: test {100 * record['test']:.2f}, peak Tr(F) {record['peak_trace']:.2f}, "
            f"{record['seconds']:.0f} s",
            flush=True,
        )


def time_it(base: Run) -> None:
    """Seconds of an epoch by number of threads."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        trainer = Trainer(replace(base, threads=threads))
        rows = torch.randperm(base.images)[:1280].split(base.batch)
        trainer.one_step(rows[0])
        begin = time.perf_counter()
        for batch in rows:
            trainer.step += 1
            trainer.one_step(batch)
        seconds = (time.perf_counter() - begin) * base.images / 1280
        print(f"{threads} thread(s): {seconds:.1f} s for an epoch of {base.images} images")


def spread(found: list[dict[str, Any]], key: str = "test", scale: float = 100.0) -> str:
    """Write mean and standard deviation over seeds."""
    values = [scale * one[key] for one in found]
    error = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}" if values else "-"


def size(found: list[dict[str, Any]]) -> str:
    """Name epochs, images and seeds."""
    runs = [one["run"] for one in found]
    epochs = sorted({len(one["history"]) for one in found})
    return (
        f"{'-'.join(map(str, epochs))} epochs, {runs[0]['images']:,} images, {len(runs)} seed(s)" if runs else "no runs"
    )


def chosen(group: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read the runs of a table's row, by fields of the run."""
    return [one for one in finished(group) if all(one["run"][k] == v for k, v in wanted.items())]


def table() -> None:
    """Print all tables and draw all pictures."""
    from fisher_pictures import draw

    print("| rate | test % | peak Tr(F) | | |\n|---|---|---|---|---|")
    for rate in RATES:
        found = chosen("rates", {"rate": rate})
        print(
            f"| {rate} | {spread(found)} | {spread(found, 'peak_trace', 1.0)} | valid {spread(found, 'valid')} "
            f"| {size(found)} |"
        )
    if not finished("rates"):
        return
    rate = best("rates", "plain")["rate"]
    print("\n| setting | test % | peak Tr(F) | Tr(H) at the end | train % | paper | |\n|---|---|---|---|---|---|---|")
    for name in PAPER:
        method = name if name in METHODS else "plain"
        found = chosen("row", {"method": method, "rate": rate if name == "best rate" else rate / 10})
        flat = [{"value": one["hessian"][0]} for one in found]
        fit = [{"value": one["train_fit"]["clean"]} for one in found]
        print(
            f"| {name} | {spread(found)} | {spread(found, 'peak_trace', 1.0)} | {spread(flat, 'value', 1.0)} "
            f"| {spread(fit, 'value')} | {PAPER[name]} | {size(found)} |"
        )
    print(
        "\n25 % wrong labels\n\n| setting | test % at the end | at best validation epoch | fit of clean, noisy % | |"
        "\n|---|---|---|---|---|"
    )
    for name, wanted in {
        "a tenth": {"method": "plain", "rate": rate / 10},
        "best rate": {"method": "plain", "rate": rate},
        "FP": {"method": "FP"},
        "Mixup": {"method": "Mixup"},
    }.items():
        found = chosen("noise", wanted)
        fits = [spread([{"v": one["train_fit"][part]} for one in found], "v") for part in ("clean", "noisy")]
        print(
            f"| {name} | {spread(found)} | {spread(found, 'best_epoch_test')} | {fits[0]}, {fits[1]} | {size(found)} |"
        )
    print("\nWhen the penalty acts\n\n| epochs | test % | |\n|---|---|---|")
    for first, last in sorted({(o["run"]["first"], o["run"]["last"] or math.inf) for o in finished("when")}):
        found = chosen("when", {"first": first, "last": None if last == math.inf else last})
        print(f"| {first} to {'the end' if last == math.inf else last} | {spread(found)} | {size(found)} |")
    print("\nEqual wall time\n\n| method | test % | seconds | |\n|---|---|---|---|")
    for method in ("plain", "FP", "GP", "SAM", "GNP"):
        found = chosen("equal_time", {"method": method})
        print(f"| {method} | {spread(found)} | {spread(found, 'seconds', 1.0)} | {size(found)} |")
    alarm_table()
    print("\n".join(str(path) for path in draw(finished, RESULTS)))


def alarm_table() -> None:
    """Count alarms on runs within 2 points of the best of their batch size, and on the others."""
    runs = finished("alarm")
    counts = {good: [0, 0] for good in (True, False)}
    for one in runs:
        peers = [other["test"] for other in runs if other["run"]["batch"] == one["run"]["batch"]]
        alarm = ExplosionAlarm(warmup_steps=math.ceil(one["run"]["images"] / one["run"]["batch"]))
        for step, trace in one["records"]:
            alarm.update(FisherRecord(step, trace, math.nan, "nothing", {}, one["run"]["batch"], 1))
        good = one["test"] > max(peers) - 0.02
        counts[good][0] += bool(alarm.alarms_)
        counts[good][1] += 1
    print(
        f"\nAlarm: on {counts[True][0]} of {counts[True][1]} good runs, "
        f"on {counts[False][0]} of {counts[False][1]} others"
    )


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("time", "run", "table"))
    parser.add_argument("group", nargs="?", choices=("rates", "alphas", "row", "noise", "when", "equal_time", "alarm"))
    parser.add_argument("--epochs", type=int, default=STANDARD["epochs"])
    parser.add_argument("--images", type=int, default=STANDARD["images"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    base = Run(arguments.group or "time", epochs=arguments.epochs, images=arguments.images, threads=arguments.threads)
    if arguments.command == "table":
        table()
    elif arguments.command == "time":
        time_it(base)
    elif arguments.group is None:
        parser.error("run needs a group")
    else:
        run_group(arguments.group, base)


if __name__ == "__main__":
    main()
