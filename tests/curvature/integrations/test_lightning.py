from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from windvane.curvature import ExplosionAlarm, ExplosionWarning, FisherPenalty, FisherTracker
from windvane.curvature.integrations.lightning import _scale, fisher_callback

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's remarks on loaders, loggers and its dependencies


class Net(lightning.LightningModule):  # type: ignore[misc,name-defined]
    """A network with its loss and optimiser."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def loader() -> DataLoader[Any]:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16)


def fit(path: Path, callbacks: list[Any], epochs: int = 2, **settings: Any) -> tuple[Net, Any]:
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        **settings,
    )
    model = callbacks[0].made_for if hasattr(callbacks[0], "made_for") else Net()
    trainer.callbacks.extend(callbacks)
    trainer.fit(model, loader())
    return model, trainer


@pytest.mark.parametrize("labels", ["sampled", "true"])
def test_measures_and_penalises_each_optimiser_step(tmp_path: Path, labels: Any) -> None:
    model = Net()
    penalty, tracker = FisherPenalty(model, 1.0, every=2, labels=labels), FisherTracker(model, every=2)
    callback = fisher_callback(penalty=penalty, tracker=tracker)
    callback.made_for = model
    _, trainer = fit(tmp_path, [callback], accumulate_grad_batches=2, gradient_clip_val=0.5)
    assert penalty.step_ == 4  # 4 batches an epoch, 2 epochs, 2 batches a step
    assert [record.step for record in tracker.records_] == [0, 2]
    assert "fisher/trace" in trainer.callback_metrics


def test_an_alarm_warns(tmp_path: Path) -> None:
    model = Net()
    alarm = ExplosionAlarm(window=1, patience=1, warn=1.0001, strong=1e9)
    callback = fisher_callback(tracker=FisherTracker(model, every=1), alarm=alarm)
    callback.made_for = model
    with pytest.warns(ExplosionWarning):
        fit(tmp_path, [callback])
    assert len(alarm.alarms_) == 1


def test_passes_run_in_the_precision_of_the_trainer(tmp_path: Path) -> None:
    class Watched(Net):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            seen.add(found.dtype)
            return found

    seen: set[torch.dtype] = set()
    model = Watched()
    callback = fisher_callback(penalty=FisherPenalty(model, 1.0), tracker=FisherTracker(model, every=2))
    callback.made_for = model
    fit(tmp_path, [callback], epochs=1, precision="bf16-mixed")
    assert seen == {torch.bfloat16}


def test_what_gradients_are_still_multiplied_by() -> None:
    precision = SimpleNamespace(scaler=SimpleNamespace(get_scale=lambda: 8.0))
    fused, plain = SimpleNamespace(_step_supports_amp_scaling=True), SimpleNamespace()
    assert _scale(precision, fused) == 8.0
    assert _scale(precision, plain) == 1.0
    assert _scale(SimpleNamespace(scaler=None), fused) == _scale(SimpleNamespace(), fused) == 1.0


def test_alpha_changes_training_and_zero_does_not(tmp_path: Path) -> None:
    found, states = [], []
    for alpha in (None, 0.0, 5.0):
        model = Net()
        callback = fisher_callback(penalty=None if alpha is None else FisherPenalty(model, alpha))
        callback.made_for = model
        torch.manual_seed(1)
        fit(tmp_path, [callback])
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1]), "the masks of dropout differ: something else drew random numbers"
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_checkpoint_holds_the_state(tmp_path: Path) -> None:
    model = Net()
    penalty, tracker = FisherPenalty(model, 1.0), FisherTracker(model, every=2)
    callback = fisher_callback(penalty=penalty, tracker=tracker)
    callback.made_for = model
    _, trainer = fit(tmp_path, [callback])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]["FisherCallback"]
    again = FisherPenalty(model, 1.0), FisherTracker(model, every=2)
    fisher_callback(penalty=again[0], tracker=again[1]).load_state_dict(kept)
    assert again[0].step_ == 8
    assert [r.scalars() for r in again[1].records_] == [r.scalars() for r in tracker.records_]
