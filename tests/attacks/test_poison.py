"""The poison: applied to the right image and the right captions, within its bound, stored without loss."""

import hashlib
import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from attacks import ATTACKS
from attacks.placement import Place
from attacks.poison import Poison
from benchmark.core.errors import DamagedPoison, PoisonError, UsageError
from benchmark.core.locks import claimed
from benchmark.core.spec import parse_spec
from benchmark.data import CaptionDataset, LazyImages
from tests.full_disk import file_of_at_most
from tests.memory import backing_file, linux_only
from tests.small import make_dataset, noise_of


def made(dataset: CaptionDataset, eps: int = 8, per_row: bool = False) -> Poison:
    count = len(dataset.pairs) if per_row else len(dataset)
    rng = np.random.default_rng(1)
    delta = rng.integers(-eps, eps + 1, size=(count, *dataset.images.shape[1:]), dtype=np.int8)
    return Poison(delta, [f"w{i} x y" for i in range(count)], eps, dataset.fingerprint, per_row, {"seed": 1})


def test_every_image_gets_its_own_noise_and_every_caption_its_images_trigger(dataset: CaptionDataset) -> None:
    poison = made(dataset)
    protected = poison.protect(dataset)
    for i in range(len(dataset)):
        for value, clean, noise in zip(
            protected.images[i].flatten().tolist(),
            dataset.images[i].flatten().tolist(),
            noise_of(poison)[i].flatten().tolist(),
            strict=True,
        ):
            assert value == max(0, min(255, clean + noise))
        assert protected.captions[i] == [f"w{i} x y {caption}" for caption in dataset.captions[i]]
    assert protected.images.dtype == np.uint8
    assert protected.fingerprint != dataset.fingerprint


def test_the_clean_data_stay_as_they_are(dataset: CaptionDataset) -> None:
    images, captions = dataset.images[:].copy(), [list(own) for own in dataset.captions]
    made(dataset).protect(dataset)
    assert np.array_equal(dataset.images[:], images)
    assert dataset.captions == captions


def test_an_empty_poison_is_clean_data(dataset: CaptionDataset) -> None:
    protected = Poison(None, None, 0, dataset.fingerprint).protect(dataset)
    assert protected.fingerprint == dataset.fingerprint


def test_per_row_poison_publishes_one_copy_per_caption(dataset: CaptionDataset) -> None:
    poison = made(dataset, per_row=True)
    protected = poison.protect(dataset)
    assert len(protected) == len(dataset.pairs)
    image, caption = dataset.pairs[7]
    assert protected.captions[7] == [f"w7 x y {dataset.captions[image][caption]}"]
    expected = (dataset.images[image].astype(int) + noise_of(poison)[7]).clip(0, 255)
    assert np.array_equal(protected.images[7], expected)
    assert protected.photo is not None
    assert protected.photo[7] == image


def test_a_poison_beyond_its_bound_is_refused(dataset: CaptionDataset) -> None:
    poison = made(dataset)
    for value in (9, -9):
        delta = noise_of(poison).copy()
        delta[3, 1, 2, 4] = value
        with pytest.raises(PoisonError, match="exceeds its bound"):
            replace(poison, delta=delta)


@pytest.mark.parametrize(
    ("trigger", "reason"),
    [
        ("red\ndog", "line break or control character"),
        ("red\u2028dog", "line break or control character"),
        ("red \x07 dog", "line break or control character"),
        ("<start_of_text> dog", "special token"),
        ("dog <END_OF_TEXT>", "special token"),
        ("&lt;start_of_text&gt;", "special token"),
        ("＜end_of_text＞", "special token"),
    ],
)
def test_a_trigger_that_captions_do_not_keep_is_refused_when_made_and_when_loaded(
    dataset: CaptionDataset, tmp_path: Path, trigger: str, reason: str
) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    triggers = [*(poison.trigger or [])[:-1], trigger]
    with pytest.raises(PoisonError, match=rf"the trigger of row 23 has a {reason}"):
        replace(poison, trigger=triggers)
    poison.save(path)
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["poison"]) | {"trigger": triggers}
    save_file({"delta": noise_of(poison)}, path, metadata={"poison": json.dumps(header)})
    with pytest.raises(PoisonError, match=reason):
        Poison.load(path)


@pytest.mark.parametrize("wrong", ["x" * 24, [None] * 24, [5] * 24, [b"cat"] * 24, {"cat": 1}])
def test_triggers_of_another_kind_are_refused(wrong: Any, dataset: CaptionDataset) -> None:
    """A text would be read letter by letter, and no file of it could be read again."""
    with pytest.raises(PoisonError, match="not a poison: trigger"):
        replace(made(dataset), trigger=wrong)


