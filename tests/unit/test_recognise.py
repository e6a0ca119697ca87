"""The recogniser: what a score means, what is unknown and what a tie, and what a gallery without a SKU says."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from fakes.packages import Thumbnail, families, fronts, warp
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.errors import BadInput
from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import Rgb
from shelfscan.perception.local_features import SIDE_PX
from shelfscan.perception.recognise import AS_IS, INSETS, TIE_WITHIN, TOP, Gallery, Recogniser, Verdict, Verify, verdict

ALL = list(Verify)


def enrolled(references: dict[str, list[Rgb]], verify: Verify) -> Recogniser:
    return Recogniser(Thumbnail(), Gallery.build(Thumbnail(), references), verify=verify)


def named(pictures: list[Rgb]) -> dict[str, list[Rgb]]:
    return {f"S{i:02d}": [p] for i, p in enumerate(pictures)}


@pytest.fixture(scope="module")
def packs() -> list[Rgb]:
    return [p for f in families(24) for p in f]


@pytest.fixture(scope="module")
def queries(packs: list[Rgb]) -> list[Rgb]:
    """Packs as a shelf shows them, then two strangers, a plain crop and noise."""
    rng = np.random.default_rng(5)
    seen = [warp(p, rng.uniform(-6, 6), rng.uniform(0.4, 0.9), rng.uniform(0.6, 1.0))[0] for p in packs[::5]]
    strangers = fronts(2, seed=9_000_000)
    return [*seen, *strangers, np.full((90, 50, 3), 140, np.uint8), rng.integers(0, 256, (120, 70, 3), np.uint8)]


scores = st.floats(0, 1).map(lambda v: round(v, 4))


@given(st.lists(scores, max_size=6), scores, st.floats(0, 0.3))
def test_a_verdict_is_one_of_three(values: list[float], least: float, within: float) -> None:
    candidates = [Candidate(f"S{i}", v) for i, v in enumerate(sorted(values, reverse=True))]
    said = verdict(candidates, least, within)
    if not candidates or candidates[0].score < least:
        assert said == Verdict("")
    else:
        assert said.sku == "S0" and said.tied_with in ("", "S1")
        gap = candidates[0].score - candidates[1].score if len(candidates) > 1 else math.inf
        assert bool(said.tied_with) == (gap < within) or gap == pytest.approx(within, abs=1e-6)
    if said.tied_with:
        assert verdict(candidates[:1], least, within) == Verdict("S0")


def test_a_tie_ends_where_it_is_said_to() -> None:
    for first in (0.3, 0.55, 0.9):
        other = round(first - TIE_WITHIN, 4)
        assert not verdict([Candidate("a", first), Candidate("b", other)], 0.2).tied_with
        assert verdict([Candidate("a", first), Candidate("b", round(other + 1e-4, 4))], 0.2) == Verdict("a", "b")


def test_never_looking_closely_gives_the_cosines(packs: list[Rgb], queries: list[Rgb]) -> None:
    recogniser = Recogniser(Thumbnail(), Gallery.build(Thumbnail(), named(packs), AS_IS), verify=Verify.NEVER)
    cosines = Thumbnail().embed(queries) @ Thumbnail().embed(packs).T
    for row, candidates in zip(cosines, recogniser.recognise(queries), strict=True):
        best = np.argsort(-row.clip(0, 1), kind="stable")[:TOP]
        assert [c.sku for c in candidates] == [f"S{i:02d}" for i in best]
        assert [c.score for c in candidates] == [round(float(row[i].clip(0, 1)), 4) for i in best]


def test_boxes_wide_of_their_products_are_named_by_narrower_cuts(packs: list[Rgb]) -> None:
    def wide(pack: Rgb) -> Rgb:
        y, x = (round(0.11 * side) for side in pack.shape[:2])
        return cv2.copyMakeBorder(pack, y, y, x, x, cv2.BORDER_CONSTANT, value=(210, 30, 200))

    def own(insets: tuple[float, ...]) -> np.ndarray:
        recogniser = Recogniser(Thumbnail(), Gallery.build(Thumbnail(), named(packs), insets), verify=Verify.NEVER)
        found = recogniser.recognise([wide(p) for p in packs], [[s] for s in recogniser.skus])
        return np.array([next(c.score for c in f if c.sku == s) for f, s in zip(found, recogniser.skus, strict=True)])

    assert (own(INSETS) > own(AS_IS)).mean() > 0.9


def test_of_several_references_the_best_counts() -> None:
    a, b, c = fronts(3)
    (candidates,) = enrolled({"two": [b, a], "one": [c]}, Verify.NEVER).recognise([a])
    assert candidates[0] == Candidate("two", 1.0)


@pytest.mark.parametrize("verify", ALL)
def test_scores_are_in_order_and_in_range_and_each_name_comes_once(
    verify: Verify, packs: list[Rgb], queries: list[Rgb]
) -> None:
    recogniser = enrolled(named(packs), verify)
    found = recogniser.recognise(queries)
    assert found == recogniser.recognise(queries), "the same crops get the same answer again"
    assert found == enrolled(dict(reversed(named(packs).items())), verify).recognise(queries), "in whatever order enrolled"
    assert found == [recogniser.recognise([q])[0] for q in queries], "and whatever else is asked"
    for candidates in found:
        values = [c.score for c in candidates]
        assert len(values) == TOP == len({c.sku for c in candidates})
        assert all(0 <= v <= 1 for v in values) and values == sorted(values, reverse=True)


@pytest.mark.parametrize("verify", ALL)
def test_wanted_names_always_get_a_score_and_change_no_other(
    verify: Verify, packs: list[Rgb], queries: list[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfscan.perception.recognise.SHORTLIST", 6)
    recogniser = enrolled(named(packs), verify)
    everything = recogniser.recognise(queries, [recogniser.skus] * len(queries))
    rng = np.random.default_rng(1)
    also = [rng.choice(recogniser.skus, 3).tolist() for _ in queries]
    wanted = recogniser.recognise(queries, [{*w, "no such SKU"} for w in also])
    for alone, plus, whole, names in zip(recogniser.recognise(queries), wanted, everything, also, strict=True):
        said = {c.sku: c.score for c in plus}
        assert set(names) <= set(said) and "no such SKU" not in said
        assert [c.score for c in plus] == sorted(said.values(), reverse=True)
        assert said.items() <= {c.sku: c.score for c in whole}.items(), "a score does not depend on who else is wanted"
        # Whoever is among the best without being asked for has the same score then.
        assert {c.sku: c.score for c in alone}.items() <= {c.sku: c.score for c in whole}.items()
        assert len(whole) == len(packs)


@pytest.mark.parametrize("verify", ALL)
def test_without_a_sku_is_as_though_it_had_never_been_enrolled(
    verify: Verify, packs: list[Rgb], queries: list[Rgb], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shelfscan.perception.recognise.SHORTLIST", 6)
    recogniser = enrolled(named(packs), verify)
    for query, look in zip(queries, recogniser.looks(queries), strict=True):
        best, second, *_ = look.candidates()
        gone = {best.sku, second.sku}
        fewer = enrolled({s: p for s, p in named(packs).items() if s not in gone}, verify)
        assert look.candidates(without=gone, also=[best.sku]) == fewer.recognise([query])[0]
        assert look.candidates(without=recogniser.skus) == ()


def test_in_doubt_the_close_look_decides(packs: list[Rgb], queries: list[Rgb]) -> None:
    never, doubt, always = (enrolled(named(packs), v).recognise(queries) for v in (Verify.NEVER, Verify.DOUBT, Verify.ALWAYS))
    assert all(d in (n, a) for n, d, a in zip(never, doubt, always, strict=True))
    assert any(d == n for n, d in zip(never, doubt, strict=True)) and any(d == a for d, a in zip(doubt, always, strict=True))


def test_a_close_look_names_packs_that_the_embedding_mixes_up(packs: list[Rgb]) -> None:
    rng = np.random.default_rng(2)
    seen = [warp(p, rng.uniform(-10, 10), 0.7, 0.8)[0] for p in packs]
    right = {
        v: np.mean([c[0].sku == s for c, s in zip(enrolled(named(packs), v).recognise(seen), named(packs), strict=True)])
        for v in (Verify.NEVER, Verify.ALWAYS)
    }
    assert right[Verify.ALWAYS] >= 0.9 and right[Verify.ALWAYS] > right[Verify.NEVER] + 0.1


def test_a_known_pack_is_named_a_stranger_is_unknown_and_one_picture_under_two_names_a_tie() -> None:
    known, strangers = fronts(10), fronts(10, seed=9_000_000)
    recogniser = enrolled({**named(known), "twin": [known[3]]}, Verify.ALWAYS)

    def say(picture: Rgb) -> Verdict:
        return verdict(recogniser.recognise([warp(picture, 4, 0.8, 0.9)[0]])[0], recogniser.unknown_below)

    assert [say(p) for p in known[:3]] == [Verdict("S00"), Verdict("S01"), Verdict("S02")]
    assert say(known[3]) == Verdict("S03", "twin")
    # The fake embedder finds everything rather alike, which counts for strangers too.
    assert sum(say(p) == Verdict("") for p in strangers) >= 7


@pytest.mark.parametrize("verify", ALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (2, 2), (3, 900), (20, 5)])
def test_no_crop_and_no_reference_is_too_small(verify: Verify, size: tuple[int, int]) -> None:
    tiny = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    pack, other = fronts(2)
    for candidates in enrolled({"tiny": [tiny], "pack": [pack], "other": [other]}, verify).recognise([tiny, pack]):
        assert {c.sku for c in candidates} == {"tiny", "pack", "other"} and all(0 <= c.score <= 1 for c in candidates)


@pytest.mark.parametrize("verify", ALL)
def test_plain_crops_are_named_without_features(verify: Verify) -> None:
    red, blue = (np.full((80, 50, 3), rgb, np.uint8) for rgb in ((200, 20, 20), (20, 20, 200)))
    (candidates,) = enrolled({"red": [red], "blue": [blue]}, verify).recognise([red])
    assert candidates[0].score >= candidates[1].score
    if verify is Verify.ALWAYS:
        assert candidates[0].sku == "red" and verdict(candidates, 0.0) != Verdict("blue")


@pytest.mark.parametrize("verify", ALL)
def test_no_crops_are_no_names_and_one_sku_is_a_gallery(verify: Verify) -> None:
    pack, stranger = fronts(2)
    recogniser = enrolled({"only": [pack]}, verify)
    assert recogniser.recognise([]) == [] and recogniser.skus == ("only",)
    assert [[c.sku for c in found] for found in recogniser.recognise([pack, stranger])] == [["only"], ["only"]]


def test_a_gallery_without_pictures_is_refused() -> None:
    with pytest.raises(BadInput, match="no reference picture"):
        Gallery.build(Thumbnail(), {"a": []})


def test_a_gallery_keeps_reduced_copies_and_lets_photographs_go() -> None:
    photograph = np.zeros((3000, 4000, 3), np.uint8)
    pack = fronts(1)[0]
    photograph[:1500, :900] = cv2.resize(pack, (900, 1500))
    h, w = pack.shape[:2]
    photograph[2000 : 2000 + h, 2000 : 2000 + w] = pack
    large, small = photograph[:1500, :900], photograph[2000 : 2000 + h, 2000 : 2000 + w]
    gallery = Gallery.build(Thumbnail(), {"large": [large], "small": [small]})
    kept = [d._picture for d in gallery.details]
    assert [max(k.shape) for k in kept if k is not None] == [SIDE_PX, max(h, w)]
    assert not any(np.shares_memory(k, photograph) for k in kept)
    (found,) = Recogniser(Thumbnail(), gallery, verify=Verify.ALWAYS).recognise([large])
    assert {c.sku for c in found} == {"large", "small"}
    assert [d._picture for d in gallery.details] == [None, None], "features are enough"


def test_what_is_prepared_is_what_a_close_look_works_out(packs: list[Rgb], queries: list[Rgb]) -> None:
    fresh, ready = (enrolled(named(packs), Verify.ALWAYS) for _ in range(2))
    steps = sum(1 for _ in ready.prepare())
    assert steps == len(packs)
    assert [d._picture for s in ready.skus for d in ready.details(s)] == [None] * steps, "pictures are let go"
    assert ready.recognise(queries) == fresh.recognise(queries)
    assert not list(enrolled(named(packs), Verify.NEVER).prepare()), "there are no close looks to prepare for"
