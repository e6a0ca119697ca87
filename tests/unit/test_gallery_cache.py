"""What is kept of a gallery on disk: what would be worked out, of these pictures alone, whatever became of the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes.packages import families

from shelfscan.adapters import gallery_cache
from shelfscan.adapters.gallery_cache import KEPT, PREFIX, GalleryCache
from shelfscan.adapters.pictures import read_picture
from shelfscan.model.imaging import Rgb
from shelfscan.perception.recognise import Detail, details_of

PACKS = [p for f in families(6) for p in f][:6]


def gallery_of(folder: Path, packs: list[Rgb] = PACKS) -> dict[str, tuple[Path, ...]]:
    """Two pictures a SKU, as files."""
    out: dict[str, tuple[Path, ...]] = {}
    for n, pack in enumerate(packs):
        sku = f"S{n // 2}"
        path = folder / "gallery" / sku / f"{n % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(pack, cv2.COLOR_RGB2BGR))
        out[sku] = (*out.get(sku, ()), path)
    return out


def pictures_of(gallery: dict[str, tuple[Path, ...]]) -> dict[str, list[Rgb]]:
    return {sku: [read_picture(p) for p in paths] for sku, paths in gallery.items()}


def details(gallery: dict[str, tuple[Path, ...]]) -> list[Detail]:
    pictures = pictures_of(gallery)
    return [d for sku in sorted(pictures) for d in details_of(pictures[sku])]


def same(a: Detail, b: Detail) -> bool:
    (fa, ca), (fb, cb) = a.of(), b.of()
    parts = zip(*((f.places_px, f.sizes_px, f.angles_rad, f.sift, c) for f, c in ((fa, ca), (fb, cb))), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in parts)


def said(_: str, share: float) -> None:
    assert 0 < share <= 1


def test_what_is_kept_is_what_would_be_worked_out(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path)
    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    assert not cache.complete()
    cache.fill(pictures_of(gallery), said)
    again = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    assert again.complete()
    known, fresh = details(gallery), details(gallery)
    again.load(known)
    assert all(d.known for d in known) and not any(d.known for d in fresh)
    assert all(same(a, b) for a, b in zip(known, fresh, strict=True))
    assert sum(len(d.of()[0]) for d in known) > 100, "there is something to keep"


def test_only_what_changed_is_worked_out(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path)
    GalleryCache(tmp_path / "cache", tmp_path, gallery).fill(pictures_of(gallery), said)
    # One picture is another one now, and a SKU came that sorts first.
    gallery["S1"][0].write_bytes(gallery["S0"][1].read_bytes())
    new = tmp_path / "gallery" / "A.png"
    cv2.imwrite(str(new), PACKS[0][::-1])
    gallery = {"A": (new,), **gallery}
    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    assert not cache.complete()
    steps: list[float] = []
    cache.fill(pictures_of(gallery), lambda _, share: steps.append(share))
    assert len(steps) == 1, "the copy is known by its checksum; only the new one is worked out"
    known, fresh = details(gallery), details(gallery)
    cache.load(known)
    assert cache.complete() and all(same(a, b) for a, b in zip(known, fresh, strict=True))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.unlink(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-2000]),
        lambda p: p.write_bytes(b"no archive at all"),
        lambda p: np.savez(p, checksums=np.zeros((3, 32), np.uint8)),
        lambda p: np.savez(p, **{**np.load(p), "counts": np.load(p)["counts"][:-1]}),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_worked_out_anew(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    gallery = gallery_of(tmp_path)
    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    cache.fill(pictures_of(gallery), said)
    spoil(cache.file)
    found = details(gallery)
    cache.load(found)
    assert not any(d.known for d in found)
    cache.fill(pictures_of(gallery), said)
    cache.load(found)
    assert all(d.known for d in found)


def test_another_way_of_looking_is_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = gallery_of(tmp_path)
    GalleryCache(tmp_path / "cache", tmp_path, gallery).fill(pictures_of(gallery), said)
    monkeypatch.setattr(gallery_cache, "RECIPE", gallery_cache.RECIPE + 1)
    assert not GalleryCache(tmp_path / "cache", tmp_path, gallery).complete()


def test_the_stores_used_last_are_kept(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path, PACKS[:2])
    made = []
    for n in range(KEPT + 2):
        cache = GalleryCache(tmp_path / "cache", tmp_path / f"store{n}", gallery)
        cache.fill(pictures_of(gallery), said)
        os.utime(cache.file, (n + 1, n + 1))
        made.append(cache)
        # The first one is used every night.
        os.utime(made[0].file, (n + 2, n + 2))
    assert [c.complete() for c in made] == [True, *[False] * 2, *[True] * (KEPT - 1)]


def test_what_others_keep_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    mine = tmp_path / "cache" / "embeddings.npz"
    mine.write_bytes(b"not ours")
    os.utime(mine, (1, 1))
    left = tmp_path / "cache" / f".{PREFIX}abc"
    left.write_bytes(b"of a writer that was killed")
    os.utime(left, (1, 1))
    gallery = gallery_of(tmp_path, PACKS[:2])
    for n in range(KEPT + 1):
        GalleryCache(tmp_path / "cache", tmp_path / f"store{n}", gallery).fill(pictures_of(gallery), said)
    assert mine.read_bytes() == b"not ours" and not left.exists()
    assert len(list(mine.parent.glob(f"{PREFIX}*"))) == KEPT


def test_what_an_interrupt_leaves_is_kept(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path)

    def interrupted(_: str, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(pictures_of(gallery), interrupted)
    found = details(gallery)
    cache.load(found)
    assert sum(d.known for d in found) >= 3
    assert all(same(a, b) for a, b in zip(found, details(gallery), strict=True))


def test_a_picture_that_is_replaced_meanwhile_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path)
    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    pictures = pictures_of(gallery)
    gallery["S0"][0].write_bytes(gallery["S1"][1].read_bytes())
    cache.fill(pictures, said)
    again, found = GalleryCache(tmp_path / "cache", tmp_path, gallery), details(gallery)
    again.load(found)
    assert not again.complete()
    assert all(same(a, b) for a, b in zip(found, details(gallery), strict=True))


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    gallery = gallery_of(tmp_path)
    (tmp_path / "cache").write_text("a file where the folder should be")
    cache = GalleryCache(tmp_path / "cache", tmp_path, gallery)
    assert not cache.writable() and GalleryCache(tmp_path / "other", tmp_path, gallery).writable()
    cache.fill(pictures_of(gallery), said)
    assert not cache.complete()
