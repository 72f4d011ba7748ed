"""Tests of the embedded files and their checksums (course_utils/assets.py, data/)."""

import zipfile
from pathlib import Path

import pytest

from course_utils import assets
from course_utils.assets import DATA, embedded, model_source, read_manifest, sha256, verified
from course_utils.errors import AssetError

LISTED = (".csv", ".safetensors", ".json")
NOT_OURS = ("download", "downloads")  # what a library fetched; git ignores these folders
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy", ".npz")


def own_files() -> list[Path]:
    paths = (path for path in DATA.rglob("*") if path.is_file())
    return [path for path in paths if not set(NOT_OURS) & set(path.relative_to(DATA).parts)]


def test_every_data_file_is_listed_and_unchanged():
    listed = read_manifest(DATA / "SHA256SUMS")
    found = {p.relative_to(DATA).as_posix(): sha256(p) for p in own_files() if p.suffix in LISTED}
    assert {"tickets.csv", "reviews.csv"} <= set(listed)
    assert listed == found


def test_nothing_in_data_is_a_pickle():
    for path in own_files():
        assert path.suffix not in PICKLES, path
        with open(path, "rb") as file:
            start = file.read(2)
        assert not (start[:1] == b"\x80" and start[1:] <= b"\x05"), f"{path} begins like a pickle"
        assert not zipfile.is_zipfile(path), f"{path} is an archive, maybe of torch.save"


def test_the_manifest_is_written_as_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "DATA", tmp_path)
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "a table.csv").write_text("text,label\n")
    (tmp_path / "notes.md").write_text("not listed")
    (tmp_path / "downloads" / "flowers").mkdir(parents=True)
    (tmp_path / "downloads" / "flowers" / "index.json").write_text("{}")
    assets.write_manifest()
    assert read_manifest(tmp_path / "SHA256SUMS") == {
        "a table.csv": sha256(tmp_path / "a table.csv"),
        "models/small/model.safetensors": sha256(tmp_path / "models/small/model.safetensors"),
    }
    before = (tmp_path / "SHA256SUMS").read_bytes()
    assets.write_manifest()
    assert (tmp_path / "SHA256SUMS").read_bytes() == before
    assert embedded("a table.csv") == tmp_path / "a table.csv"
    embedded.cache_clear()


def test_the_checksum_error_shows_both_and_the_remedy(tmp_path):
    (tmp_path / "SUMS").write_text(f"{'0' * 64}  weights.bin\n")
    (tmp_path / "weights.bin").write_bytes(b"other")
    expected = (
        rf"sha256 {sha256(tmp_path / 'weights.bin')[:12]}…, should be 000000000000….*fetch it"
    )
    with pytest.raises(AssetError, match=expected):
        verified(tmp_path, "weights.bin", tmp_path / "SUMS", "fetch it again")


def test_a_model_comes_from_the_mirror_if_there_is_one(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_MODEL_MIRROR", raising=False)
    assert model_source("owner/model") == "owner/model"
    (tmp_path / "owner" / "model").mkdir(parents=True)
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(tmp_path))
    assert model_source("owner/model") == str(tmp_path / "owner/model")
    with pytest.raises(AssetError, match="'owner/other' is not in COURSE_MODEL_MIRROR.*or unset"):
        model_source("owner/other")
    monkeypatch.setenv("COURSE_MODEL_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(AssetError, match="which is not a folder; correct or unset it"):
        model_source("owner/model")
