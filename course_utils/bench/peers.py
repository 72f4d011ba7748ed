"""The tools that people would otherwise use, each doing the same work in its own way.

Each function trains `work.model` in place: with the tool's defaults, or tuned as well as the tool
lets itself be tuned on this hardware. Learning rate (constant), batch size, epochs, weight decay
and data are the same for all.
"""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from course_utils.data import Examples, TokenizedTexts
from course_utils.device import choose_compute

WEIGHT_DECAY = 0.01


@dataclass
class Work:
    """A model (some of whose stages may be frozen) and what to do with it."""

    model: nn.Module
    train: Examples
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


class Items(Dataset):
    """Examples one by one, as a tool's data loader wants them."""

    def __init__(self, work: Work, names: tuple[str, str] = ("inputs", "labels")):
        self.examples, self.names = work.train, names
        self.pixels = getattr(work.model, "pixels", None)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> dict:
        inputs: Any = self.examples.inputs[i]
        if self.pixels is None:
            inputs = inputs.long()
        else:
            inputs = self.pixels.normalize(inputs.unsqueeze(0)).squeeze(0)
        return {self.names[0]: inputs, self.names[1]: int(self.examples.labels[i])}


def collate(rows: list[dict]) -> tuple[Tensor, ...]:
    """(inputs, labels) of images, (ids, mask, labels) of texts, padded to the longest."""
    labels = torch.tensor([row["labels"] for row in rows])
    inputs = [row["inputs"] for row in rows]
    if inputs[0].ndim == 3:
        return torch.stack(inputs), labels
    lengths = torch.tensor([len(ids) for ids in inputs])
    padded = pad_sequence(inputs, batch_first=True)
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long(), labels


def grouped(work: Work):
    """A sampler that puts texts of like length together, for loaders that have none."""
    from transformers.trainer_pt_utils import LengthGroupedSampler

    generator = torch.Generator().manual_seed(work.seed)
    assert isinstance(work.train.inputs, TokenizedTexts)
    lengths = work.train.inputs.lengths.tolist()
    return LengthGroupedSampler(work.batch_size, lengths=lengths, generator=generator)


def loader(work: Work, tuned: bool) -> DataLoader:
    if tuned and isinstance(work.train.inputs, TokenizedTexts):
        return DataLoader(Items(work), work.batch_size, sampler=grouped(work), collate_fn=collate)
    return DataLoader(Items(work), work.batch_size, shuffle=True, collate_fn=collate)


def device() -> torch.device:
    return choose_compute().device


def bf16() -> bool:
    """Whether bf16 is worth asking for on this hardware."""
    return choose_compute().precision == "bf16"


def trained_weights(work: Work) -> list[nn.Parameter]:
    return [weight for weight in work.model.parameters() if weight.requires_grad]


def tutorial_loop(work: Work, tuned: bool) -> None:
    """The loop of the PyTorch tutorials; tuned: autocast, grouping, channels last, fused AdamW."""
    model = work.model.to(device())
    if tuned:
        optimizer = torch.optim.AdamW(
            trained_weights(work), work.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
    else:
        model = model.to(memory_format=torch.contiguous_format)
        optimizer = torch.optim.AdamW(
            trained_weights(work), work.learning_rate, weight_decay=WEIGHT_DECAY
        )
    batches = loader(work, tuned)
    precision = torch.autocast(device().type, torch.bfloat16) if tuned and bf16() else nullcontext()
    for _ in range(work.epochs):
        model.train()
        for *inputs, labels in batches:
            inputs = [x.to(device()) for x in inputs]
            if tuned and inputs[0].ndim == 4:
                inputs = [inputs[0].to(memory_format=torch.channels_last)]
            optimizer.zero_grad()
            with precision:
                logits = model(*inputs)
            loss = F.cross_entropy(logits.float(), labels.to(device()))
            loss.backward()
            optimizer.step()


class WithLoss(nn.Module):
    """A model in the form that Trainer wants: labels in, loss and logits out."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self, labels: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        texts = attention_mask is not None
        logits = self.model(input_ids, attention_mask) if texts else self.model(input_ids)
        return {"loss": F.cross_entropy(logits.float(), labels), "logits": logits}


def trainer(work: Work, tuned: bool) -> None:
    """Hugging Face Trainer; tuned: bf16, batches grouped by length, fused AdamW, no logging."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    texts = isinstance(work.train.inputs, TokenizedTexts)
    better: dict = {}
    if tuned:
        better = dict(bf16=bf16(), optim="adamw_torch_fused", logging_strategy="no")
    if tuned and texts:
        better["train_sampling_strategy"] = "group_by_length"
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, num_train_epochs=work.epochs, learning_rate=work.learning_rate,
            per_device_train_batch_size=work.batch_size, weight_decay=WEIGHT_DECAY,
            lr_scheduler_type="constant", seed=work.seed, report_to="none", save_strategy="no",
            use_cpu=device().type == "cpu", disable_tqdm=True, remove_unused_columns=False,
            dataloader_pin_memory=device().type == "cuda", **better,
        )  # fmt: skip
        names = ("input_ids", "labels")
        padding = DataCollatorWithPadding(work.model.tokenizer) if texts else None
        Trainer(
            WithLoss(work.model), settings, train_dataset=Items(work, names), data_collator=padding
        ).train()


