"""The command line: what it writes, what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_ins
from stand_ins import picture, save

from faceunits import cli, cli_train, photos
from faceunits.io import image

ONE = picture((30, 40, 60, 240))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs the command line in this process with stand-in networks: exit code, stdout, stderr."""
    stand_ins.install(monkeypatch)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["faceunits", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return run


def test_help_waits_for_no_heavy_library() -> None:
    script = (
        "import atexit, sys\n"
        "from faceunits import cli\n"
        "heavy = {'torch', 'pandas', 'numba', 'scipy', 'PIL', 'av', 'safetensors'}\n"
        "atexit.register(lambda: print('loaded', sorted(heavy & set(sys.modules))))\n"
        "sys.argv = ['faceunits', '--help']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "estimate" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize(
    "name",
    [
        "estimate",
        "live",
        "edit",
        "report",
        "render",
        "transfer",
        "doctor",
        "export",
        "synthesize",
        "skins",
        "train",
        "evaluate",
    ],
)
def test_every_command_has_help(command, name: str) -> None:
    code, out, _ = command(name, "--help")
    assert code == 0
    assert "Usage" in out


def test_estimate_writes_table_description_and_overlay(command, tmp_path: Path) -> None:
    save(tmp_path / "a.png", ONE)
    out = tmp_path / "out.csv"
    code, stdout, err = command("estimate", tmp_path / "a.png", "-o", out, "--overlay", tmp_path / "pictures")
    assert (code, stdout) == (0, "")
    assert "1 photo, 1 measured faces" in err
    assert pd.read_csv(out)["success"].tolist() == [1]
    about = json.loads((tmp_path / "out.json").read_text())
    assert about["options"]["method"] == "fast"
    assert (tmp_path / "pictures" / "a_overlay.png").is_file()


def test_estimate_without_a_name_prints_the_table(command, tmp_path: Path) -> None:
    code, out, _ = command("estimate", save(tmp_path / "a.png", ONE))
    assert code == 0
    assert out.startswith("input,frame,face_id,timestamp,confidence,success,reason,face_x")
    assert len(out.splitlines()) == 2


def test_a_photo_without_a_face_is_no_error(command, tmp_path: Path) -> None:
    code, out, err = command("estimate", save(tmp_path / "a.png", picture()))
    assert (code, err) == (0, "")
    assert "no face found" in out


def test_a_bad_file_is_reported_and_the_others_are_measured(command, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"")
    save(tmp_path / "good.png", ONE)
    code, _, err = command("estimate", tmp_path, tmp_path / "missing.jpg", "-o", tmp_path / "out.csv")
    assert code == 2
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["success"].tolist() == [0, 1]
    complaints = [line for line in err.splitlines() if line.startswith("faceunits: ")]
    assert len(complaints) == 2
    assert "missing.jpg does not exist" in complaints[0]
    assert "bad.jpg is empty" in complaints[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "missing.jpg"], "does not exist"),
        (["estimate", "."], "has none"),
        (["estimate", "a.png", "-o", "out.xlsx"], "ending in .csv"),
        (["estimate", "a.png", "-o", "no/out.csv"], "make the folder"),
        (["estimate", "a.png", "--method", "magic"], "method fast"),
        (["estimate", "a.png", "--detector", "magic"], "builtin or mediapipe"),
        (["render", "AU99=1"], "not modelled"),
        (["render", "AU12=9"], "0 to 5"),
        (["render", "AU12"], "AU12=4"),
        (["render", "AU12=x"], "AU12=4"),
        (["render", "AU12=1", "-o", "face.xyz"], "ending"),
        (["transfer", "a.png", "missing.jpg"], "does not exist"),
        (["transfer", "a.png", "a.png", "-o", "no/out.png"], "make the folder"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "a.png" in arguments:
        save(tmp_path / "a.png", ONE)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_leaves_nothing(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(photos, "measure", interrupt)
    save(tmp_path / "a.png", ONE)
    code, out, err = command("estimate", tmp_path / "a.png", "-o", tmp_path / "out.csv")
    assert (code, out) == (130, "")
    assert len(err.splitlines()) <= 1  # typer has its own word for it, older ones a line
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_name_that_is_not_utf8(command, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    save(path, ONE)
    code, _, _ = command("estimate", path, "-o", tmp_path / "out.csv")
    assert code == 0
    assert pd.read_csv(tmp_path / "out.csv")["input"][0].endswith("caf\\xe9.png")
    path.write_bytes(b"damaged")
    code, _, err = command("estimate", path)
    assert code == 2
    assert "caf\\xe9.png" in err


def test_render_writes_a_picture(command, tmp_path: Path) -> None:
    code, _, err = command(
        "render", "AU12=4", "6=3", "--yaw", "-10", "--identity", 3, "-o", tmp_path / "face.png"
    )
    assert code == 0
    assert "face.png" in err
    assert image.read(tmp_path / "face.png").shape == (64, 64, 3)


def test_transfer_writes_picture_and_blendshapes(command, tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.png", ONE), save(tmp_path / "b.png", ONE)
    code, _, _ = command("transfer", a, b, "-o", tmp_path / "c.png", "--blendshapes", tmp_path / "b.json")
    assert code == 0
    assert (image.read(tmp_path / "c.png") == 7).all()
    values = json.loads((tmp_path / "b.json").read_text())
    assert values["blendshapes"]["mouthSmileLeft"] == pytest.approx(40 / 55, abs=1e-3)
    assert len(values["blendshapes"]) == 52
    assert values["head"] == {"pitch_deg": 3, "yaw_deg": -5}


def test_doctor_names_the_missing_weights(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faceunits import weights

    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    code, _, err = command("doctor")
    assert code == 2
    assert "install the package again" in err.splitlines()[-1]


def test_self_test_reads_the_smile(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from faceunits import driving

    stand_ins.install(monkeypatch)
    # what the padding of the self-test leaves of the stand-in's two halves is one bright square each
    monkeypatch.setattr(
        driving,
        "render",
        lambda au, device: picture((4, 4, 24, 205 + 10 * int(au.get("AU12", 0))), size=(64, 64)),
    )
    cli._self_test("cpu")
    assert "AU12 neutral" in capfd.readouterr().err


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    many = "[print('x' * 100) for _ in range(10000)]"
    script = f"from faceunits import cli\ncli.app = lambda: {many}\ncli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_arrays_of_the_table_are_numbers(command, tmp_path: Path) -> None:
    _, out, _ = command("estimate", save(tmp_path / "a.png", ONE))
    (tmp_path / "t.csv").write_text(out)
    values = pd.read_csv(tmp_path / "t.csv").filter(regex="^AU")
    assert (values.dtypes == np.float64).all()


@pytest.mark.parametrize("network", list(cli_train.TRAINERS))
def test_a_trainer_shows_its_settings(command, tmp_path: Path, network: str) -> None:
    needed = ["--set", "data=x", "--set", "out=y"] if network == "detector" else []
    code, _, err = command("train", network, "--dry-run", *needed)
    assert code == 0
    assert " = " in err
    code, _, err = command("train", network, "--dry-run", *needed, "--set", "magic=1")
    assert code == 2
    assert "no setting magic" in err


def test_synthesize_shows_its_settings(command, tmp_path: Path) -> None:
    code, _, err = command("synthesize", tmp_path / "out", "--dry-run", "--set", "look=plain")
    assert code == 0
    assert "look = 'plain'" in err
    assert not list(tmp_path.iterdir())
