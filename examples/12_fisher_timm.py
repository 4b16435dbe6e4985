"""Watch the Fisher trace and keep it low in timm's training script: one line after it has made its optimizer.

The code below that line is what the script does at each step.
"""

import timm
import torch
from sklearn.datasets import load_digits
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import NativeScaler

from windvane.curvature import FisherPenalty, FisherTracker
from windvane.curvature.integrations.training_hooks import FisherHooks

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
images = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
labels = torch.tensor(y)
model = timm.create_model(
    "vit_tiny_patch16_224", img_size=8, patch_size=2, in_chans=1, embed_dim=48, depth=2, num_heads=3, num_classes=10
)
optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)

tracker = FisherTracker(model, every=20)
FisherHooks(model, optimizer, penalty=FisherPenalty(model, alpha=0.05, start_step=10), tracker=tracker)

loss_function, scaler = LabelSmoothingCrossEntropy(), NativeScaler(device="cpu")
for _ in range(60):
    rows = torch.randint(len(images), (32,))
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_function(model(images[rows]), labels[rows])
    scaler(loss, optimizer, clip_grad=None, parameters=model.parameters())
for record in tracker.records_:
    print(f"step {record.step}: Tr(F) {record.trace:.2f}")
