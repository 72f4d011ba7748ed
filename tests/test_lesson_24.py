"""Lesson 24: scores of heat maps, words and their masks, and the exercises."""

import math

import pytest
import torch
from matplotlib import pyplot as plt

from course_utils.lessons.lesson_24 import (
    AUDIT,
    VERDICTS,
    Words,
    area,
    blurred,
    centre,
    edges,
    energy,
    hits,
    inside,
    plot_maps,
    pointed,
    rank_correlation,
    replacing,
    show_words,
    smooth,
)
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("24").EXERCISES[number](answer)


# --- 24.1, the pointing game ----------------------------------------------------------------


def game(
    exchanged=False, beside=None, nan="left out", sides="lrtb", past=1, value="share", scale=1
):
    """A pointing game with a typical mistake."""

    def pointing(maps, boxes, tolerance):
        known = ~boxes.isnan().any(1)
        if nan == "left out":
            maps, boxes = maps[known], boxes[known]
        place = maps.flatten(1).argmax(1)
        y, x = place // maps.shape[2], place % maps.shape[2]
        if exchanged:
            x, y = y, x
        x0, y0, x1, y1 = boxes.T
        near = (tolerance if beside is None else beside) * scale
        left, right, top, bottom = (near if side in sides else 0 for side in "lrtb")
        hit = (x >= x0 - left) & (x < x1 - 1 + past + right)
        hit &= (y >= y0 - top) & (y < y1 - 1 + past + bottom)
        if value == "share":
            return hit.double().mean().item()
        return {"count": hit.sum().item(), "each": hit, "none": None, "text": "half"}[value]

    return pointing


WRONG_GAMES = {
    "no function": (0.5, "a function is asked for"),
    "nothing": (game(value="none"), "returns nothing"),
    "text": (game(value="text"), "a number from 0 to 1"),
    "one each": (game(value="each"), "one number is asked for"),
    "a count": (game(value="count"), "the share must be 0.5|divide"),
    "x and y": (game(exchanged=True), "x across and y down"),
    "always": (lambda maps, boxes, tolerance: 1.0, "must be 0.5"),
    "never": (lambda maps, boxes, tolerance: 0.0, "counts as a miss"),
    "last pixel": (game(past=0), "last row and column"),
    "one past": (game(past=2), "one past the last pixel"),
    "healthy counted": (game(nan="counted"), "no defect"),
    "nan": (lambda maps, boxes, tolerance: math.nan, "nan"),
    "no tolerance": (game(beside=0), "tolerance is not used"),
    "two sides": (game(sides="lt"), "right, below"),
    "too wide": (game(scale=2), "three pixels beside"),
}


@pytest.mark.parametrize(("answer", "word"), WRONG_GAMES.values(), ids=WRONG_GAMES)
def test_a_wrong_pointing_game_gets_its_own_hint(answer, word):
    found = hint("1", answer)
    assert any(part in found for part in word.split("|"))


def test_the_right_pointing_game_passes_as_a_number_or_a_tensor():
    assert hint("1", game()) is None
    assert hint("1", lambda *given: torch.tensor(game()(*given))) is None


def test_the_lessons_own_score_is_the_exercises():
    def ours(maps, boxes, tolerance):
        return hits(maps, boxes, tolerance)[~boxes.isnan().any(1)].double().mean()

    assert hint("1", ours) is None


# --- 24.2, the audit ------------------------------------------------------------------------

WRONG_AUDITS = {
    "no dict": ("mark", "a dict"),
    "open": ({"A": "opacity", "B": ..., "C": ...}, "still open: B, C"),
    "another word": ({**VERDICTS, "A": "lung"}, "none of the verdicts"),
    "a list": ({**VERDICTS, "A": []}, "none of the verdicts"),
    "by accuracy": ({**VERDICTS, "B": "opacity"}, "highest accuracy"),
    "B not shown": ({**VERDICTS, "B": "not shown"}, "do say something"),
    "C by its maps": ({**VERDICTS, "C": "opacity"}, "hardly change"),
    "C the mark": ({**VERDICTS, "C": "mark"}, "do not point at the mark"),
    "A the mark": ({**VERDICTS, "A": "mark"}, "point at the opacity"),
    "A not shown": ({**VERDICTS, "A": "not shown"}, "point at the opacity"),
}