@pytest.mark.parametrize("kind", [tuple, lambda triggers: list(np.array(triggers))])
def test_triggers_may_come_from_numpy_and_in_a_tuple(kind: Any, dataset: CaptionDataset, tmp_path: Path) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    replace(poison, trigger=kind(poison.trigger)).save(path)
    assert Poison.load(path).trigger == poison.trigger


def test_a_place_that_no_file_could_name_is_refused(dataset: CaptionDataset) -> None:
    with pytest.raises(PoisonError, match="not a poison: place"):
        replace(made(dataset), place=Place("middle"))  # type: ignore[arg-type]


def test_signs_and_letters_of_any_language_may_be_triggers(dataset: CaptionDataset) -> None:
    for trigger in ("größer als 3 < 4", "犬 и кот", "start_of_text", "<b>", "R&D", ""):
        replace(made(dataset), trigger=[trigger] * len(dataset))


def test_a_poison_of_other_data_is_refused(dataset: CaptionDataset) -> None:
    with pytest.raises(PoisonError, match="other data"):
        made(dataset).protect(make_dataset(seed=5))


def test_saving_and_loading_lose_nothing_and_cost_one_byte_a_value(dataset: CaptionDataset, tmp_path: Path) -> None:
    poison, path = made(dataset), tmp_path / "deep" / "p.safetensors"
    poison.save(path)
    loaded = Poison.load(path)
    assert np.array_equal(noise_of(loaded), noise_of(poison))
    assert replace(loaded, delta=None) == replace(poison, delta=None)
    assert path.stat().st_size < noise_of(poison).nbytes + 2000 + 20 * len(dataset)
    assert [file.name for file in path.parent.iterdir()] == ["p.safetensors"]


