"""Pre-train a small GPT-2 on the docstrings of the installed packages (see corpus.py).

    python data/models/gpt2_docstrings/train.py --work build/gpt2

The run is resumable: stop it at any time and start it again with the same command. It ends by
writing the folder in the form that transformers reads: `config.json`, `tokenizer.json`,
`tokenizer_config.json`, `model.safetensors` (half precision) and `result.json`.

The architecture is transformers' own GPT-2. Matrices inside the layers are trained by Muon (Jordan
et al., 2024): momentum whose singular values are all made equal, so that a short run gets further.
torch has it too, but computes in bfloat16, which a processor without such instructions does
hundreds of times more slowly; so it is written out here in fp32.
"""

import argparse
import hashlib
import json
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from corpus import HELD_OUT, documents
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

HERE = Path(__file__).parent
END = "<|endoftext|>"
VOCABULARY = 4096
CONTEXT = 256  # tokens
BATCH = 24  # sequences a step
EPOCHS = 2
MATRIX_RATE, OTHER_RATE = 0.02, 3e-3  # peak learning rates of Muon and of AdamW
WARMUP = 0.02  # fraction of all steps; then linear to zero
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the iteration


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for matrices that map vectors to vectors."""

    def __init__(self, weights, momentum: float = 0.95):
        super().__init__(weights, dict(lr=0.0, momentum=momentum))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            steps: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for weight in group["params"]:
                state = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                step = weight.grad.lerp(average, group["momentum"])
                # queries, keys and values are three matrices side by side
                wide = step.shape[1] == 3 * step.shape[0]
                for piece, part in zip(
                    weight.chunk(3, 1) if wide else [weight],
                    step.chunk(3, 1) if wide else [step],
                    strict=True,
                ):
                    steps.setdefault(piece.shape, []).append((piece, part))
            for shape, pairs in steps.items():  # equal shapes together: fewer, larger products
                moves = orthogonalised(torch.stack([part for _, part in pairs]))
                scale = max(1.0, shape[1] / shape[0]) ** 0.5
                for (piece, _), move in zip(pairs, moves, strict=True):
                    piece.sub_(move, alpha=group["lr"] * scale)


def orthogonalised(x: Tensor, iterations: int = 5) -> Tensor:
    """(n, a, b) → the same with all singular values near 1, by the Newton–Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair encoding (Sennrich et al., 2016), as GPT-2's but smaller."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END,
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def prepare(work: Path) -> tuple[PreTrainedTokenizerFast, dict[str, Tensor], dict]:
    """Tokenizer, the ids of both parts laid end to end, and facts about the text; made once."""
    folder = work / "text"
    if not (folder / "facts.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = documents()
        parts = {
            "train": [text for package, text in found if package not in HELD_OUT],
            "held out": [text for package, text in found if package in HELD_OUT],
        }
        tokenizer = train_tokenizer(parts["train"])
        tokenizer.save_pretrained(folder)
        facts = {"held out packages": list(HELD_OUT)}
        for name, texts in parts.items():
            encoded = tokenizer([END + text for text in texts])["input_ids"]
            ids = np.concatenate([np.asarray(each, dtype=np.uint16) for each in encoded])
            np.save(folder / f"{name}.npy", ids)
            facts[name] = {
                "docstrings": len(texts), "bytes": sum(len(text) for text in texts),
                "tokens": len(ids), "sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
            }  # fmt: skip
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    ids = {name: torch.from_numpy(np.load(folder / f"{name}.npy").astype(np.int64))
           for name in ("train", "held out")}  # fmt: skip
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer, ids, json.loads((folder / "facts.json").read_text())


def build_model(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=256, n_layer=4, n_head=4,
        activation_function="gelu_pytorch_tanh", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def loss_of(model: nn.Module, rows: Tensor) -> Tensor:
    """Mean cross-entropy in nats of predicting each next token; rows (B, T + 1)."""
    logits = model(rows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def mean_loss(model: nn.Module, ids: Tensor) -> float:
    """Over all of `ids`, in windows of the whole context."""
    model.eval()
    rows = ids[: (len(ids) - 1) // CONTEXT * CONTEXT + 1].unfold(0, CONTEXT + 1, CONTEXT)
    losses = [loss_of(model, part).item() * len(part) for part in rows.split(BATCH)]
    return sum(losses) / len(rows)


def rate_factor(progress: float) -> float:
    return min(progress / WARMUP, (1 - progress) / (1 - WARMUP))


def write_card(result: dict) -> None:
    """Put the measured result into the model card beside this file."""
    card = HERE / "README.md"
    train, held = result["text"]["train"], result["text"]["held out"]
    line = (
        f"Trained on {train['docstrings']:,} docstrings ({train['bytes'] / 1e6:.1f} million "
        f"characters, {train['tokens']:,} tokens), {result['epochs']} times over. Perplexity "
        f"{result['perplexity']:.1f} a token ({result['bits_per_byte']:.2f} bits a character) on "
        f"{held['tokens']:,} tokens of packages that it never saw "
        f"({', '.join(result['text']['held out packages'])}); {result['train_perplexity']:.1f} on "
        f"an equally long piece of its training text. Weights in half precision, seed "
        f"{result['seed']}, one run of {result['seconds'] / 60:.0f} minutes on "
        f"{result['hardware']}, torch {result['torch']}."
    )
    before, _, rest = card.read_text(encoding="utf-8").partition("<!-- result -->\n")
    after = rest.partition("<!-- end of result -->\n")[2]
    text = f"{before}<!-- result -->\n{line}\n<!-- end of result -->\n{after}"
    card.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("build/gpt2"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    args = parser.parse_args()
    state_file = args.work / "state.pt"
    tokenizer, ids, facts = prepare(args.work)

    torch.manual_seed(args.seed)
    model = build_model(tokenizer)
    matrices = [weight for weight in model.transformer.h.parameters() if weight.ndim == 2]
    others = [w for w in model.parameters() if all(w is not matrix for matrix in matrices)]
    optimizers = [
        (Muon(matrices), MATRIX_RATE),
        (torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
         OTHER_RATE),
    ]  # fmt: skip
    steps_an_epoch = (len(ids["train"]) - CONTEXT - 1) // (BATCH * CONTEXT)
    total, done, seconds = args.epochs * steps_an_epoch, 0, 0.0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        done, seconds = state["done"], state["seconds"]
        print(f"resuming at step {done}", flush=True)

    model.train()
    start, losses = time.time(), []
    while done < total:
        epoch, step = divmod(done, steps_an_epoch)
        generator = torch.Generator().manual_seed(1000 * args.seed + epoch)
        shift = int(torch.randint(CONTEXT, (), generator=generator))  # other windows each epoch
        rows = ids["train"][shift:].unfold(0, CONTEXT + 1, CONTEXT)
        chosen = torch.randperm(len(rows), generator=generator)[step * BATCH : (step + 1) * BATCH]
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate_factor((done + 1) / (total + 1))
        loss = loss_of(model, rows[chosen])
        loss.backward()
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        done += 1
        if done % 20 == 0:
            average = sum(losses[-20:]) / len(losses[-20:])
            passed = seconds + time.time() - start
            print(f"step {done}/{total} loss {average:.3f}, {passed:.0f} s", flush=True)
        if done % 100 == 0 or done == total:
            seconds, start = seconds + time.time() - start, time.time()
            state = {
                "model": model.state_dict(), "done": done, "seconds": seconds,
                "optimizers": [optimizer.state_dict() for optimizer, _ in optimizers],
            }  # fmt: skip
            torch.save(state, args.work / "state.tmp")
            (args.work / "state.tmp").replace(state_file)

    model = model.half()
    tokenizer.save_pretrained(HERE)
    model.config.save_pretrained(HERE)
    shipped = {
        name: value.contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }  # fmt: skip  (it is the table of words)
    model = model.float()  # what is measured is what is shipped
    held = mean_loss(model, ids["held out"])
    result = {
        "perplexity": math.exp(held),
        "bits_per_byte": held / math.log(2) * facts["held out"]["tokens"]
        / facts["held out"]["bytes"],
        "train_perplexity": math.exp(mean_loss(model, ids["train"][: len(ids["held out"])])),
        "text": facts,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "epochs": args.epochs,
        "seed": args.seed,
        "seconds": round(seconds),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
    }  # fmt: skip
    save_file(shipped, HERE / "model.safetensors", metadata={"format": "pt"})
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    write_card(result)
    print(result)


if __name__ == "__main__":
    main()
