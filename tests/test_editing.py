"""From what is asked to what is done, with a face whose parameters are known in place of E."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_gan_files
import test_motion
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from faceunits import aus, cli_edit, editing, estimation, fitting
from faceunits.alignment import warp
from faceunits.errors import AlignmentError, ConfigError, FaceunitsError, InputError, ParameterError
from faceunits.evaluation import edits
from faceunits.gan import files as gan_files
from faceunits.gan.files import Files
from faceunits.io import marking
from faceunits.types import Face, Reading

NAMES = aus.profile().names
YAW = {"deg": 0.0}


class Models:
    crop_size = 128
    steady = False
    names = NAMES
    device = torch.device("cpu")


def read(crops: NDArray[np.float32], models: Models) -> Reading:
    """The base face at rest, whatever the crop shows."""
    laid = test_motion.stage().laid
    count = len(crops)
    return Reading(
        names=NAMES, au=np.zeros((count, len(NAMES)), np.float32),
        pose_deg=np.tile(np.array([0, YAW["deg"]], np.float32), (count, 1)),
        identity=np.full((count, 60), 0.5, np.float32),
        lip_gap=np.zeros(count, np.float32), confidence=np.ones(count, np.float32),
        landmarks=np.tile(laid.shape.points[laid.array("landmarks")].astype(np.float32), (count, 1, 1)),
    )  # fmt: skip


def detect(picture: NDArray[np.uint8]) -> list[Face]:
    """One face per 296 columns, where `test_motion.stage` has it; none in a narrower picture."""
    stage = test_motion.stage()
    points = warp.apply(stage.back, warp.template(128)).astype(np.float32)
    side = stage.picture.shape[1]
    return [
        Face(np.array([i * side, 0, 200 - i, 200], np.float32), points + np.float32([i * side, 0]), 0.9)
        for i in range(picture.shape[1] // side)
    ]


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimation, "models", lambda device="auto": Models())
    monkeypatch.setattr(estimation, "detector", lambda: detect)
    monkeypatch.setattr(fitting, "read", read)
    YAW["deg"] = 0.0


def picture() -> NDArray[np.uint8]:
    return test_motion.stage().picture


@cache
def smiling() -> NDArray[np.uint8]:
    return test_motion.stage().draw(test_motion.wanted(AU12=3))


def test_an_edit_is_the_engine_s_picture() -> None:
    result = editing.edit(picture(), {"AU12": 3})
    # the crop is found from five rounded points: single grey values may differ
    assert np.abs(result.picture.astype(int) - smiling()).max() <= 2
    assert result.wanted == ({"AU12": 3.0},)
    assert result.faces == (0,)
    assert result.before.au.shape == (1, len(NAMES))
    assert np.array_equal(editing.edit(picture(), {}, relative={"au12": 3}).picture, result.picture)


def test_nothing_asked_changes_nothing() -> None:
    for arguments in ({"units": {}}, {"units": {"AU12": 0}}, {"units": {"AU12": 4}, "strength": 0}):
        assert np.array_equal(editing.edit(picture(), **arguments).picture, picture())


def test_a_face_takes_another_s_expression() -> None:
    same = editing.edit(picture(), like=picture())
    assert np.array_equal(same.picture, picture())


def test_all_faces_or_one() -> None:
    two = np.concatenate([picture(), picture()], 1)
    both = editing.edit(two, {"AU12": 3}, face="all")
    assert both.faces == (0, 1)
    side = picture().shape[1]
    first = editing.edit(two, {"AU12": 3}, face=0).picture
    assert np.array_equal(first[:, side:], two[:, side:])
    assert (first[:, :side] != two[:, :side]).any()
    assert np.array_equal(both.picture[:, :side], first[:, :side])
    assert (both.picture[:, side:] != two[:, side:]).any()


def resolve(reading: Reading | None = None, **wish: object) -> editing.Target:
    given = {"absolute": {}, "change": {}} | wish
    return editing.resolve(editing.Wish(**given), reading or read(np.zeros((1, 3, 128, 128)), Models()))


def value(target: editing.Target, name: str) -> float:
    return float(target.au[NAMES.index(name)])


def test_values_become_parameters() -> None:
    assert value(resolve(absolute={"AU12": 3}), "AU12_L") == pytest.approx(0.6)
    one = resolve(absolute={"6L": 2})
    assert (value(one, "AU06_L"), value(one, "AU06_R")) == (pytest.approx(0.4), 0)
    start = read(np.zeros((1, 3, 128, 128)), Models())
    start.au[:, NAMES.index("AU04_L")] = 0.9
    more = resolve(start, change={"AU04": 1})
    assert (value(more, "AU04_L"), value(more, "AU04_R")) == (pytest.approx(1), pytest.approx(0.2))
    assert value(resolve(start, absolute={"AU04": 1}, strength=0.5), "AU04_L") == pytest.approx(0.55)
    assert value(resolve(absolute={"AU12": 8}, force=True), "AU12_L") == pytest.approx(1.6)


def test_jaw_and_lips_share() -> None:
    assert value(resolve(absolute={"AU26": 5}), "AU26") == pytest.approx(aus.JAW_DROP_FULL)
    assert value(resolve(absolute={"AU27": 5}), "AU26") == pytest.approx(1)
    assert resolve(absolute={"AU25": 4}).lips == pytest.approx(0.8)
    opened = read(np.zeros((1, 3, 128, 128)), Models())
    opened = dataclasses.replace(opened, lip_gap=np.array([0.6], np.float32))
    assert resolve(opened, absolute={"AU25": 0}).lips == pytest.approx(-1)
    assert resolve(opened, absolute={"AU25": 1.5}).lips == pytest.approx(-0.5)
    assert resolve(opened, change={"AU25": 1}).lips == pytest.approx(0.2)
    assert resolve(absolute={"AU12": 3}).lips is None


def test_neutral_relaxes() -> None:
    start = read(np.zeros((1, 3, 128, 128)), Models())
    start.au[:] = 0.3
    goal = resolve(start, neutral=True, absolute={"AU04": 2})
    assert value(goal, "AU12_L") == 0
    assert value(goal, "AU04_R") == pytest.approx(0.4)
    assert goal.lips == -1


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"units": {"AU99": 1}}, ParameterError, "not modelled"),
        ({"units": {"smile": 1}}, ParameterError, "action unit"),
        ({"units": {"AU12": 6}}, ParameterError, "0 to 5 for AU12; got 6"),
        ({"units": {"AU12": -1}}, ParameterError, "0 to 5"),
        ({"relative": {"AU12": 7}}, ParameterError, r"-5 to \+5"),
        ({"units": {"AU17_L": 1}}, ParameterError, "no sides"),
        ({"units": {"AU25_L": 1}}, ParameterError, "no sides"),
        ({"units": {"AU12": 1, "AU12_R": 2}}, ParameterError, "once"),
        ({"units": {"AU12": float("nan")}}, ParameterError, "number"),
        ({"engine": "motion", "files": Files(encoder="e.pt")}, ConfigError, "with the engine gan"),
        ({"files": Files(generator="g.pt")}, ConfigError, "--encoder"),
        ({"engine": "magic"}, ConfigError, "auto, motion"),
        ({"face": 3}, InputError, "got 3"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: dict[str, object], kind: type[FaceunitsError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        editing.edit(picture(), **arguments)


def test_no_face_and_turned_faces_are_told() -> None:
    with pytest.raises(InputError, match="none found in 100 x 90 pixels"):
        editing.edit(np.zeros((90, 100, 3), np.uint8), {"AU12": 1})
    YAW["deg"] = 35.0
    with pytest.raises(InputError, match="turned 35 degrees"):
        editing.edit(picture(), {"AU12": 1})
    with pytest.raises(InputError, match="expected a picture"):
        editing.edit(np.zeros((90, 100), np.uint8), {"AU12": 1})


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    """A file of small networks for the engine `gan`."""
    return test_gan_files.whole(tmp_path / "gan.safetensors")


def test_an_installation_without_a_generator_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gan_files, "SHIPPED", tmp_path / "none")
    with pytest.raises(ConfigError, match="comes without a generator of faces"):
        editing.edit(picture(), {"AU12": 3}, engine="gan")
    assert editing.chosen("auto") == editing.AUTO == "motion"


def test_a_generator_s_change_is_added_to_the_photo(gan: Path) -> None:
    files = Files(encoder=gan)
    result = editing.edit(picture(), {"AU12": 3}, files=files)  # auto takes the files that are named
    assert result.wanted == ({"AU12": 3.0},)
    changed = (result.picture != picture()).any(-1)
    assert 0.02 < changed.mean() < 0.9
    again = editing.edit(picture(), {}, relative={"12l": 3, "AU12_R": 3}, engine="gan", files=files)
    assert np.array_equal(again.picture, result.picture)
    one_side = editing.edit(picture(), {"AU12_L": 3}, files=files).picture
    assert (one_side != result.picture).any()
    assert (one_side != picture()).any()


def test_what_a_generator_s_editor_does_not_know_is_refused(gan: Path) -> None:
    for units, words in (({"AU4_L": 1}, "no sides of AU04"), ({"AU18": 1}, "this editor knows")):
        with pytest.raises(ParameterError, match=words):
            editing.edit(picture(), units, files=Files(encoder=gan))
        with pytest.raises(ParameterError, match=words):
            editing.edit(picture(), {}, relative=units, files=Files(encoder=gan))


def test_a_generator_changes_nothing_unasked(gan: Path) -> None:
    asked = ({}, {"units": {"AU12": 0, "AU4": 0}}, {"units": {"AU12": 4}, "strength": 0}, {"like": picture()})
    for arguments in asked:
        out = editing.edit(picture(), **arguments, files=Files(encoder=gan)).picture
        assert np.array_equal(out, picture())


def test_a_face_that_a_generator_s_frame_does_not_fit_is_told(
    gan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise AlignmentError("points that coincide")

    monkeypatch.setattr("faceunits.gan.frame.matrix", refused)
    with pytest.raises(InputError, match="face 0 is not aligned: points that coincide"):
        editing.edit(picture(), {"AU12": 3}, files=Files(encoder=gan))


def test_a_generator_relaxes_and_imitates(gan: Path) -> None:
    files = Files(encoder=gan)
    nets = gan_files.load(files)
    networks = editing.load("auto", files)
    one = editing.prepare(picture(), networks=networks)[0][0]
    other = editing.prepare(255 - picture(), networks=networks)[0][0]
    assert one.scene is not None
    assert other.scene is not None

    def drawn(wish: editing.Wish) -> NDArray[np.uint8]:
        return editing.carry_out(one, editing.resolve(wish, one.reading))

    zero = torch.zeros(1, 5, 4)
    assert np.array_equal(drawn(editing.Wish({}, {}, neutral=True)), one.scene.draw(picture(), zero))
    labels = torch.zeros(1, 6)
    labels[:, 1] = 0.8
    four = one.scene.draw(picture(), nets.editor.encode(labels))
    assert np.array_equal(drawn(editing.Wish({"AU4": 4}, {}, neutral=True)), four)
    code = nets.editor.read(other.scene.w)
    like = drawn(editing.resembling(editing.Wish({}, {}), other))
    assert np.array_equal(like, one.scene.draw(picture(), code))
    assert (like != picture()).any()
    half = drawn(dataclasses.replace(editing.resembling(editing.Wish({}, {}), other), strength=0.5))
    assert np.array_equal(half, one.scene.draw(picture(), code, share=0.5))


def test_a_generator_edits_several_faces(gan: Path) -> None:
    two = np.concatenate([picture(), picture()], 1)
    both = editing.edit(two, {"AU12": 3}, face="all", files=Files(encoder=gan)).picture
    side = picture().shape[1]
    first = editing.edit(two, {"AU12": 3}, face=0, files=Files(encoder=gan)).picture
    assert np.array_equal(first[:, side:], two[:, side:])
    assert np.array_equal(both[:, : side // 2], first[:, : side // 2])
    assert (both[:, side:] != two[:, side:]).any()


@cache
def application() -> typer.Typer:
    app = typer.Typer()
    cli_edit.add_commands(app)
    app.command()(lambda: None)  # a second one, so that `edit` has a name
    return app


def run(*words: object) -> tuple[str, Exception | None]:
    done = CliRunner().invoke(application(), ["edit", *map(str, words)])
    return done.stderr, done.exception if isinstance(done.exception, FaceunitsError) else None


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(picture()).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def test_the_command_writes_a_marked_picture(photo: Path) -> None:
    out = photo.with_name("out.png")
    said, error = run(photo, "AU12=3", "AU4=+1", "-o", out)
    assert error is None
    assert "wrote" in said
    note = marking.read_note(out)
    assert note is not None
    assert note["faces"] == {"0": {"AU12": 3.0, "AU04": 1.0}}
    expected = editing.edit(picture(), {"AU12": 3}, relative={"AU04": 1}).picture
    assert np.array_equal(marking.read(out).pixels, expected)


def test_an_unmarked_picture_is_said_to_be(photo: Path) -> None:
    out = photo.with_name("out.jpg")
    said, _ = run(photo, "AU12=3", "-o", out, "--no-mark")
    assert marking.read_note(out) is None
    assert "carries no note" in said


def test_a_grid_and_a_sequence(photo: Path) -> None:
    pytest.importorskip("av")
    import av

    page, video = photo.with_name("grid.png"), photo.with_name("way.mp4")
    _, error = run(photo, "--grid", "AU12=0:5:2.5", "-o", page)
    assert error is None
    with Image.open(page) as image:
        assert image.width == 3 * 320
    before = page.read_bytes()
    _, error = run(photo, "AU4=1", "--grid", "AU12", "0:5:2.5", "-o", page)  # the span as a word of its own
    assert error is None
    assert page.read_bytes() != before  # AU4 counts as well
    _, error = run(photo, "AU12=5", "--sequence", video, "--seconds", 0.2, "--rate", 10)
    assert error is None
    with av.open(str(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert "faceunits" in container.metadata["comment"]
    assert len(frames) == 2 + 2 * 5
    assert (
        np.abs(frames[0].astype(float) - frames[-1]).mean()
        > 2 * np.abs(frames[0].astype(float) - frames[1]).mean()
    )


def test_the_command_s_other_engine(photo: Path, gan: Path) -> None:
    pytest.importorskip("av")
    import av

    out, page, video = (photo.with_name(n) for n in ("out.png", "grid.png", "way.mp4"))
    chosen = ("--engine", "gan", "--encoder", gan)
    _, error = run(photo, "AU12=3", "AU4=+1", "-o", out, *chosen)
    assert error is None
    note = marking.read_note(out)
    assert note is not None
    assert note["engine"] == "gan"
    assert note["faces"] == {"0": {"AU12": 3.0, "AU04": 1.0}}
    expected = editing.edit(picture(), {"AU12": 3}, relative={"AU04": 1}, files=Files(encoder=gan)).picture
    assert np.array_equal(marking.read(out).pixels, expected)
    _, error = run(photo, "--grid", "AU12_L=0:5:2.5", "-o", page, *chosen)
    assert error is None
    with Image.open(page) as image:
        cells = np.asarray(image)[:320, :960].reshape(320, 3, 320, 3).astype(float)
    assert np.abs(cells[:, 0] - cells[:, 1]).mean() < np.abs(cells[:, 0] - cells[:, 2]).mean()
    _, error = run(photo, "AU12=5", "--sequence", video, "--seconds", 0.2, "--rate", 10, *chosen)
    assert error is None
    with av.open(str(video)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    end = editing.edit(picture(), {"AU12": 5}, files=Files(encoder=gan)).picture
    for frame, expected in ((frames[0], picture()), (frames[-1], end)):
        assert np.abs(frame.astype(float) - expected).mean() < 6  # what the codec loses
    _, error = run(photo, "AU18=3", "-o", out, *chosen)
    assert "this editor knows" in str(error)
    _, error = run(photo, "--grid", "AU4_L=0:5", "-o", page, *chosen)
    assert "no sides of AU04" in str(error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("AU12=3",), "expected -o"),
        (("-o", "x.png"), "what to change"),
        (("AU12", "-o", "x.png"), "such as AU12=3"),
        (("AU12=3", "-o", "x.gif"), "ending in"),
        (("AU12=3", "-o", "{photo}"), "another name"),
        (("--grid", "AU12=5", "-o", "x.png"), "expected a grid"),
        (("--grid", "AU12=0:9", "-o", "x.png"), "0 to 5"),
        (("AU12=+1", "--grid", "AU12=0:5", "-o", "x.png"), "got AU12 and AU12; leave one out"),
        (("AU6_L=2", "--grid", "AU06=0:5", "-o", "x.png"), "got AU6_L and AU06; leave one out"),
        (("AU12=3", "--sequence", "x.avi"), "ending in .mp4"),
        (("AU12=3", "--face", "second", "-o", "x.png"), "number or all"),
    ],
)
def test_the_command_explains(photo: Path, words: tuple[str, ...], message: str) -> None:
    _, error = run(photo, *(w.replace("{photo}", str(photo)) for w in words))
    assert message in str(error)


def test_several_faces_must_be_told_apart(tmp_path: Path) -> None:
    two = tmp_path / "two.png"
    Image.fromarray(np.concatenate([picture(), picture()], 1)).save(two)
    _, error = run(two, "AU12=3", "-o", tmp_path / "out.png")
    assert "found 2; say which with --face 0" in str(error)
    _, error = run(two, "AU12=3", "-o", tmp_path / "out.png", "--face", "all")
    assert error is None


def test_figures_of_edits(photo: Path) -> None:
    summary, values, outcomes = edits.evaluate([photo], series=("AU12",), sheets=True)
    assert list(summary["series"]) == ["AU12", "all"]
    assert len(values) == len(edits.STEPS)
    assert outcomes[0].figures["outside_changed"] == 0
    assert float(str(outcomes[0].figures["round_trip_db"])) > 38
    assert summary["constant"][0] == 1  # the stand-in measures 0 whatever it sees
    assert summary["spearman"][0] == 0
    assert outcomes[0].sheet is not None
    namesake = photo.parent / "other" / photo.name
    namesake.parent.mkdir()
    namesake.write_bytes(photo.read_bytes())
    summary, values, _ = edits.evaluate([photo, namesake], series=("AU12",))
    assert summary["photos"].tolist() == [2, 2]
    assert values["input"].unique().tolist() == [photo.name, f"{photo.name}-2"]
    with pytest.raises(InputError, match="got none"):
        edits.evaluate([], series=("AU12",))
    with pytest.raises(ParameterError, match="a series that the editor knows; got AU12"):
        edits.evaluate([photo], series=("AU12",), networks=SimpleNamespace(names=("AU01",)))  # type: ignore[arg-type]


def test_measures_have_known_values() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    assert edits.psnr(a, a) == float("inf")
    assert edits.psnr(a, a + 1) == pytest.approx(20 * np.log10(255))
    assert edits.cosine(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(2**-0.5)
