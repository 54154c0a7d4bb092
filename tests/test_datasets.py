"""Readers of data sets, on miniature trees in the official layouts; every complaint names file and line."""

from __future__ import annotations

import layouts
import numpy as np
import pytest

from faceunits import aus
from faceunits.errors import ConfigError, InputError
from faceunits.evaluation import datasets
from faceunits.evaluation.datasets import mmi, records


def test_units_have_columns_that_our_tables_have():
    names = aus.profile().names
    ours = set(aus.columns(names, np.zeros((1, len(names)), np.float32), np.zeros(1, np.float32)))
    for name in datasets.NAMES:
        assert set(datasets.spec(name).columns) <= ours
    assert {records.column(a) for a in aus.NAMES} <= ours
    with pytest.raises(ConfigError, match="celeba"):
        datasets.spec("celeba")
    with pytest.raises(ConfigError, match="99"):
        records.column(99)


@pytest.mark.parametrize("name", datasets.NAMES)
def test_no_subject_is_on_both_sides_of_a_split(name):
    about = datasets.spec(name)
    everybody = [s for p in about.parts for s in p.subjects]
    assert len(everybody) == len(set(everybody))
    if about.parts:
        assert set(everybody) == set(about.subjects)
    assert sum(p.main for p in about.parts) <= 1


def test_sizes_of_the_splits_are_those_of_the_data_sets():
    assert [len(p.subjects) for p in datasets.spec("disfa").parts] == [9, 9, 9]
    assert {p.name: len(p.subjects) for p in datasets.spec("fera2015").parts} == {
        "Development": 20,
        "Training": 21,
    }


@pytest.mark.parametrize("name", datasets.NAMES)
def test_published_rows_have_a_source_and_agree_with_their_printed_means(name):
    about = datasets.spec(name)
    # a slip of the pen would show here; where the print itself disagrees, its note says so
    odd = {("disfa", "GENet-O", "icc"): 0.563, ("ckplus", "GE-Net", "mae"): 0.431,
           ("mmi", "GE-Net", "mae"): 0.222}  # fmt: skip
    for row in about.published:
        assert row.source
        assert row.values or row.means
        for measure, values in row.values.items():
            assert len(values) == len(about.aus)
            mean = odd.get((name, row.name, measure), row.means[measure])
            assert np.nanmean(values) == pytest.approx(mean, abs=0.006), (row.name, measure)
            if mean != row.means[measure]:
                assert f"{mean:.3f}".lstrip("0") in row.note


def test_disfa_reads_every_label(tmp_path):
    data = datasets.read("disfa", layouts.disfa(tmp_path))
    assert data.subjects == ["SN001", "SN002", "SN013"]
    for r in data.recordings:
        assert r.video.name == f"LeftVideo{r.subject}_comp.avi"
        assert (r.first, r.sequence) == (1, "left")
        for i, frame in enumerate(r.frames):
            for k, au in enumerate(layouts.DISFA_AUS):
                assert r.labels[i, k] == layouts.intensity(r.subject, int(frame), au)
    assert "3 of 27 subjects" in data.notes[0]
    right = datasets.read("disfa", tmp_path, camera="right")
    assert right.recordings[0].video.name == "RightVideoSN001_Comp.avi"
    with pytest.raises(ConfigError, match="middle"):
        datasets.read("disfa", tmp_path, camera="middle")
    with pytest.raises(ConfigError, match="profiles"):
        datasets.read("disfa", tmp_path, profiles=True)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("1,0\n2,6\n", 2, "got 6"), ("1,0\n2,-1\n", 2, "got -1"), ("1,0\n\n3,0\n", 2, "got ''"),
        ("1,0\n2,nan\n", 2, "nan"), ("1,0\n2\n", 2, "got '2'"), ("1,0\n1,0\n", 2, "rising"),
        ("1.5,0\n", 1, "1.5"), ("2,0\n3,0\n", 1, "expected frame 1"), ("frame,intensity\n1,0\n", 1, "frame"),
    ],
)  # fmt: skip
def test_a_wrong_label_is_named_with_file_and_line(tmp_path, text, line, said):
    root = layouts.disfa(tmp_path, ("SN001",), frames=2)
    for au in layouts.DISFA_AUS:  # all alike, so that the first file speaks
        (root / "ActionUnit_Labels" / "SN001" / f"SN001_au{au}.txt").write_text(text)
    with pytest.raises(InputError, match=rf"SN001_au1\.txt, line {line}\b.*") as caught:
        datasets.read("disfa", root)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_label_files_of_different_length_are_named(tmp_path):
    root = layouts.disfa(tmp_path, ("SN001",), frames=5)
    path = root / "ActionUnit_Labels" / "SN001" / "SN001_au9.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:3]))
    with pytest.raises(InputError, match=r"SN001_au9\.txt \(3\); they part at line 4"):
        datasets.read("disfa", root)


