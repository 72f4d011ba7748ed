"""Tiny doubles for models and tasks, and a network that is not there."""

import os
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from course_utils.data import Examples, Task, TokenizedTexts
from course_utils.journal import OFF
from course_utils.models import TextClassifier
from course_utils.prefix_cache import forget

# In CI the same examples every time, so that a failure there can be had again here.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


# The learner's journal is not for tests; the kernels of nbval inherit this.
os.environ["COURSE_JOURNAL"] = OFF


class FileOrSolution(LoadFileScheduling):
    """A worker takes a whole file (or notebook) at a time, but one lesson's solution."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}[{test.rpartition('[')[2]}" if "test_execution" in file else file


def pytest_xdist_make_scheduler(config, log):
    return FileOrSolution(config, log)


@pytest.fixture(autouse=True)
def nothing_cached():
    """No test finds what another one has computed."""
    forget()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch):
    """Any attempt to leave this machine fails; loopback and local sockets stay open."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise OSError(f"the test tried to reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def mirror() -> Path:
    """The mirror of public datasets, or a skip."""
    folder = Path(os.environ.get("COURSE_DATA_MIRROR", "../shared/data"))
    if not (folder / "README.md").is_file():
        pytest.skip("no mirror of public datasets: set COURSE_DATA_MIRROR")
    return folder.resolve()


class TinyTokenizer:
    """Just enough of a tokenizer: each character is a token."""

    pad_token_id = 0
    pad_token = "[PAD]"

    def __call__(self, texts, truncation=True, max_length=128):
        return {"input_ids": [[1 + ord(c) % 30 for c in text[:max_length]] for text in texts]}


def tiny_bert(num_classes: int = 3, dropout: float = 0.0, layers: int = 3) -> TextClassifier:
    """A BERT with 16 features and random weights."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = BertModel(config, add_pooling_layer=False)
    return TextClassifier(encoder, TinyTokenizer(), num_classes, dropout=dropout).eval()


def tiny_text_task(count: int = 60, num_classes: int = 3, seed: int = 0) -> Task:
    """Tokenized texts of 3 to 12 tokens whose class shows in the tokens they use."""
    generator = torch.Generator().manual_seed(seed)

    def examples(n: int) -> Examples:
        labels = torch.arange(n) % num_classes
        rows = [
            torch.randint(
                1 + 10 * int(y), 11 + 10 * int(y),
                (int(torch.randint(3, 13, (1,), generator=generator)),), generator=generator,
            ).tolist()
            for y in labels
        ]  # fmt: skip
        return Examples(TokenizedTexts.from_lists(rows), labels)

    names = tuple(f"class{i}" for i in range(num_classes))
    return Task("tiny texts", "text", names, examples(count), examples(30), examples(30))


def tiny_image_task(count: int = 24, num_classes: int = 2, size: int = 32) -> Task:
    """Noise whose brightness shows the class."""
    generator = torch.Generator().manual_seed(0)

    def examples(n: int) -> Examples:
        labels = torch.arange(n) % num_classes
        noise = torch.randint(0, 100, (n, 3, size, size), generator=generator)
        return Examples((noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)

    names = tuple(f"class{i}" for i in range(num_classes))
    return Task("tiny images", "image", names, examples(count), examples(12), examples(12))
