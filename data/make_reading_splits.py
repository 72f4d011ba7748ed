"""Divide the texts for reading into train, valid and test: manuals, entities, dialogues.

    python data/make_reading_splits.py SOURCES

SOURCES is a folder with the hand-written parts, one JSON object a line: `qa_*.jsonl` (title,
kind, passage, questions), `ner_*.jsonl` (text in which entities are marked, as in "I am
[Ada](PERSON)", and style) and `dialogue_*.jsonl` (topic, customer, agent). Written to this
folder: `manuals.json`, `entities.csv` and `dialogues.csv`. The same sources give the same files.

Texts that share a run of five words stay together, as in `make_splits.py`. The agent has a voice
of its own ("I am sorry that the"), so there only runs of eight words count.
"""

import argparse
import csv
import json
import random
import re
from collections import defaultdict
from pathlib import Path

from make_splits import SHARES, groups

DIALOGUE_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
AGENT_RUN = 8  # words
NAMES = ("PERSON", "PRODUCT", "COMPANY")  # of these, half of the test split must be new
MARKED = re.compile(r"\[([^\]]+)\]\((\w+)\)")
FOLDER = Path(__file__).parent


def read(folder: Path, pattern: str) -> list[dict]:
    lines = [
        line
        for path in sorted(folder.glob(pattern))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    if not lines:
        raise SystemExit(f"there is no {pattern} in {folder}")
    return [json.loads(line) for line in lines]


def divide(
    rows: list[dict], todo: list[list[int]], kind: str, shares: dict[str, float], seed: int
) -> None:
    """Give each row a "split": groups go where the `kind` of their first row lacks most."""
    generator = random.Random(seed)
    todo = sorted(map(sorted, todo))
    generator.shuffle(todo)
    todo.sort(key=len, reverse=True)
    sizes: dict[str, int] = defaultdict(int)
    for row in rows:
        sizes[row[kind]] += 1
    filled: dict[tuple[str, str], int] = defaultdict(int)
    for group in todo:
        first = rows[group[0]][kind]
        lack = {split: shares[split] - filled[first, split] / sizes[first] for split in shares}
        split = max(lack, key=lack.__getitem__)
        for i in group:
            rows[i]["split"] = split
            filled[rows[i][kind], split] += 1
    generator.shuffle(rows)


def write_csv(name: str, rows: list[dict], fields: list[str]) -> None:
    with open(FOLDER / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report(name: str, rows: list[dict]) -> None:
    counts = {split: sum(row["split"] == split for row in rows) for split in SHARES}
    print(f"{name}: {len(rows)} ({', '.join(f'{split} {n}' for split, n in counts.items())})")


# --- manuals --------------------------------------------------------------------------------


def with_start(question: dict, passage: str) -> dict:
    answer = question["answer"]
    if answer and passage.count(answer) != 1:
        raise SystemExit(f"{answer!r} occurs {passage.count(answer)} times in {passage[:60]!r}…")
    return {
        "question": question["question"],
        "answer": answer,
        "start": passage.index(answer) if answer else -1,
    }


def make_manuals(sources: Path, seed: int) -> None:
    rows = [
        {
            "title": row["title"],
            "kind": row["kind"],
            "passage": row["passage"],
            "split": "",
            "questions": [with_start(question, row["passage"]) for question in row["questions"]],
        }
        for row in read(sources, "qa_*.jsonl")
    ]
    divide(rows, groups([row["passage"] for row in rows]), "kind", SHARES, seed)
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (FOLDER / "manuals.json").write_text(text + "\n", encoding="utf-8")
    report("manuals.json", rows)
    asked = [question for row in rows for question in row["questions"]]
    print(f"  {len(asked)} questions, {sum(not q['answer'] for q in asked)} without an answer")


# --- entities -------------------------------------------------------------------------------


def plain(marked: str) -> tuple[str, list[list]]:
    """The text without its marks, and [start, end, label] of each entity."""
    text, spans, done = "", [], 0
    for found in MARKED.finditer(marked):
        text += marked[done : found.start()]
        spans.append([len(text), len(text) + len(found[1]), found[2]])
        text += found[1]
        done = found.end()
    return text + marked[done:], spans


def strings(rows: list[dict], split: str, label: str) -> list[str]:
    """Each mention of a label in a split, in small letters."""
    return [
        row["text"][start:end].lower()
        for row in rows
        if row["split"] == split
        for start, end, found in row["spans"]
        if found == label
    ]


def make_entities(sources: Path, seed: int) -> None:
    rows = []
    for row in read(sources, "ner_*.jsonl"):
        text, spans = plain(row["text"])
        rows.append({"text": text, "style": row["style"], "spans": spans})
    divide(rows, groups([row["text"] for row in rows]), "style", SHARES, seed)
    fields = ["text", "entities", "style", "split"]
    table = [
        {key: row[key] for key in ("text", "style", "split")}
        | {"entities": json.dumps(row["spans"])}
        for row in rows
    ]
    write_csv("entities.csv", table, fields)
    report("entities.csv", rows)
    for label in NAMES:
        known, mentions = set(strings(rows, "train", label)), strings(rows, "test", label)
        names = set(mentions)
        new = len(names - known) / len(names)
        again = sum(name in known for name in mentions)
        print(
            f"  {label}: {len(names)} different strings in test, {new:.0%} of them not in train; "
            f"of {len(mentions)} mentions {again} are of a string in train"
        )
        if new < 0.5:
            raise SystemExit(f"too few new {label} strings in test: choose another --seed")


# --- dialogues ------------------------------------------------------------------------------


def shared_runs(texts: list[str], length: int) -> list[list[int]]:
    """For each run of words that several texts share, their positions."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, text in enumerate(texts):
        words = re.findall(r"[a-z0-9']+", text.lower())
        for run in {tuple(words[k : k + length]) for k in range(len(words) - length + 1)}:
            holders[run].append(i)
    return [positions for positions in holders.values() if len(positions) > 1]


def united(parts: list[list[int]]) -> list[list[int]]:
    """Groups in which positions meet that share a part, directly or through others."""
    result: list[set[int]] = []
    for part in parts:
        apart = [group for group in result if group.isdisjoint(part)]
        touched = [group for group in result if not group.isdisjoint(part)]
        result = [*apart, set(part).union(*touched)]
    return [sorted(group) for group in result]


def make_dialogues(sources: Path, seed: int) -> None:
    rows = read(sources, "dialogue_*.jsonl")
    parts = groups([row["customer"] for row in rows])
    parts += shared_runs([row["agent"] for row in rows], AGENT_RUN)
    divide(rows, united(parts), "topic", DIALOGUE_SHARES, seed)
    write_csv("dialogues.csv", rows, ["topic", "customer", "agent", "split"])
    report("dialogues.csv", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", type=Path, metavar="SOURCES")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_manuals(args.sources, args.seed)
    make_entities(args.sources, args.seed)
    make_dialogues(args.sources, args.seed)


if __name__ == "__main__":
    main()
