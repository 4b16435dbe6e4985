"""Watch the Fisher trace and keep it low in a Trainer of transformers. It needs ``pip install transformers``."""

import tempfile
import warnings

import torch
from sklearn.datasets import load_digits

warnings.simplefilter("ignore")  # of transformers, on its settings
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification  # noqa: E402

from windvane.curvature import FisherPenalty, FisherTracker  # noqa: E402
from windvane.curvature.integrations.huggingface import fisher_trainer  # noqa: E402

torch.manual_seed(0)
X, y = load_digits(return_X_y=True)
images = torch.tensor(X / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
examples = [{"pixel_values": image, "labels": int(label)} for image, label in zip(images, y, strict=True)]
size = {"image_size": 8, "patch_size": 2, "num_channels": 1, "hidden_size": 32, "intermediate_size": 64}
model = ViTForImageClassification(ViTConfig(**size, num_hidden_layers=2, num_attention_heads=2, num_labels=10))

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        max_steps=60,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        warmup_steps=20,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    tracker = FisherTracker(model, every=20)
    penalty = FisherPenalty(model, alpha=0.05, start_step=20)  # with Adam: after the warmup
    trainer = fisher_trainer(Trainer(model, arguments, train_dataset=examples), penalty=penalty, tracker=tracker)
    trainer.train()
for record in tracker.records_:
    print(
        f"step {record.step}: Tr(F) {record.trace:.2f}, most of it in {max(record.per_layer, key=record.per_layer.get)}"
    )
