"""Watch the Fisher trace and keep it low in Lightning: a callback. It needs ``pip install lightning``."""

import logging
import warnings

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")  # Lightning's advice on loaders
import lightning  # noqa: E402

from windvane.curvature import FisherPenalty, FisherTracker  # noqa: E402
from windvane.curvature.integrations.lightning import fisher_callback  # noqa: E402


class Digits(lightning.LightningModule):
    """A classifier as it would be without windvane."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


lightning.seed_everything(0, verbose=False)
X, y = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y))
model = Digits()
tracker = FisherTracker(model, every=20)
trainer = lightning.Trainer(
    max_epochs=4,
    accelerator="cpu",
    gradient_clip_val=1.0,
    callbacks=[fisher_callback(penalty=FisherPenalty(model, alpha=0.05), tracker=tracker)],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True))
for record in tracker.records_:
    print(f"step {record.step}: Tr(F) {record.trace:.2f}")