def test_a_poison_in_a_home_folder_is_found(
    dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves ~ alone within brackets."""
    monkeypatch.setenv("HOME", str(tmp_path))
    made(dataset).save(tmp_path / "p.safetensors")
    ATTACKS.build(parse_spec("poison[file=~/p.safetensors]")).check(dataset)


def test_a_stored_poison_of_another_shape_is_refused_at_once(dataset: CaptionDataset, tmp_path: Path) -> None:
    whole = made(dataset)
    assert whole.delta is not None
    replace(whole, delta=whole.delta[:, :, :-1]).save(tmp_path / "p.safetensors")
    with pytest.raises(UsageError, match=r"p\.safetensors: the poison is .*, the images are"):
        ATTACKS.build(parse_spec(f"poison[file={tmp_path}/p.safetensors]")).check(dataset)


def test_a_worker_is_sent_the_name_of_a_poison_and_not_its_noise(dataset: CaptionDataset, tmp_path: Path) -> None:
    made(dataset).save(tmp_path / "p.safetensors")
    stored = ATTACKS.build(parse_spec(f"poison[file={tmp_path}/p.safetensors]"))
    sent = pickle.dumps(stored)
    assert len(sent) < 1000
    there = pickle.loads(sent)
    assert (there, there.identity()) == (stored, stored.identity())
    there.check(dataset)


def test_any_safetensors_reader_sees_the_noise(dataset: CaptionDataset, tmp_path: Path) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    poison.save(path)
    content = load_file(path)
    assert list(content) == ["delta"]
    assert content["delta"].dtype == np.int8
    assert np.array_equal(content["delta"], noise_of(poison))


@linux_only
@pytest.mark.parametrize("per_row", [False, True])
def test_a_loaded_poison_is_mapped_and_protects_without_a_copy(
    dataset: CaptionDataset, tmp_path: Path, per_row: bool
) -> None:
    path = tmp_path / "p.safetensors"
    made(dataset, per_row=per_row).save(path)
    poison = Poison.load(path)
    noise, published = noise_of(poison), poison.protect(dataset).images
    assert backing_file(noise) == str(path)
    assert not noise.flags.writeable
    assert isinstance(published, LazyImages)
    assert published.noise is noise
    source = published.source
    if per_row:
        assert isinstance(source, LazyImages)
        source = source.source
    assert source is dataset.images


def test_a_poison_of_another_type_or_shape_is_refused(dataset: CaptionDataset, tmp_path: Path) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    with pytest.raises(PoisonError, match="int8"):
        replace(poison, delta=noise_of(poison).astype(np.int16))
    with pytest.raises(PoisonError, match="a perturbation is a NumPy array of int8, got a Tensor"):
        replace(poison, delta=torch.from_numpy(noise_of(poison)))  # type: ignore[arg-type]
    replace(poison, delta=noise_of(poison)[:, :1]).save(path)
    with pytest.raises(PoisonError, match="the images are"):
        Poison.load(path).protect(dataset)
    poison.save(path)
    path.write_bytes(path.read_bytes().replace(b'"dtype":"I8"', b'"dtype":"U8"'))
    with pytest.raises(PoisonError, match="int8"):
        Poison.load(path)


def test_a_damaged_missing_or_tampered_file_is_never_read_as_poison(dataset: CaptionDataset, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(PoisonError, match="no poison file"):
        Poison.load(path)
    made(dataset).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(PoisonError, match="not a readable poison"):
        Poison.load(path)
    path.write_bytes(b"")
    with pytest.raises(PoisonError, match="not a readable poison"):
        Poison.load(path)
    path.write_bytes(whole.replace(rb"\"eps\": 8", rb"\"eps\": 7"))
    with pytest.raises(PoisonError, match="exceeds its bound"):
        Poison.load(path)


@pytest.mark.parametrize("place", ["noise", "trigger"])
def test_damage_within_the_bound_is_seen(dataset: CaptionDataset, tmp_path: Path, place: str) -> None:
    poison, path = made(dataset, eps=127), tmp_path / "p.safetensors"
    poison.save(path)
    whole = bytearray(path.read_bytes())
    position = len(whole) - 1000 if place == "noise" else whole.index(b"w3 x y")
    whole[position] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DamagedPoison, match="does not match its SHA-256"):
        Poison.load(path)


def test_the_hash_is_of_header_shape_and_noise(tmp_path: Path) -> None:
    dataset, path = make_dataset(images=300, resolution=8), tmp_path / "p.safetensors"  # more images than one chunk
    poison = made(dataset)
    poison.save(path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    content = metadata["poison"].encode() + b"(300, 3, 8, 8)" + noise_of(poison).tobytes()
    assert metadata["sha256"] == hashlib.sha256(content).hexdigest()
    Poison(None, ["x"] * 300, 0, dataset.fingerprint).save(path)
    assert Poison.load(path).trigger == ["x"] * 300


def test_a_file_without_its_hash_is_damaged(dataset: CaptionDataset, tmp_path: Path) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    poison.save(path)
    with safe_open(path, framework="np") as file:
        header = file.metadata()["poison"]
    save_file({"delta": noise_of(poison)}, path, metadata={"poison": header})
    with pytest.raises(DamagedPoison, match="does not match its SHA-256"):
        Poison.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eps", "8"),
        ("eps", True),
        ("eps", -1),
        ("eps", 10**400),
        ("eps", float("nan")),
        ("trigger", 5),
        ("trigger", [1]),
        ("per_row", "no"),
        ("fingerprint", None),
        ("provenance", []),
        ("provenance", {"loss_per_round": [float("nan")]}),
        ("provenance", {"loss_per_round": ["3"]}),
        ("provenance", {"loss_per_round": 3}),
        ("provenance", {"seconds": "nan"}),
        ("provenance", {"seconds": -1}),
        ("provenance", {"else": {"deep": float("inf")}}),
        ("place", "end"),
        ("place", {"kind": "middle"}),
    ],
    ids=str,
)
def test_a_header_of_other_kinds_is_refused(dataset: CaptionDataset, tmp_path: Path, field: str, value: object) -> None:
    poison, path = made(dataset), tmp_path / "p.safetensors"
    poison.save(path)
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["poison"]) | {field: value}
    for text in (json.dumps(header), json.dumps(header).replace("Infinity", "1e999")):
        save_file({"delta": noise_of(poison)}, path, metadata={"poison": text})
        with pytest.raises(PoisonError, match=r"not a readable poison|not a poison: "):
            Poison.load(path)
    with pytest.raises(PoisonError, match="not a poison: "):
        replace(poison, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", '{"eps": 8, "eps": 8}', "8", "\0"])
def test_a_header_that_is_none_is_refused(dataset: CaptionDataset, tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.safetensors"
    save_file({"delta": noise_of(made(dataset))}, path, metadata={"poison": text})
    with pytest.raises(PoisonError, match="not a readable poison"):
        Poison.load(path)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, dataset: CaptionDataset) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*File too large"), file_of_at_most(100):
        made(dataset).save(tmp_path / "poison.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_has_written_of_a_poison_goes_with_the_next(
    tmp_path: Path, dataset: CaptionDataset
) -> None:
    """The library writes into a file with a name of its own. Here the system ends the process in the middle."""
    code = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from attacks.poison import Poison\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "Poison(np.zeros((9, 3, 8, 8), np.int8), None, 8, '').save(Path(sys.argv[1]))\n"
    )
    path = tmp_path / "poison.safetensors"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGXFSZ
    with claimed(path, wait=True):
        pass
    with claimed(path, wait=True, tidy=True):  # as the next run does, by which the lock is no new file
        made(dataset).save(path)
    assert {left.name for left in tmp_path.iterdir()} == {path.name, f".{path.name}.lock"}
