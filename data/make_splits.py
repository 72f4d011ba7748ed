"""Divide a hand-written text set into train, valid and test, and write it as CSV.

    python data/make_splits.py SOURCE.tsv… --columns label,style,also,text --out data/tickets.csv

Messages that share a run of five words stay together, so that no phrase of the test split
can be met in training. Each class keeps its share in each split.
"""

import argparse
import csv
import random
import re
from collections import defaultdict
from pathlib import Path

SHARES = {"train": 0.6, "valid": 0.15, "test": 0.25}
RUN = 5  # words


def runs_of_words(text: str) -> set[str]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)} or {" ".join(words)}


def groups(texts: list[str]) -> list[list[int]]:
    """Positions of texts that share a run of words, directly or through others."""
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_with: dict[str, int] = {}
    for i, text in enumerate(texts):
        for run in runs_of_words(text):
            parent[root(i)] = root(first_with.setdefault(run, i))
    members = defaultdict(list)
    for i in range(len(texts)):
        members[root(i)].append(i)
    return list(members.values())


def assign(rows: list[dict], seed: int) -> None:
    """Give each row a "split": groups go where their first row's class lacks most."""
    generator = random.Random(seed)
    todo = groups([row["text"] for row in rows])
    generator.shuffle(todo)
    todo.sort(key=len, reverse=True)
    sizes = defaultdict(int)
    for row in rows:
        sizes[row["label"]] += 1
    filled: dict[tuple[str, str], int] = defaultdict(int)
    for group in todo:
        label = rows[group[0]]["label"]

        def lack(split: str, label: str = label) -> float:
            return SHARES[split] - filled[label, split] / sizes[label]

        split = max(SHARES, key=lack)
        for i in group:
            rows[i]["split"] = split
            filled[rows[i]["label"], split] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--columns", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    columns = args.columns.split(",")
    rows = []
    for source in args.sources:
        for line in source.read_text(encoding="utf-8").splitlines():
            if line.strip():
                rows.append(dict(zip(columns, line.split("\t"), strict=True)))
    assign(rows, args.seed)
    random.Random(args.seed).shuffle(rows)
    fields = ["text", *(c for c in columns if c != "text"), "split"]
    with open(args.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for split in SHARES:
        print(split, sum(row["split"] == split for row in rows))


if __name__ == "__main__":
    main()
