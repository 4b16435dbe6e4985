from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from windvane.curvature import FisherPenalty, FisherTracker
from windvane.curvature.integrations.huggingface import fisher_trainer
from windvane.errors import InputError

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # remarks of transformers on its settings


class Classifier(nn.Module):
    """Returns loss and logits, as models of transformers do; one row, or one for each token."""

    def __init__(self, *, tokens: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.tokens = nn.Embedding(11, 8), nn.Linear(8, 3), tokens

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        hidden = self.embed(input_ids)  # (n, t, 8)
        logits = self.head(hidden if self.tokens else hidden.mean(dim=1))
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
        return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)


def examples(*, tokens: bool = False) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(11, (32, 4), generator=generator)
    labels = ids % 3 if tokens else ids[:, 0] % 3
    if tokens:
        labels[:, -1] = -100
    return [{"input_ids": i, "labels": y} for i, y in zip(ids, labels, strict=True)]


def trainer(
    model: nn.Module, path: Path, *, tokens: bool = False, parts: int = 1, save: str = "no", logs: str = "steps"
) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(path),
        max_steps=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=parts,
        max_grad_norm=0.5,
        report_to=[],
        save_strategy=save,
        save_steps=3,
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy=logs,
        seed=0,
    )
    return transformers.Trainer(model=model, args=arguments, train_dataset=examples(tokens=tokens))


@pytest.mark.parametrize("labels", ["sampled", "true"])
@pytest.mark.parametrize("parts", [1, 2])
def test_measures_and_penalises_each_optimiser_step(tmp_path: Path, labels: Any, parts: int) -> None:
    model = Classifier()
    penalty, tracker = FisherPenalty(model, 1.0, labels=labels), FisherTracker(model, every=2)
    made = fisher_trainer(trainer(model, tmp_path, parts=parts), penalty=penalty, tracker=tracker)
    made.train()
    assert penalty.step_ == 4
    assert [record.step for record in tracker.records_] == [0, 2]
    assert sum("fisher/trace" in entry for entry in made.state.log_history) == 2


def test_a_trainer_that_does_not_log(tmp_path: Path) -> None:
    model = Classifier()
    made = fisher_trainer(trainer(model, tmp_path, logs="no"), tracker=FisherTracker(model))
    made.train()
    assert not any("fisher/trace" in entry for entry in made.state.log_history)


def test_alpha_changes_training_and_zero_does_not(tmp_path: Path) -> None:
    found = []
    for alpha in (None, 0.0, 5.0):
        model = Classifier()
        made = trainer(model, tmp_path)
        if alpha is not None:
            fisher_trainer(made, penalty=FisherPenalty(model, alpha))
        made.train()
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("last", [True, False])
def test_a_resumed_run_goes_on_from_the_checkpoint(tmp_path: Path, last: bool) -> None:
    found = []
    for stopped in (False, True):
        model = Classifier()
        path = tmp_path / str(stopped)
        for part in range(1 + stopped):
            penalty, tracker = FisherPenalty(model, 1.0, every=2), FisherTracker(model, every=1)
            made = fisher_trainer(trainer(model, path, save="steps"), penalty=penalty, tracker=tracker)
            if stopped and part == 0:
                made.args.max_steps = 3
            made.args.lr_scheduler_type = "constant"
            made.train(resume_from_checkpoint=(last or str(path / "checkpoint-3")) if part else None)
        found.append((penalty, tracker, torch.cat([p.detach().flatten() for p in model.parameters()])))
    whole, again = found
    assert whole[0].step_ == again[0].step_ == 4
    assert [record.trace for record in again[1].records_] == [record.trace for record in whole[1].records_]
    assert torch.equal(whole[2], again[2])


def test_tokens_that_count(tmp_path: Path) -> None:
    model = Classifier(tokens=True)
    tracker = FisherTracker(model, every=2)
    plain = fisher_trainer(trainer(model, tmp_path, tokens=True), tracker=FisherTracker(model))
    with pytest.raises(InputError, match="logits_of"):
        plain.train()
    made = trainer(model, tmp_path, tokens=True)
    fisher_trainer(
        made, tracker=tracker, logits_of=lambda m, inputs: m(inputs["input_ids"]).logits[inputs["labels"] != -100]
    )
    made.train()
    assert [record.n_examples for record in tracker.records_] == [12, 12]  # 4 sequences of 4 tokens, the last ones out


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_what_several_processes_call_is_followed(tmp_path: Path, one_process: None) -> None:
    model = Classifier()
    penalty, tracker = FisherPenalty(model, 1.0), FisherTracker(model)
    made = fisher_trainer(trainer(model, tmp_path), penalty=penalty, tracker=tracker)
    wrapper = nn.parallel.DistributedDataParallel(model)
    batch = made.data_collator([made.train_dataset[i] for i in range(4)])
    made.current_gradient_accumulation_steps = 1  # which train() sets
    made.training_step(wrapper, batch)
    assert penalty.model is wrapper
    assert tracker.model is wrapper
    assert penalty.step_ == len(tracker.records_) == 1


def test_gradients_of_float16_are_unscaled_later(tmp_path: Path) -> None:
    extras = []
    for scale in (None, 8.0):
        model = Classifier()
        made = fisher_trainer(trainer(model, tmp_path), penalty=FisherPenalty(model, 1.0))
        batch = made.data_collator([made.train_dataset[i] for i in range(4)])
        if scale is not None:
            made.accelerator.scaler = SimpleNamespace(get_scale=lambda: 8.0, scale=lambda loss: loss)
        made.current_gradient_accumulation_steps = 1  # which train() sets
        made.training_step(model, batch)
        both = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        model(**batch).loss.backward()
        extras.append(both - torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(extras[1], 8 * extras[0])


def test_no_trainer() -> None:
    with pytest.raises(InputError, match="type int"):
        fisher_trainer(3)