def fastai(work: Work, tuned: bool) -> None:
    """fastai's Learner; tuned: its sorted loader, bf16 autocast, fused AdamW."""
    import fastai.callback.progress  # noqa: F401  (gives Learner its no_bar)
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as FastaiLoader
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.text.data import SortedDL

    class Bf16(Callback):
        """fastai's own mixed precision asks for CUDA; this is the same on a CPU."""

        def before_batch(self) -> None:
            self.cast = torch.autocast(device().type, torch.bfloat16)
            self.cast.__enter__()

        def after_pred(self) -> None:
            self.learn.pred = self.pred.float()
            self.cast.__exit__(None, None, None)

    options = dict(bs=work.batch_size, shuffle=True, create_batch=collate, device=device())
    if tuned and isinstance(work.train.inputs, TokenizedTexts):
        lengths = work.train.inputs.lengths.tolist()
        batches = SortedDL(Items(work), res=lengths, sort_func=lambda row: len(row["inputs"]),
                           **options)  # fmt: skip
    else:
        batches = FastaiLoader(Items(work), num_workers=0, **options)
    better: dict = {}
    if tuned:
        fused = {"opt": torch.optim.AdamW, "fused": True}
        better["opt_func"] = lambda weights, **changes: OptimWrapper(weights, **fused, **changes)
        better["cbs"] = [Bf16()] if bf16() else []
    learner = Learner(
        DataLoaders(batches, batches, device=device()), work.model, loss_func=F.cross_entropy,
        wd=WEIGHT_DECAY, splitter=lambda _: [trained_weights(work)], **better,
    )  # fmt: skip
    learner._do_epoch_validate = lambda *_: None  # the others do not validate either
    with learner.no_bar(), learner.no_logging():
        learner.fit(work.epochs, work.learning_rate)


def lightning(work: Work, tuned: bool) -> None:
    """PyTorch Lightning; tuned: bf16-mixed, grouping by length, fused AdamW."""
    import logging
    import warnings

    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = work.model

        def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
            *inputs, labels = batch
            return F.cross_entropy(self.model(*inputs).float(), labels)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(
                trained_weights(work), work.learning_rate, weight_decay=WEIGHT_DECAY,
                fused=tuned or None,
            )  # fmt: skip

    better: dict = {"precision": "bf16-mixed"} if tuned and bf16() else {}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # its advice on the number of workers
        pl.seed_everything(work.seed, verbose=False)
        pl.Trainer(
            max_epochs=work.epochs, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
            accelerator=device().type, devices=1, **better,
        ).fit(Module(), loader(work, tuned))  # fmt: skip


PEERS: dict[str, Callable[[Work, bool], None]] = {
    "Trainer": trainer,
    "fastai": fastai,
    "Lightning": lightning,
    "tutorial loop": tutorial_loop,
}
