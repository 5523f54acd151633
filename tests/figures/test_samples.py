"""Samples show what is published, from the poison that the records name; and figures as files."""

import argparse
import dataclasses
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.offsetbox import TextArea
from matplotlib.text import Text
from PIL import Image

from attacks.placement import Place
from attacks.poison import Poison
from benchmark.cli.flags import artifact_paths
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.figures import FIGURES
from benchmark.figures.curves import curves
from benchmark.figures.draw import draw_all
from benchmark.figures.samples import _about, _draw, amplified, samples
from benchmark.figures.sources import ArtifactPaths, _cell
from benchmark.figures.style import png, write
from benchmark.grid.poison_store import PoisonStore
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import Record, ResolvedSpec, load_records
from benchmark.tables.selection import blocks
from tests.small import make_dataset, noise_of
from tests.tables.factory import record

NOISE = "uniform-noise[eps=6]"
WORDS = (
    "trigger-only[k=2,rounds=1,surrogate_steps=1,pgd_steps=1,step_size=1,hotflip_rounds=0,vocabulary=20,batch_size=16]"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    flags = {
        "--attack": f"{NOISE},{WORDS}",
        "--defense": "none",
        "--dataset": "scenes[train=40,val=8,test=12,objects=30]",
    }
    flags |= {"--epochs": "1", "--batch-size": "16", "--device": "cpu", "--precision": "fp32"}
    flags |= {"--out": str(folder / "out"), "--poisons": str(folder / "poisons"), "--cache": str(folder / "cache")}
    assert main(["run", *(word for pair in flags.items() for word in pair)]) == 0
    return folder


def sources(run: Path) -> ArtifactPaths:
    return ArtifactPaths(run / "poisons", run / "cache")


def of(run: Path, attack: str) -> Record:
    return next(record for record in load_records(run / "out") if record.attack.spec == attack)


def captions(figure: Figure) -> list[Text]:
    return [part for area in figure.findobj(TextArea) for part in area.get_children() if isinstance(part, Text)]


def bold(figure: Figure) -> list[str]:
    return [part.get_text() for part in captions(figure) if part.get_fontweight() == "bold"]


def pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_images_are_those_of_the_data_and_of_the_poison(run: Path) -> None:
    figures, missing = samples([of(run, NOISE)], sources(run))
    assert not missing
    (figure,) = figures.values()
    clean, poison = sources(run).find(of(run, NOISE))
    shown, delta = pictures(figure), noise_of(poison)
    assert len(shown) == 12
    for number, index in enumerate((0, 13, 26, 39)):
        original, protected, noise = (image.transpose(2, 0, 1) for image in shown[3 * number : 3 * number + 3])
        assert np.array_equal(original, clean.images[index])
        assert np.array_equal(protected, clean.images[index].astype(int) + delta[index])
        assert np.array_equal(noise, (128 + 16 * delta[index].astype(int)).clip(0, 255))
    text = " ".join(part.get_text() for part in captions(figure))
    for index in (0, 39):
        assert clean.captions[index][0] in text
    assert not any(part.get_fontweight() == "bold" for part in captions(figure))


def test_the_trigger_and_nothing_else_is_bold(run: Path) -> None:
    (figure,) = samples([of(run, WORDS)], sources(run))[0].values()
    _, poison = sources(run).find(of(run, WORDS))
    noises = pictures(figure)[2::3]
    assert all((noise == 128).all() for noise in noises)  # of the poison only the trigger is kept
    assert poison.trigger is not None
    assert bold(figure) == [poison.trigger[index] for index in (0, 13, 26, 39)]


def test_words_are_told_apart_by_blanks_however_many() -> None:
    clean = dataclasses.replace(make_dataset(1, 1), captions=[["a  dog  runs"]])
    poison = Poison(None, ["zig zag"], 0, clean.fingerprint, place=Place("end", 0))
    assert bold(_draw("MEM-3", clean, poison)) == ["zig zag"]


def test_a_long_heading_stays_within_the_figure_and_above_the_images() -> None:
    clean = make_dataset(1, 1)
    figure = _draw("MEM-3 through a defense of many parts " * 5, clean, Poison(None, None, 0, clean.fingerprint))
    figure.draw_without_rendering()
    (text,) = figure.texts
    assert text.get_window_extent().x1 <= figure.bbox.x1
    assert all(axes.title.get_window_extent().y1 < text.get_window_extent().y0 for axes in figure.axes)


def test_amplified_noise_stands_around_mid_grey() -> None:
    original = np.full((3, 1, 3), 100, np.uint8)
    changed = original + np.array([[[0, 3, 8]]], np.uint8)
    assert amplified(changed, original)[0].tolist() == [[128, 176, 255]]
    assert amplified(original, changed)[0].tolist() == [[128, 80, 0]]


def test_a_missing_poison_is_one_line_and_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plot", "samples", "--records", str(run / "out"), "--poisons", str(tmp_path), "--out", str(tmp_path / "f")]
    assert main([*words, "--cache", str(tmp_path / "cache")]) == 2
    error = capsys.readouterr().err
    assert "is not in" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_plugin_that_was_not_named_hides_its_own_samples_alone(run: Path) -> None:
    own = of(run, NOISE)
    theirs = dataclasses.replace(own, attack=dataclasses.replace(own.attack, spec="theirs", label="Theirs"))
    figures, (reason,) = samples([own, theirs], sources(run))
    assert len(figures) == 1
    assert "attack theirs is not known here; --plugin names the file" in str(reason)


def test_a_poison_file_that_is_gone_hides_its_own_samples_alone(run: Path) -> None:
    own = of(run, NOISE)
    gone = dataclasses.replace(own.attack, spec="poison[file=gone]", label="Gone", params={"file": "/no/gone"})
    figures, (reason,) = samples([own, dataclasses.replace(own, attack=gone)], sources(run))
    assert len(figures) == 1
    assert str(reason).startswith("attack poison[file=gone]: ")


@pytest.mark.parametrize(
    ("said", "change"), [("poison of other data", {"fingerprint": "0" * 64}), ("that of mem2-", {})]
)
def test_another_poison_in_the_place_of_one_hides_its_own_samples_alone(
    said: str, change: dict[str, Any], run: Path, tmp_path: Path
) -> None:
    (noise,), (words,) = ((run / "poisons").glob(f"{kind}*.safetensors") for kind in ("uniformnoise", "mem2"))
    dataclasses.replace(Poison.load(words), **change).save(tmp_path / noise.name)
    shutil.copy(words, tmp_path)
    records = [of(run, NOISE), of(run, WORDS)]
    figures, (reason,) = samples(records, ArtifactPaths(tmp_path, run / "cache"))
    assert list(figures) == list(samples(records[1:], sources(run))[0])
    assert f"{noise.name} holds a" in str(reason)
    assert said in str(reason)


def test_data_that_have_changed_hide_their_own_samples_alone(run: Path) -> None:
    own = of(run, NOISE)
    changed = dataclasses.replace(own.dataset, spec=own.dataset.spec.replace("objects=30", "objects=31"))
    figures, (reason,) = samples([own, dataclasses.replace(of(run, WORDS), dataset=changed)], sources(run))
    assert len(figures) == 1
    assert "is no longer what" in str(reason)


def test_surrogates_are_named_where_there_are_several(run: Path) -> None:
    own = of(run, NOISE)
    assert "surrogate" not in next(iter(samples([own], sources(run))[0].values())).texts[0].get_text()
    other = dataclasses.replace(own, surrogate=dataclasses.replace(own.surrogate, spec="RN50"), victim=own.victim)
    other = dataclasses.replace(other, attack=dataclasses.replace(own.attack, spec="theirs", label="Theirs"))
    (figure,) = samples([own, other], sources(run))[0].values()
    assert "surrogate tiny;" in figure.texts[0].get_text()


def test_a_poison_beyond_its_bound_is_not_shown(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = (run / "poisons").glob("uniformnoise*")
    broken = path.name
    (tmp_path / broken).write_bytes(path.read_bytes().replace(rb"\"eps\": 6", rb"\"eps\": 5"))
    words = ["plot", "samples", "--records", str(run / "out"), "--poisons", str(tmp_path), "--out", str(tmp_path / "f")]
    assert main([*words, "--cache", str(run / "cache")]) == 2
    assert "poison" in capsys.readouterr().err
    assert not (tmp_path / "f").exists()
    assert [path.name for path in tmp_path.iterdir()] == [broken]  # nor was another crafted in its place


def test_figures_are_written_in_three_formats_and_the_same_twice(run: Path, tmp_path: Path) -> None:
    records = load_records(run / "out")
    for folder in ("one", "two"):
        for name, figure in curves(records).items():
            write(figure, tmp_path / folder, name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["curves-controls.pdf", "curves-controls.png", "curves-controls.svg"]
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert len(content) > 5000
        assert content == (tmp_path / "two" / name).read_bytes()
    svg = (tmp_path / "one" / "curves-controls.svg").read_text("utf-8")
    assert ">epoch</text>" in svg  # text stays text


def test_only_the_formats_asked_for_are_written(run: Path, tmp_path: Path) -> None:
    (figure,) = curves(load_records(run / "out")).values()
    assert [path.name for path in write(figure, tmp_path, "one", formats=("png",))] == ["one.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_a_chart_gets_a_palette_and_noise_keeps_all_its_colours(run: Path) -> None:
    (chart,) = curves(load_records(run / "out")).values()
    assert Image.open(BytesIO(png(chart))).mode == "P"
    noisy = Figure(figsize=(2, 2))
    noisy.figimage(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8), resize=False)
    shown = Image.open(BytesIO(png(noisy)))
    drawn = BytesIO()
    noisy.savefig(drawn, dpi=150)
    assert np.array_equal(np.asarray(shown), np.asarray(Image.open(drawn).convert("RGB")))


def test_what_cannot_be_drawn_keeps_no_other_figure_from_being_drawn(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--poisons", str(tmp_path / "none"), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "f")]
    assert main(["plot", "matrix", "curves", "samples", "--records", str(run / "out"), *folders]) == 0
    matrix, *missing = capsys.readouterr().err.splitlines()
    assert matrix.startswith("warning: not drawn: matrix: these records hold no defended victim")
    assert len(missing) == 2
    assert all(line.startswith("warning: not drawn: samples: the poison of") for line in missing)
    assert {path.suffix for path in (tmp_path / "f").iterdir()} == {".svg", ".pdf", ".png"}
    assert {path.stem for path in (tmp_path / "f").iterdir()} == {"curves-controls"}
    assert main(["plot", "matrix", "lengths", "--records", str(run / "out"), "--out", str(tmp_path / "g")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "g").exists()


def test_every_name_can_be_drawn_or_says_why_not(run: Path) -> None:
    figures, problems = draw_all(FIGURES, load_records(run / "out"), sources(run))
    assert {problem.name for problem in problems} == {"defenses", "epsilon", "matrix", "lengths", "protected"}
    assert {name.partition("-")[0] for name in figures} == {"curves", "triggers", "samples"}
    with pytest.raises(UsageError, match="unknown figure 'curve'; did you mean 'curves'"):
        draw_all(["curve"], [], sources(run))


def test_a_noise_for_each_caption_is_shown_on_its_own_photo() -> None:
    clean = make_dataset(2, 3)
    delta = np.full((6, 3, 32, 32), 2, np.int8)
    shown = pictures(_draw("EM", clean, Poison(delta, None, 2, clean.fingerprint, per_row=True)))
    assert len(shown) == 12
    assert all(set(np.unique(noise)) <= {128, 144, 160} for noise in shown[2::3])  # 0, 1 or 2 where pixels are bright


def test_a_poison_is_sought_by_its_surrogate_and_kind_of_models() -> None:
    """And by the precision, which is all of the recipe that it depends on; the rest may be of a version to come."""
    recipe = {**dataclasses.asdict(PRESETS["tiny"].recipe), "precision": "bf16", "beta1": "x"}
    one = record("mem3", victim="tiny-wide", surrogate="tiny", recipe=recipe)
    noise = ResolvedSpec("uniform-noise", "Uniform noise", {"eps": 8})
    cell = _cell(dataclasses.replace(one, attack=noise, provenance={"models": "plain"}))
    assert (str(cell.victim), str(cell.surrogate), cell.plain_models) == ("tiny-wide", "tiny", True)
    assert cell.recipe.precision == "bf16"


@pytest.mark.parametrize("poisons", [None, "kept"])
def test_poisons_are_sought_where_a_run_keeps_them(poisons: str | None) -> None:
    with PoisonStore.open(poisons, Path("cache")) as store:
        found = artifact_paths(argparse.Namespace(poisons=poisons, cache="cache"))
    assert found == ArtifactPaths(store.folder, Path("cache"))


def test_the_heading_says_what_is_shown() -> None:
    one = record("mem3", poison={"psnr": None})
    said = _about(blocks([one])[0], one, Poison(None, ["a dog"], 0, "f"), with_surrogate=False)
    assert said == "MEM-3 on scenes, seed 1; images unchanged; trigger in bold"