def test_what_disfa_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match="ActionUnit_Labels"):
        datasets.read("disfa", tmp_path)
    with pytest.raises(InputError, match="none"):
        datasets.read("disfa", tmp_path / "none")
    root = layouts.disfa(tmp_path / "a")
    (root / "ActionUnit_Labels" / "SN002" / "SN002_au17.txt").unlink()
    with pytest.raises(InputError, match=r"SN002_au17\.txt"):
        datasets.read("disfa", root)
    root = layouts.disfa(tmp_path / "b")
    (root / "Videos_LeftCamera" / "LeftVideoSN002_comp.avi").unlink()
    with pytest.raises(InputError, match=r"LeftVideoSN002_comp\.avi"):
        datasets.read("disfa", root)
    root = layouts.disfa(tmp_path / "c")
    for path in (root / "ActionUnit_Labels" / "SN013").iterdir():
        path.unlink()
    (root / "ActionUnit_Labels" / "SN013").rmdir()
    with pytest.raises(InputError, match=r"SN013_au1\.txt"):
        datasets.read("disfa", root)


def test_fera_pairs_by_number_whatever_the_padding(tmp_path):
    data = datasets.read("fera2015", layouts.fera(tmp_path))
    assert [r.key for r in data.recordings] == ["F001_T1", "F002_T1", "M001_T1", "M002_T1"]
    for r in data.recordings:
        assert r.frames.tolist() == list(range(300, 320))
        assert [int(p.stem) for p in r.images] == r.frames.tolist()
        assert (r.spare_labels, r.spare_images) == (0, 1)
        for i, frame in enumerate(r.frames):
            for k, au in enumerate(layouts.FERA_AUS):
                if (au, frame) == (6, 303):
                    assert np.isnan(r.labels[i, k])  # not codable is unknown, not 0
                else:
                    assert r.labels[i, k] == layouts.intensity(r.subject, int(frame), au)
    (tmp_path / "M002" / "T1" / "310.jpg").unlink()
    last = datasets.read("fera2015", tmp_path).recordings[-1]
    assert (len(last.frames), last.spare_labels) == (19, 1)


def test_what_fera_lacks_is_named(tmp_path):
    root = layouts.fera(tmp_path / "a")
    codes = root / "AU Intensity Codes3.0"
    (codes / "AU14" / "F002_T1_AU14.csv").unlink()
    with pytest.raises(InputError, match=r"F002_T1_AU14\.csv"):
        datasets.read("fera2015", root)
    (codes / "AU14" / "F002_T1_AU14.csv").write_text("frame,intensity\n300,7\n")
    with pytest.raises(InputError, match=r"0 to 5, or 9 .*F002_T1_AU14\.csv, line 2; got 7"):
        datasets.read("fera2015", root)
    root = layouts.fera(tmp_path / "b")
    (root / "M001").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"M001.T1"):
        datasets.read("fera2015", root)
    root = layouts.fera(tmp_path / "c", ("F001",))
    layouts.photo(root / "F001" / "T1" / "0305.jpg")
    with pytest.raises(InputError, match="both frame 305"):
        datasets.read("fera2015", root)


def test_ckplus_takes_peaks_and_first_frames(tmp_path):
    data = datasets.read("ckplus", layouts.ckplus(tmp_path))
    assert [r.key for r in data.recordings] == ["S005_001", "S005_002", "S010_001"]
    first = data.recordings[0]
    order = list(data.spec.aus)
    assert first.frames.tolist() == [1, 11]
    assert not first.labels[0].any()
    peak = dict(zip(order, first.labels[1], strict=True))
    assert peak[9] == 5
    assert np.isnan(peak[17])  # present, strength not coded
    assert peak[25] == 5
    assert peak[1] == 0
    assert any("6.5 taken as 5" in n and "line 3" in n for n in data.notes)
    assert first.images[1].name == "S005_001_00000011.png"
    peaks = datasets.read("ckplus", tmp_path, peaks_only=True)
    assert [r.frames.tolist() for r in peaks.recordings] == [[11], [5], [14]]
    assert peaks.about != data.about


