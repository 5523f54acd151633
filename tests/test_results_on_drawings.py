"""What pages say of attacks and defenses on OpenMoji and Open Clip Art is what the records say."""

from pathlib import Path
from statistics import fmean, stdev

from benchmark.grid.records import load_records

RESULTS = Path("results")


def recalls_of(*folders: str) -> dict[tuple[str, str, str], dict[int, float]]:
    """Test recall by data set, attack and defense, and by seed."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for folder in folders:
        for one in load_records(RESULTS / folder):
            cell = found.setdefault((one.dataset.spec, one.attack.spec, one.defense.spec), {})
            cell[one.seed] = one.last.test.mean_recall_at_10
    return found


def told(shares: list[float]) -> str:
    return f"{fmean(shares):.0f} ± {stdev(shares):.0f} %"


def test_what_is_said_of_white_and_grey_grounds_is_what_records_say() -> None:
    recalls = recalls_of("openmoji/records", "openclipart/records", "openclipart/grey")

    def lost(data: str, attack: str) -> str:
        clean = recalls[data, "clean", "none"]
        return told([100 * (1 - recall / clean[seed]) for seed, recall in recalls[data, attack, "none"].items()])

    strong = lost("openmoji", "em-wordwise[eps=16]")
    page = (RESULTS / "openmoji" / "README.md").read_text("utf-8")
    for title, data in (("OpenMoji", "openmoji"), ("Open Clip Art", "openclipart")):
        for name, attack in (("word-wise EM", "em-wordwise"), ("MEM-3", "mem3")):
            shown = strong if (data, attack) == ("openmoji", "em-wordwise") else "–"
            white, grey = lost(data, attack), lost(f"{data}[ground=128]", attack)
            assert f"| {title}, {name} | {white} | {grey} | {shown} |" in page
        for name, attack in (("MEM-3 word-wise", "mem-wordwise"), ("random trigger", "random-trigger")):
            grey = lost(f"{data}[ground=128]", attack) if data == "openmoji" else "–"
            assert f"| {title}, {name} | {lost(data, attack)} | {grey} | – |" in page
    said_of_trigger = f"With a trigger as well, word-wise EM takes {lost('openmoji', 'mem-wordwise')} on white"
    assert said_of_trigger in page
    text = " ".join((RESULTS / "openclipart" / "README.md").read_text("utf-8").split())
    for attack, said in (("em-wordwise", "word-wise EM takes"), ("mem3", "MEM-3 takes")):
        assert f"{said} {lost('openclipart[ground=128]', attack)}" in text
    assert f"random words alone takes {lost('openclipart', 'random-trigger')}" in text
    longer, faster = (lost("openmoji", f"em-wordwise[{more}]") for more in ("restarts=16", "pattern_lr=0.2"))
    on_drawings = " ".join(page.split())
    assert f"(`restarts=16`), and so twice the crafting, it takes {longer}" in on_drawings
    assert f"(`pattern_lr=0.2`) it takes {faster}" in on_drawings
    clean = recalls["openmoji", "clean", "none"]
    keyed, many = (recalls["openmoji", f"em-keyed{more}", "none"] for more in ("", "[keys=1024]"))
    first, second, of_many = (
        f"{100 * (1 - own[seed] / clean[seed]):.0f}" for own, seed in ((keyed, 101), (keyed, 102), (many, 101))
    )
    assert f"it takes {first} and {second} % on seeds 101 and 102, and with 1,024 groups {of_many} %" in on_drawings
    halves = [
        lost(data, attack)
        for data in ("openmoji", "openmoji[ground=128]")
        for attack in ("trigger-only", "trigger-uniform")
    ]
    said = "its trigger takes {} by itself and {} with uniform noise of the same ε, on grey {} and {}."
    assert said.format(*halves) in on_drawings
    assert f"the same three words in front of all captions take {lost('openmoji', 'same-words')}" in on_drawings
    for data in ("openmoji", "openmoji[ground=128]"):
        own = {
            attack: recalls[data, attack, "none"]
            for attack in ("clean", "mem3", "random-trigger", "trigger-only", "trigger-uniform")
        }
        for seed, recall in own["trigger-only"].items():
            assert own["mem3"][seed] < min(recall, own["trigger-uniform"][seed])
            assert own["random-trigger"][seed] < recall
            for attack in ("uniform-noise", "delta-only"):
                assert abs(1 - recalls[data, attack, "none"][seed] / own["clean"][seed]) < 0.02
    many_small = recalls["openmoji", "em-wordwise[batch_size=32,restarts=32]", "none"]
    as_is = recalls["openmoji", "em-wordwise", "none"]
    shares = [f"{100 * (1 - one[101] / clean[101]):.0f} %" for one in (many_small, as_is)]
    assert "it takes {} on seed 101, and {} as it is; no other seed".format(*shares) in on_drawings
    assert set(many_small) == {101}
    owners = " ".join(Path("docs/protecting-photos.md").read_text("utf-8").split())
    assert f"the noise takes {lost('openmoji', 'em-wordwise')} instead of 87 %" in owners
    assert f"on grey it takes {lost('openmoji[ground=128]', 'em-wordwise')} from the OpenMoji drawings" in owners
    with_trigger = [lost(data, "mem-wordwise") for data in ("openmoji", "openclipart")]
    assert f"it takes {' and '.join(with_trigger)} on white" in owners


def test_what_is_said_of_defenses_on_openmoji_is_what_records_say() -> None:
    recalls = recalls_of("openmoji/records")

    def kept(attack: str, defense: str, data: str = "openmoji") -> str:
        clean = recalls[data, "clean", "none"]
        shares = [100 * recall / clean[seed] for seed, recall in recalls[data, attack, defense].items()]
        assert len(shares) == 3
        return told(shares)

    page = " ".join((RESULTS / "openmoji" / "README.md").read_text("utf-8").split())
    for said, attack, defense in (
        ("victims of clean data keep {}", "clean", "prefix-drop"),
        ("random words (victims keep {})", "random-trigger", "rare-prefix"),
        ("nearly all of MEM-3 ({})", "mem3", "rare-prefix"),
        ("Victims keep {} of word-wise EM's data", "em-wordwise", "jpeg"),
        ("{} of MEM-3's and", "mem3", "jpeg"),
        ("and {} of random words'", "random-trigger", "jpeg"),
        ("victims of word-wise EM keep {}, and", "em-wordwise", "crop-flip"),
        ("and {} without a defense", "em-wordwise", "none"),
        ("Victims keep {} of word-wise EM's data, 85", "em-wordwise", "cleanclip"),
        ("{} of MEM-3's, 93", "mem3", "cleanclip"),
        ("{} of random words' and 59", "random-trigger", "cleanclip"),
        ("and {} of `mem-wordwise`'s", "mem-wordwise", "cleanclip"),
        ("here victims keep {}", "em-wordwise", "tile-average"),
        ("keep at most {} under any of the first five", "mem-wordwise", "cleanclip"),
        ("{} under `rare-prefix+jpeg`", "mem-wordwise", "rare-prefix+jpeg"),
        ("{} under `rare-prefix+tile-average`", "mem-wordwise", "rare-prefix+tile-average"),
    ):
        assert said.format(kept(attack, defense)) in page
    for said, defense in (
        ("({} on grey)", "jpeg"),
        ("they keep {} in place", "crop-flip"),
        ("in place of {}, more on each of three seeds", "none"),
        ("on grey victims keep {}, more on two seeds", "tile-average"),
    ):
        assert said.format(kept("em-wordwise", defense, "openmoji[ground=128]")) in page
    for defense in ("rare-prefix", "cleanclip"):
        assert kept("clean", defense).startswith("100 ±")
    footguns = Path("docs/footguns.md").read_text("utf-8")
    assert f"where captions are names, clean victims keep {kept('clean', 'prefix-drop')} under it" in footguns


def test_what_is_said_of_defenses_on_clip_art_is_what_records_say() -> None:
    recalls = recalls_of("openclipart/records")
    clean = recalls["openclipart", "clean", "none"]

    def kept(attack: str, defense: str) -> list[float]:
        shares = [
            100 * recall / clean[seed] for seed, recall in sorted(recalls["openclipart", attack, defense].items())
        ]
        assert len(shares) == 3
        return shares

    page = " ".join((RESULTS / "openclipart" / "README.md").read_text("utf-8").split())
    for said, attack, defense in (
        ("bring MEM-3's victims back to {}", "mem3", "prefix-drop"),
        ("bring MEM-3's victims back to {}", "mem3", "rare-prefix"),
        ("CleanCLIP leaves {}", "mem3", "cleanclip"),
        ("where no defense leaves {}", "mem3", "none"),
        ("Word-wise EM's victims keep {} without", "em-wordwise", "none"),
        ("{} under JPEG", "em-wordwise", "jpeg"),
        ("{} under CleanCLIP", "em-wordwise", "cleanclip"),
        ("{} under adversarial training", "em-wordwise", "adv-training"),
        ("{} under `tile-average`", "em-wordwise", "tile-average"),
        ("{} under random crops: more", "em-wordwise", "crop-flip"),
        ("against MEM-3: victims keep {}, 8 to 13 points more", "mem3", "random-deletion"),
        ("Clean victims keep {} under mixup", "clean", "mixup"),
        ("they keep {} under it, more on each", "clean", "cleanclip"),
    ):
        assert said.format(told(kept(attack, defense))) in page, said
    four = ("cleanclip", "jpeg", "crop-flip", "adv-training")
    none, *keyed = (told(kept("em-keyed", defense)) for defense in ("none", *four))
    said = (
        f"Keyed EM's victims keep {none} without a defense and {keyed[0]}, {keyed[1]}, {keyed[2]} and {keyed[3]} under"
    )
    assert said in page
    none, *per_image = (told(kept("em", defense)) for defense in ("none", *four))
    said = f"EM's victims keep {none} without a defense and {per_image[0]}, {per_image[1]}, {per_image[2]} and"
    assert f"{said} {per_image[3]} under these four" in page
    assert "MEM-3 takes more than word-wise EM, that more than keyed EM, and that more than EM" in page
    ordered = zip(*(kept(attack, "none") for attack in ("mem3", "em-wordwise", "em-keyed", "em")), strict=True)
    assert all(list(shares) == sorted(shares) for shares in ordered)
    seven = "random-noise mixup cutout random-insertion random-deletion random-swap synonym-replacement".split()
    for attack, said in (
        ("mem3", "MEM-3's victims keep {:.0f} to {:.0f} % under them"),
        ("em-wordwise", "word-wise EM's keep {:.0f} to {:.0f} %, where"),
    ):
        means = [fmean(kept(attack, defense)) for defense in seven]
        assert said.format(min(means), max(means)) in page
        assert all(less < more for less, more in zip(kept(attack, "cutout"), kept(attack, "none"), strict=True))
    for attack in ("em-wordwise", "em-keyed"):
        for defense in (*four, *(["tile-average"] if attack == "em-wordwise" else [])):
            assert all(more > less for more, less in zip(kept(attack, defense), kept(attack, "none"), strict=True))
    assert min(kept("clean", "cleanclip")) > 100
    on_names = " ".join((RESULTS / "openmoji" / "README.md").read_text("utf-8").split())
    word_wise = (kept("em-wordwise", defense) for defense in ("none", "crop-flip"))
    assert "crops bring {} back to {}".format(*map(told, word_wise)) in on_names
