"""Fit a tiny model, in as many processes as torchrun started, and write weights and losses.

python -m torch.distributed.run --nproc-per-node=2 tests/parallel_worker.py FILE SETTINGS
"""

import json
import os
import sys

import torch
from conftest import tiny_bert, tiny_text_task

from course_utils import parallel
from course_utils.recipes import full_finetuning
from course_utils.train import fit


def work(settings: dict) -> dict:
    """Weights after training, and the losses of its epochs."""
    count, dropout = settings.pop("count", 41), settings.pop("dropout", 0.0)
    shard = settings.pop("shard", False)
    checkpoint = settings.pop("checkpoint", None)
    dies_after = settings.pop("dies_after", None)  # epoch
    recipe = full_finetuning(
        **{"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", **settings}
    )
    model = tiny_bert(dropout=dropout)

    def die(epoch) -> None:
        if epoch.number == dies_after:
            os._exit(1)  # at once, before this epoch's end is saved

    history = fit(
        model, tiny_text_task(count), recipe, seed=3, silent=True, shard=shard,
        checkpoint=checkpoint, checkpoint_every=2, on_epoch=die,
    )  # fmt: skip
    return {
        "weights": model.state_dict(),
        "train_loss": history.column("train_loss"),
        "valid_loss": history.column("valid_loss"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    result = work(json.loads(sys.argv[2]))
    torch.save(result, f"{sys.argv[1]}.{parallel.rank()}")