def test_the_right_audit_passes_and_follows_from_the_table():
    assert hint("2", dict(VERDICTS)) is None
    for row in AUDIT:
        in_mark = row["maximum in the mark (%)"] > row["maximum in the opacity (%)"]
        verdict = "mark" if in_mark else "opacity"
        if row["correlation after random weights"] > 0.5:
            verdict = "not shown"
        assert verdict == VERDICTS[row["model"]]


@pytest.mark.parametrize(("answer", "word"), WRONG_AUDITS.values(), ids=WRONG_AUDITS)
def test_a_wrong_audit_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


@pytest.mark.parametrize("answer", [None, ..., "x", 3, [], {}, {"A": []}, object, math.nan])
@pytest.mark.parametrize("number", ["1", "2"])
def test_nonsense_gets_a_hint(number, answer):
    try:
        found = hint(number, answer)
    except Exception:  # `check` turns it into a hint
        return
    assert isinstance(found, str) and len(found) > 10


# --- maps and their scores ------------------------------------------------------------------

BOX = torch.tensor([[3.0, 2.0, 6.0, 4.0]])  # columns 3 to 5, rows 2 and 3


def point(row: int, column: int) -> torch.Tensor:
    found = torch.zeros(1, 8, 10)
    found[0, row, column] = 1
    return found


@pytest.mark.parametrize(
    ("place", "tolerance", "hit"),
    [
        ((2, 3), 0, True), ((3, 5), 0, True), ((3, 6), 0, False), ((4, 5), 0, False),
        ((3, 6), 1, True), ((4, 5), 1, True), ((1, 2), 1, True), ((0, 3), 1, False),
        ((5, 3), 2, True), ((3, 8), 2, False),
    ],
)  # fmt: skip
def test_a_hit_is_in_the_box_or_so_many_pixels_beside(place, tolerance, hit):
    assert hits(point(*place), BOX, tolerance).tolist() == [hit]


def test_no_box_and_no_place_are_no_hits():
    assert not hits(point(2, 3), torch.full((1, 4), math.nan), 5).any()
    assert not hits(torch.zeros(1, 8, 10), torch.tensor([[0.0, 0, 10, 8]])).any()


def test_among_equal_values_a_map_points_at_their_middle():
    corner = torch.zeros(1, 8, 10)
    corner[0, :3, :5] = 1
    assert [place.item() for place in pointed(corner)] == [1, 2]
    assert [place.item() for place in pointed(point(7, 9))] == [7, 9]


def test_a_box_as_pixels_and_the_share_that_lies_on_them():
    mask = inside(BOX, (8, 10))
    assert mask.sum() == 6 and mask[0, 2:4, 3:6].all()
    assert energy(torch.ones(1, 8, 10), mask).item() == pytest.approx(6 / 80)
    assert energy(point(2, 3), mask).item() == 1
    assert energy(-point(2, 3), mask).item() == 0


def test_the_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    one, other = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    one = (5 * one).round()  # with ties
    expected = [spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(one, other, strict=True)]
    assert rank_correlation(one, other).tolist() == pytest.approx(expected)
    assert rank_correlation(one, 3 * one + 1).tolist() == pytest.approx([1] * 3)
    assert rank_correlation(one, -one).tolist() == pytest.approx([-1] * 3)
    assert rank_correlation(one, torch.zeros_like(one)).tolist() == [0] * 3


