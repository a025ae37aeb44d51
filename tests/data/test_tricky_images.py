"""The files of Pillow's test set, each with the outcome that docs/images.md states."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit.data.decode import decode
from resnetkit.errors import BadImage

TRICKY = Path(__file__).parents[3] / "shared" / "data" / "tricky-images.tar"
TABLE = Path(__file__).parents[2] / "docs" / "images.md"


def stated_outcomes() -> dict[str, str]:
    """Return the last column of the table of files in the docs, by file."""
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and "." in row[0]}


@pytest.fixture(scope="module")
def tricky() -> dict[str, bytes]:
    if not TRICKY.is_file():
        pytest.skip(f"{TRICKY.name} is not beside the repository")
    found = {}
    with tarfile.open(TRICKY) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file:
                found[Path(member.name).name] = file.read()
    return found


def test_tricky_files_have_the_outcome_that_the_docs_state(tricky: dict[str, bytes]) -> None:
    stated = stated_outcomes()
    assert set(stated) == set(tricky)
    assert len(stated) == 35
    for name, data in tricky.items():
        if stated[name].startswith("refused: "):
            with pytest.raises(BadImage) as caught:
                decode(data, name)
            assert str(caught.value).startswith(f"{name}: {stated[name].removeprefix('refused: ')}")
            continue
        pixels = decode(data, name)
        size, _, mean = stated[name].partition(", mean ")
        assert size == f"{pixels.shape[1]} x {pixels.shape[0]}", name
        assert pixels.mean((0, 1)) == pytest.approx([float(value) for value in mean.split()], abs=0.5), name


def test_tricky_photos_are_upright(tricky: dict[str, bytes]) -> None:
    for name, others in {
        "exif_Landscape_{}.jpg": (1, 3, 6, 8),
        "hopper_orientation_{}.jpg": (2, 3, 6, 8),
    }.items():
        photos = [decode(tricky[name.format(number)], name).astype(int) for number in others]
        for photo in photos[1:]:
            assert photo.shape == photos[0].shape
            assert np.abs(photo - photos[0]).mean() < 4  # each was compressed anew
            assert np.abs(photo[::-1, ::-1] - photos[0]).mean() > 20


def test_tricky_colours(tricky: dict[str, bytes]) -> None:
    def colours(name: str) -> list[float]:
        return [float(value) for value in decode(tricky[name], name).mean((0, 1))]

    hopper = colours("hopper_orientation_3.jpg")
    assert colours("hopper.webp") == pytest.approx(hopper, abs=1)
    assert colours("hopper_16bit.pgm")[0] == pytest.approx(colours("hopper_gray.jpg")[0], abs=1)
    assert decode(tricky["pil_sample_cmyk.jpg"], "x")[0, 0] == pytest.approx([255, 13, 25], abs=3)  # red
    assert colours("lab.tif") == pytest.approx([255, 255, 255], abs=1)
    assert colours("pil123p.png") == pytest.approx(colours("pil123rgba.png"), abs=1)  # the same, with 256 colours
    assert colours("apng_mode_16bit.png") == [255, 0, 0]


def test_tricky_transparency_is_white(tricky: dict[str, bytes]) -> None:
    for name in ("i_trns.png", "l_trns.png", "rgb_trns.png"):
        with Image.open(io.BytesIO(tricky[name])) as image:
            stored, transparent = np.asarray(image), image.info["transparency"]
        hidden = (np.atleast_3d(stored) == transparent).all(2)
        assert hidden.any(), name
        assert (decode(tricky[name], name)[hidden] == 255).all(), name
