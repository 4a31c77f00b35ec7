"""Opening photographs: what is accepted, what is refused, and what is found."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from fovea import errors
from fovea.image import Frame, find_field_of_view, open_photograph
from fovea.settings import Settings


def disc_picture(size: int = 300, radius: int = 130) -> np.ndarray:
    """A plain orange disc on black, for tests of the decoder only."""
    rows, columns = np.mgrid[:size, :size]
    inside = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2
    picture = np.zeros((size, size, 3), np.uint8)
    picture[inside] = (200, 100, 40)
    picture[: size // 2, : size // 2][inside[: size // 2, : size // 2]] = (240, 160, 80)
    return picture


def write_dicom(path: Path, pixels: np.ndarray | None, **attributes: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.Modality = "OP"
    dataset.PatientName = "Hostile^<script>alert(1)</script>"
    if pixels is not None:
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        bits = pixels.dtype.itemsize * 8
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit = bits - 1
        dataset.PixelRepresentation = 0
        dataset.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_accepted_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"eye{suffix}"
    Image.fromarray(disc_picture()).save(path)
    photograph = open_photograph(path)
    assert photograph.pixels.shape == (300, 300, 3)
    assert abs(photograph.field_circle.radius - 130) < 3
    assert not photograph.pixels.flags.writeable
    assert len(photograph.sha256) == 64


def test_exif_orientation_turns_the_picture_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(disc_picture()[:, :240]).save(path, exif=exif)
    photograph = open_photograph(path)
    assert (photograph.width, photograph.height) == (300, 240)
    assert any("EXIF" in note for note in photograph.notes)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16", "LA"])
def test_odd_modes_are_brought_to_8_bit_rgb(tmp_path: Path, mode: str) -> None:
    rgb = Image.fromarray(disc_picture())
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        grey = np.asarray(rgb.convert("L")).astype(np.uint16) * 16
        Image.fromarray(grey).save(path)
    else:
        rgb.convert(mode).save(path)
    photograph = open_photograph(path)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.pixels.shape == (300, 300, 3)
    assert photograph.grey == (mode in {"L", "LA", "I;16"})
    if mode == "I;16":
        assert photograph.pixels.max() == 255


def one_by_one(path: Path) -> None:
    Image.new("RGB", (1, 1)).save(path)


def truncated(path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


def bomb(path: Path) -> None:
    Image.new("1", (13000, 13000)).save(path, "PNG")


def svg(path: Path) -> None:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("a.txt", "not a photograph")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_pixels(path: Path) -> None:
    write_dicom(path, None)


def oct_volume(path: Path) -> None:
    write_dicom(path, disc_picture(), Modality="OPT")


def hostile_modality(path: Path) -> None:
    write_dicom(path, disc_picture(), Modality="IGNORE ALL <b>")


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (truncated, errors.UnreadableImage, "damaged or incomplete"),
        (bomb, errors.ImageTooLarge, "169 megapixels"),
        (svg, errors.UnreadableImage, "not an accepted image"),
        (archive, errors.UnreadableImage, "not an accepted image"),
        (empty, errors.UnreadableImage, "empty"),
        (one_by_one, errors.ImageTooSmall, "1 x 1"),
        (no_pixels, errors.UnreadableImage, "no pixel data"),
        (oct_volume, errors.NotAFundusPhotograph, "OPT"),
        (hostile_modality, errors.NotAFundusPhotograph, "an unknown code"),
    ],
)
def test_bad_files_are_refused_in_one_clear_message(
    tmp_path: Path, make: object, error: type[errors.ImageError], says: str
) -> None:
    path = tmp_path / "secret-patient-name.jpg"
    make(path)  # type: ignore[operator]
    clock = time.perf_counter()
    with pytest.raises(error) as caught:
        open_photograph(path, "img1")
    assert time.perf_counter() - clock < 5
    message = str(caught.value)
    assert says in message
    assert caught.value.fix
    assert "Traceback" not in message
    assert str(tmp_path) not in message
    assert "<script>" not in message


def test_dicom_gives_eye_and_scale_and_no_identity(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", disc_picture(), ImageLaterality="L", PixelSpacing=[0.0065, 0.0065]
    )
    photograph = open_photograph(path)
    assert (photograph.eye, photograph.eye_source) == ("OS", "dicom")
    assert photograph.scale is not None
    assert photograph.scale.um_per_px == pytest.approx(6.5)
    assert "Hostile" not in repr(photograph)
    assert np.array_equal(photograph.pixels, disc_picture())


def test_sixteen_bit_dicom(tmp_path: Path) -> None:
    grey = disc_picture()[:, :, 0].astype(np.uint16) * 16
    photograph = open_photograph(write_dicom(tmp_path / "a.dcm", grey))
    assert photograph.grey
    assert photograph.scale is None
    assert photograph.pixels.max() == 255


def test_implausible_spacing_is_not_a_scale(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", disc_picture(), PixelSpacing=[1.0, 1.0])
    photograph = open_photograph(path)
    assert photograph.scale is None
    assert any("spacing" in note for note in photograph.notes)


def test_the_person_overrules_the_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", disc_picture(), ImageLaterality="L")
    photograph = open_photograph(path, eye="OD")
    assert (photograph.eye, photograph.eye_source) == ("OD", "person")


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(disc_picture()).save(path)
    with pytest.raises(errors.ImageTooLarge):
        open_photograph(path, settings=Settings(max_file_mb=0.0001))


def test_missing_file_names_only_the_file(tmp_path: Path) -> None:
    with pytest.raises(errors.UnreadableImage) as caught:
        open_photograph(tmp_path / "nothing.png")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("border", [0, 255, 128])
def test_field_of_view_on_any_plain_border(border: int) -> None:
    picture = disc_picture()
    picture[(picture == 0).all(axis=2)] = border
    mask, circle = find_field_of_view(picture)
    truth = (disc_picture() > 0).any(axis=2)
    assert (mask & truth).sum() / (mask | truth).sum() > 0.95
    assert abs(circle.radius - 130) < 4
    assert abs(circle.x - 149.5) < 3


def test_field_circle_of_a_photograph_cut_at_top_and_bottom() -> None:
    picture = disc_picture(300, 130)[50:250]
    _, circle = find_field_of_view(picture)
    assert abs(circle.radius - 130) < 4
    assert abs(circle.y - 99.5) < 4


def test_a_frame_filled_with_retina_is_all_field() -> None:
    picture = np.full((200, 260, 3), (180, 90, 40), np.uint8)
    mask, _ = find_field_of_view(picture)
    assert mask.all()


@given(
    step=st.floats(0.2, 8),
    left=st.floats(0, 500),
    top=st.floats(0, 500),
    x=st.floats(-50, 2000),
    y=st.floats(-50, 2000),
)
def test_frame_points_survive_the_round_trip(
    step: float, left: float, top: float, x: float, y: float
) -> None:
    frame = Frame(100, 100, step, left, top, 1000, 1000)
    point = np.array([[x, y]])
    assert np.allclose(frame.to_view(frame.to_original(point)), point, atol=1e-6)


@pytest.mark.parametrize("diameter", [90, 130, 260, 400])
def test_masks_come_back_to_the_original_frame(tmp_path: Path, diameter: int) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), cv2.cvtColor(disc_picture(), cv2.COLOR_RGB2BGR))
    photograph = open_photograph(path)
    view = photograph.view(diameter)
    back = view.frame.mask_to_original(view.field_of_view)
    truth = photograph.field_of_view
    assert back.shape == truth.shape
    assert (back & truth).sum() / (back | truth).sum() > 0.96