def test_edges_find_a_line_and_the_centre_is_the_middle():
    images = torch.full((2, 3, 33, 33), 90, dtype=torch.uint8)
    images[:, :, :, 20] = 200
    found = edges(images)
    assert found.shape == (2, 33, 33)
    assert found.mean((0, 1)).argmax().item() in range(18, 23) and found[:, :, :15].max() == 0
    assert centre(images).flatten(1).argmax(1).tolist() == [16 * 33 + 16] * 2


def test_smoothing_and_blurring_keep_what_is_even():
    assert torch.allclose(smooth(torch.full((1, 9, 9), 2.0)), torch.full((1, 9, 9), 2.0))
    grey = torch.full((1, 3, 64, 64), 77, dtype=torch.uint8)
    assert torch.equal(blurred(grey), grey)
    noise = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert blurred(noise).dtype == torch.uint8
    assert blurred(noise).float().std() < noise.float().std() / 4


def test_deletion_takes_the_largest_values_first():
    before = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    before[0, :, 1, 2] = 200  # all that matters
    after, other = torch.zeros_like(before), torch.zeros(1, 4, 5)
    other[0, 0, 0] = 1
    right = torch.zeros(1, 4, 5)
    right[0, 1, 2] = 1

    def probability(images):
        return images.float().amax((1, 2, 3)) / 200

    shares = [0, 0.05, 1]
    curves = replacing(probability, before, after, {"right": right, "other": other}, shares)
    assert curves == {"right": [1, 0, 0], "other": [1, 1, 0]}
    assert area(curves["right"], shares) < area(curves["other"], shares)
    assert area([1, 1, 1], shares) == pytest.approx(1)
    assert area([1, 0.5, 0], [0, 0.5, 1]) == pytest.approx(0.5)


def test_the_figure_shows_every_map_of_every_picture():
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    maps = {"one": torch.rand(2, 8, 8), "other": torch.rand(2, 8, 8)}
    figure = plot_maps(images, maps, torch.tensor([[1.0, 1, 4, 4]] * 2), ["a", "b"])
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:3]] == ["picture", "one", "other"]
    plt.close("all")


# --- words ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words():
    from transformers import AutoTokenizer

    from course_utils.models import minilm_folder

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    return Words(["An unputdownable book.", "Bad"], tokenizer)


def test_words_are_what_the_text_has(words):
    assert words.words == [["An", "unputdownable", "book", "."], ["Bad"]]
    assert words.there.tolist() == [[True] * 4, [True, False, False, False]]
    assert (words.numbers[0] == 1).sum() > 1, "a long word is several tokens"


def test_the_scores_of_a_words_tokens_are_added_up(words):
    sums = words.sums(words.mask.float())
    assert sums[0, [0, 2, 3]].tolist() == [1, 1, 1] and sums[1].tolist() == [1, 0, 0, 0]
    assert sums[0, 1] == (words.numbers[0] == 1).sum()


def test_taking_words_out_leaves_the_others_and_the_special_tokens(words):
    chosen = torch.tensor([[False, True, False, False], [False] * 4])
    mask = words.without(chosen)
    assert torch.equal(mask[1], words.mask[1])
    assert mask[0].tolist() == (words.mask[0] & (words.numbers[0] != 1)).tolist()
    everything = words.without(torch.ones_like(chosen))
    assert everything.sum(1).tolist() == [2, 2], "the tokens of beginning and end stay"


def test_the_top_words_are_words_that_are_there(words):
    scores = torch.tensor([[0.1, -2.0, 0.5, 0.2], [-1.0, 9.0, 9.0, 9.0]])
    expected = [[False, False, True, True], [True, False, False, False]]
    assert words.top(scores, 2).tolist() == expected


def test_coloured_words_have_a_plain_form(capsys):
    show_words([("good", ["a", "<b>", "c"], [0.1, 1.0, -0.9])], "Colours")
    assert capsys.readouterr().out == "Colours\ngood: a [<b> +1.00] [c -0.90]\n"
