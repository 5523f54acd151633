"""The lines under a table say what the numbers rest on."""

import random
from dataclasses import replace

import pytest

from benchmark.grid.records import Record
from benchmark.tables.chance import image_to_text, text_to_image
from benchmark.tables.defenses import table2
from benchmark.tables.lengths import table1
from benchmark.tables.make import make_tables
from tests.tables.factory import record

BY_A_SURROGATE = {"loss_per_round": [4.8, 2.0]}


def notes(*records: Record) -> str:
    return "\n".join(table2([record("clean"), record("mem3"), *records])[0].notes)


def test_data_victim_attack_and_seed_are_named() -> None:
    text = notes()
    assert "4,000 train / 500 val / 1,000 test images; 64 px" in text
    assert "Victim: tiny; epochs 14, batch size 128, evaluate every 1, lr 0.0005, rows images, precision fp32." in text
    assert "MEM-3 up to 8/255, PSNR 33.0 dB" in text
    assert "One seed: 1." in text


def test_a_permuted_surrogate_is_said_where_it_was_and_only_there() -> None:
    permuted = {"permute_surrogate": True}
    said = "captions were permuted in the surrogate's steps"
    assert said in "\n".join(table2([record("mem3", params=permuted)])[0].notes)
    assert said not in "\n".join(table2([record("mem3", params={"permute_surrogate": False})])[0].notes)
    # EM has no trigger to tie noise to, whatever its parameter says.
    (table,) = table1([record("em", params=permuted), record("mem3", params=permuted)])
    assert next(note for note in table.notes if said in note).startswith("MEM-3: ")


def test_nothing_is_said_to_have_been_done_to_clean_data() -> None:
    assert "surrogate" not in "\n".join(table2([record("clean")])[0].notes)


def test_a_fresh_surrogate_is_said() -> None:
    every = {"em": 1, "mem1": 6, "mem3": 5}  # of six rounds
    (table,) = table1([record(attack, params={"restart_every": rounds}) for attack, rounds in every.items()])
    assert any(note.startswith("EM, MEM-3: new surrogates took") for note in table.notes)


def test_what_an_attack_through_a_defense_does_beyond_algorithm_1_is_said() -> None:
    """Its settings are a spec within its own, as text. A surrogate that is as old as all rounds is never replaced."""
    inner = "em[rounds=8,permute_surrogate=yes,permute_images={},restart_every={}]"
    used = record("em-aug", params={"attack": inner.format("yes", 4), "defense": "strong-augment"})
    unused = record("em-aug", params={"attack": inner.format("no", "none"), "defense": "strong-augment"})
    said = [note for note in make_tables("attacks", [record("clean"), used])[0].notes if "Algorithm 1" in note]
    assert [note.partition(": ")[2][:14] for note in said] == ["new surrogates", "each noise was"]
    assert all(note.startswith("EM through strong-augment") for note in said)
    assert "Algorithm 1" not in " ".join(make_tables("attacks", [record("clean"), unused])[0].notes)
    kept = record("em-aug", params={"attack": inner.format("no", 8), "defense": "strong-augment"})
    assert "Algorithm 1" not in " ".join(make_tables("attacks", [record("clean"), kept])[0].notes)


def test_a_defenses_strength_and_effect_are_said() -> None:
    text = notes(
        record("mem3", "cutout", strength="square of 0.5", changes={"words_per_caption": 0, "pixel": 20.0}),
        record("mem3", "cutout", seed=2, strength="square of 0.5", changes={"words_per_caption": 0, "pixel": 21.0}),
        record("mem3", "random-swap", changes={"words_per_caption": 1.25, "pixel": 0}, defense_params={"alpha": 0.1}),
        record("mem3", "mixup", strength="λ"),
        record("mem3", "grey", changes={"words_per_caption": 0, "pixel": 20.0}),
        record("clean", "random-swap", changes={"words_per_caption": 9.0, "pixel": 0}, defense_params={"alpha": 0.1}),
    )
    assert "Cutout: square of 0.5; changed 20.5/255 per pixel value on average." in text
    assert "Grey: changed 20.0/255 per pixel value on average." in text
    assert "Random swap: random-swap.alpha 0.1; changed 1.25 words per caption on average." in text
    assert (
        "Mixup: λ; changed no pixel and no word on average (by how much it changes the loss was not measured)." in text
    )


def test_what_a_loss_and_a_filter_change_is_said_of_the_records_that_know_it() -> None:
    earlier = {"words_per_caption": 0.0, "pixel": 0.0}
    text = notes(
        record("mem3", "cleanclip", strength="weight 1", changes={**earlier, "loss": 2.0, "pairs_left_out": 0.0}),
        record("mem3", "cleanclip", seed=2, strength="weight 1", changes=earlier),
        record(
            "mem3", "clip-score-filter", strength="a third", changes={**earlier, "loss": 0.0, "pairs_left_out": 25.0}
        ),
    )
    assert "CleanCLIP: weight 1; changed the loss by 2.00 nats on average." in text
    assert "a third; changed no pixel and no word on average; 25 % of the pairs left out." in text