def test_what_ckplus_lacks_is_named(tmp_path):
    root = layouts.ckplus(tmp_path)
    labels = root / "FACS" / "S005" / "001" / "S005_001_00000011_facs.txt"
    labels.write_text("   9.0e+00   5.0e+00\n   12.0e+00   -1.0e+00\n")
    with pytest.raises(InputError, match=r"00000011_facs\.txt, line 2"):
        datasets.read("ckplus", root)
    labels.unlink()
    with pytest.raises(InputError, match=r"S005_001_\*_facs\.txt"):
        datasets.read("ckplus", root)
    labels.parent.rmdir()
    with pytest.raises(InputError, match=r"_facs\.txt of the photos"):
        datasets.read("ckplus", root)
    labels.parent.mkdir()
    labels.with_name("S005_001_00000044_facs.txt").write_text("")
    with pytest.raises(InputError, match=r"S005_001_00000044\.png"):
        datasets.read("ckplus", root)


def slow_ramp(markers: list[tuple[int, int]], frame: int) -> float:
    """Strength of one frame, from the definition."""
    value = 0.0
    for (start, phase), following in zip(markers, [*markers[1:], None], strict=True):
        if frame < start:
            break
        if following and frame >= following[0]:
            continue
        if phase in (0, 2):
            value = float(phase == 2)
        elif following is None:
            value = float("nan") if frame > start else float(phase == 3)
        else:
            share = (frame - start) / (following[0] - start)
            value = share if phase == 1 else 1 - share
    return value


def test_mmi_phases_become_ramps(tmp_path):
    data = datasets.read("mmi", layouts.mmi(tmp_path))
    assert [r.key for r in data.recordings] == ["S001_S001-001", "S002_S002-010"]
    assert any("1 sessions have no coding" in n for n in data.notes)
    assert any("1 clips in profile" in n for n in data.notes)
    clip, photos = data.recordings
    order = list(data.spec.aus)
    left = [(1, 0), (3, 1), (7, 2), (9, 3), (13, 0)]
    right = [(1, 0), (5, 2), (6, 0)]
    for frame in range(1, 14):
        wanted = 5 * max(slow_ramp(left, frame), slow_ramp(right, frame))
        assert clip.labels[frame - 1, order.index(12)] == pytest.approx(wanted), frame
        np.testing.assert_equal(
            clip.labels[frame - 1, order.index(4)], 5 * slow_ramp([(1, 0), (4, 1)], frame)
        )
        assert clip.labels[frame - 1, order.index(1)] == 0
    assert clip.tail[order.index(12)] == 0
    assert np.isnan(clip.tail[order.index(4)])  # how far an onset without an end went is not known
    assert photos.frames.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(photos.labels[:, order.index(25)], [0, 0, 2.5, 5, 5, 5])
    assert len(datasets.read("mmi", tmp_path, profiles=True).recordings) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (layouts.coding({"12": [(1, 0), (5, 7)]}), "line 5; got '5' and '7'"),
        (layouts.coding({"12": [(5, 0), (4, 1)]}), "line 5; got 4 after 5"),
        ("<AUCoding><ActionUnit>", "line 1"), (layouts.coding({"twelve": [(1, 0)]}), "twelve"),
    ],
)  # fmt: skip
def test_a_wrong_coding_is_named_with_its_line(tmp_path, text, said):
    root = layouts.mmi(tmp_path)
    (root / "Sessions" / "1" / "S001-001-oao_aucs.xml").write_text(text)
    with pytest.raises(InputError, match=r"oao_aucs\.xml") as caught:
        datasets.read("mmi", root)
    assert said in str(caught.value)


def test_what_mmi_lacks_is_named(tmp_path):
    root = layouts.mmi(tmp_path)
    (root / "Sessions" / "1" / "S001-001.avi").unlink()
    with pytest.raises(InputError, match=r"S001-001\.avi"):
        datasets.read("mmi", root)
    (root / "Sessions" / "1" / "S001-001.avi").write_bytes(b"clip")
    (root / "Sessions" / "2" / "S002-010_006.jpg").rename(root / "last.jpg")
    for i in (3, 4, 5):
        (root / "Sessions" / "2" / f"S002-010_{i:03d}.jpg").unlink()
    with pytest.raises(InputError, match="at least 4 photos"):
        datasets.read("mmi", root)


def test_the_subject_of_a_clip_is_that_of_its_file(tmp_path):
    root = layouts.mmi(tmp_path)
    (root / "Sessions" / "1" / "session.xml").write_text(
        '<session><m Name="Subject ID" Value="41"/></session>'
    )
    assert datasets.read("mmi", root).subjects == ["S002", "S41"]
    assert mmi.parse(root / "Sessions" / "1" / "session.xml").values == {"subjectid": "41"}


def test_facewarehouse_has_poses_and_no_labels(tmp_path):
    data = datasets.read("facewarehouse", layouts.facewarehouse(tmp_path))
    assert [r.subject for r in data.recordings] == ["Tester_1", "Tester_2", "Tester_3"]
    assert data.recordings[0].frames.tolist() == [0, 1, 2, 3]
    assert data.recordings[0].labels.shape == (4, 0)
    (tmp_path / "Tester_2" / "TrainingPose" / "pose_0.png").unlink()
    with pytest.raises(InputError, match=r"Tester_2.TrainingPose.pose_0\.png"):
        datasets.read("facewarehouse", tmp_path)
    with pytest.raises(InputError, match="Tester_1"):
        datasets.read("facewarehouse", tmp_path / "Tester_1")


def test_nothing_is_left_out_in_silence(tmp_path):
    """Two of a kind, odd names, gaps: an error, or a note where the data set allows it."""
    root = layouts.disfa(tmp_path / "disfa")
    videos = root / "Videos_LeftCamera"
    (root / "ActionUnit_Labels" / "SN002").rename(root / "ActionUnit_Labels" / "Subject2")
    (videos / "LeftVideoSN002_comp.avi").rename(videos / "Two.avi")
    note = next(n for n in datasets.read("disfa", root).notes if "no such name" in n)
    assert "Subject2" in note
    assert "Two.avi" in note
    (videos / "LeftVideoSN001.mp4").write_bytes(b"again")
    with pytest.raises(InputError, match=r"LeftVideoSN001\.mp4 and .*LeftVideoSN001_comp\.avi|found both"):
        datasets.read("disfa", root)

    root = layouts.fera(tmp_path / "fera")
    codes = root / "AU Intensity Codes3.0"
    for f in range(300, 303):
        layouts.photo(root / "F100" / "T1" / f"{f}.jpg")  # of the challenge's test, without labels
    assert any("F100 T1" in n for n in datasets.read("fera2015", root).notes)
    for au in layouts.FERA_AUS:
        (codes / f"AU{au:02d}" / f"F002_T1_AU{au:02d}.csv").unlink()
    with pytest.raises(InputError, match=r"F002_T1_AU06\.csv of the photos in .*F002.T1; there are none"):
        datasets.read("fera2015", root)
    (codes / "AU06" / "F002-T1.csv").write_text("300,0\n")
    with pytest.raises(InputError, match=r"AU06; got F002-T1\.csv"):
        datasets.read("fera2015", root)


def test_odd_labels_and_photos_of_ckplus_are_told(tmp_path):
    root = layouts.ckplus(tmp_path)
    labels = root / "FACS" / "S010" / "001" / "S010_001_00000014_facs.txt"
    text = labels.read_text().rstrip("\n") + "\n"
    labels.write_text(text + "1 5\n")
    with pytest.raises(InputError, match=r"facs\.txt, line 3; AU1 stands in line 1 already"):
        datasets.read("ckplus", root)
    labels.write_text("")
    photos = root / "cohn-kanade-images" / "S010" / "001"
    (photos / "S010_001_00000001.png").unlink()
    notes = datasets.read("ckplus", root).notes
    assert any("no unit is listed" in n and labels.name in n for n in notes)
    assert any("begins with frame 2" in n for n in notes)
    assert not any("begins with" in n for n in datasets.read("ckplus", root, peaks_only=True).notes)
    for path in photos.iterdir():
        path.rename(path.with_name("x" + path.name))
    labels.unlink()
    labels.parent.rmdir()
    with pytest.raises(InputError, match=r"_facs\.txt of the photos"):
        datasets.read("ckplus", root)


def test_gaps_in_mmi_and_facewarehouse_are_told(tmp_path):
    root = layouts.mmi(tmp_path / "mmi")
    coding = root / "Sessions" / "1" / "S001-001-oao_aucs.xml"
    whole = coding.read_text()
    assert any("are left out: 4" in n for n in datasets.read("mmi", root).notes)
    coding.write_text(whole.replace('Frame="3" ', "", 1))
    with pytest.raises(InputError, match=r"oao_aucs\.xml, line 5; got 'none' and '1'"):
        datasets.read("mmi", root)
    coding.write_text(whole.replace('Number="4"', 'Number="four"'))
    with pytest.raises(InputError, match=r"oao_aucs\.xml, line \d+; got 'four'"):
        datasets.read("mmi", root)
    coding.write_text("<AUCoding/>")
    assert any("no marker" in n and coding.name in n for n in datasets.read("mmi", root).notes)
    (root / "Sessions" / "2" / "S002-010_003.jpg").unlink()
    with pytest.raises(InputError, match=r"after S002-010_002\.jpg comes S002-010_004\.jpg"):
        datasets.read("mmi", root)
    root = layouts.facewarehouse(tmp_path / "fw")
    (root / "Tester_2" / "TrainingPose" / "pose_2.png").unlink()
    assert any("Tester_2 lacks pose 2" in n for n in datasets.read("facewarehouse", root).notes)