def test_what_a_defense_changes_is_told_of_each_attack_alone() -> None:
    """Three words for one attack and none for another are not averaged to one and a half."""
    records = [record("clean"), record("clean", seed=2)]
    for attack, seed, words in (("mem3", 1, 3.0), ("mem3", 2, 3.2), ("em", 1, 0.0)):
        changes = {"words_per_caption": words, "pixel": 0}
        records.append(record(attack, "rare-prefix", strength="words", seed=seed, changes=changes))
    text = "\n".join(make_tables("matrix", records)[0].notes)
    assert "Rare prefix: words; changed 0.00 to 3.10 words per caption on average, depending on the attack." in text


@pytest.mark.parametrize(
    ("pixel", "left_out", "words"),
    [
        (2.0, 17.0, "changed 1.0 to 2.0/255 per pixel value on average, depending on the attack; 17 % of the pairs"),
        (1.0, 18.0, "changed 1.0/255 per pixel value on average; 17 to 18 % of the pairs left out, depending on the"),
    ],
)
def test_what_depends_on_the_attack_is_said_where_it_stands(pixel: float, left_out: float, words: str) -> None:
    first = {"words_per_caption": 0.0, "pixel": 1.0, "pairs_left_out": 17.0}
    records = [record("clean"), record("mem3", "clean-start", changes=first)]
    records.append(record("em", "clean-start", changes={**first, "pixel": pixel, "pairs_left_out": left_out}))
    assert words in " ".join(make_tables("matrix", records)[0].notes)


def test_a_shared_poisons_time_counts_once() -> None:
    text = notes(
        record("mem3", "cutout", seconds={"craft": 300.0, "train": 200.0, "evaluate": 3.0}),
        record("mem3", "none", seed=2, seconds={"craft": 400.0, "train": 170.0, "evaluate": 3.0}),
    )
    assert "craft 350 s (300 to 400) a poison, train 178 s (170 to 200) a victim, evaluate 3 s a victim" in text
    assert "cpu (x86_64, 2 threads)" in text


def test_of_several_times_of_one_poison_the_shortest_counts() -> None:
    """The undefended cell's is 300 s; other programs may have run beside the other one."""
    for longer in (500.0, 301.0):
        text = notes(record("mem3", "cutout", seconds={"craft": longer, "train": 170.0, "evaluate": 3.0}))
        assert "craft 300 s a poison (the fastest of its times)" in text


def test_halves_of_a_poison_cost_no_time_of_their_own() -> None:
    whole = {"craft": 300.0, "train": 170.0, "evaluate": 3.0}
    records = [record(attack, seconds=whole) for attack in ("mem3", "trigger-only", "delta-only")]
    records.append(record("em", seconds={**whole, "craft": 100.0}))
    text = "\n".join(make_tables("attacks", records)[0].notes)
    assert "craft 200 s (100 to 300) a poison" in text


def test_attacks_of_one_budget_share_a_line_and_others_do_not() -> None:
    """A record of any attack names the run's surrogate; the poison's losses tell whether the attack trained it."""
    em, mem3 = record("em", poison=BY_A_SURROGATE), record("mem3", poison=BY_A_SURROGATE)
    assert "EM, MEM-3: surrogate tiny; rounds 6." in table1([em, mem3])[0].notes
    assert {"EM: surrogate tiny; rounds 6.", "MEM-3: rounds 6."} <= set(table1([em, record("mem3")])[0].notes)
    unequal = table1([record("em", params={"rounds": 2}, poison=BY_A_SURROGATE), mem3])[0].notes
    assert {"EM: surrogate tiny; rounds 2.", "MEM-3: surrogate tiny; rounds 6."} <= set(unequal)
    bare = [
        replace(one, attack=replace(one.attack, params={"k": one.attack.params["k"]})) for one in (em, record("mem3"))
    ]
    assert {"EM: surrogate tiny.", "MEM-3: no parameters."} <= set(table1(bare)[0].notes)


def test_chance_says_where_captions_are_taken_as_spread_evenly() -> None:
    one = record("mem3")
    uneven = replace(one, dataset=replace(one.dataset, params={**one.dataset.params, "test_captions": 5001}))
    assert "captions as spread evenly" in "\n".join(table2([uneven])[0].notes)
    assert "captions as spread evenly" not in notes()


def test_chance_at_the_papers_size() -> None:
    assert "R@10 1.0 I→T, 1.0 T→I; Medr 647 I→T, 500 T→I" in notes()


@pytest.mark.parametrize(("images", "captions"), [(40, 200), (30, 75), (8, 8)])
def test_chance_is_that_of_a_shuffled_ranking(images: int, captions: int) -> None:
    rng = random.Random(1)
    owner = [number % images for number in range(captions)]
    text_ranks: list[int] = []
    image_ranks: list[int] = []
    for _ in range(1500):
        rng.shuffle(owner)
        first = {image: rank for rank, image in reversed(list(enumerate(owner, start=1)))}
        text_ranks += first.values()
        image_ranks += [rng.randint(1, images) for _ in range(images)]
    for expected, ranks in ((image_to_text(images, captions), text_ranks), (text_to_image(images), image_ranks)):
        assert expected.recall_at_10 == pytest.approx(100 * sum(rank <= 10 for rank in ranks) / len(ranks), abs=0.8)
        assert abs(expected.median_rank - sorted(ranks)[len(ranks) // 2]) <= 1
