"""Break one thing at a time and see a test turn red: ``python tests/tools/mutations.py``.

Each mutation is a piece of code and what takes its place. The tree is copied, changed and tested there, with poisons
crafted anew (no cache is shared). Exit code 0 if every mutation was caught; prints a table for tests/MUTATIONS.md.

``python tests/tools/mutations.py check`` asks ``python -m benchmark check`` instead, for the mutations that bear on the
strength of a poison, some minutes each. Further words choose the mutations whose fault contains one of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmark", "attacks", "defenses", "victims", "tests", "docs", "results/paper", "results/reference")


class Mutation(NamedTuple):
    """What is broken, where, the code and its replacement, the tests that should notice; whether ``check`` should."""

    fault: str
    file: str
    code: str
    replacement: str
    tests: str
    checked: bool = False


MUTATIONS = (
    Mutation(
        "PGD climbs instead of descending",
        "attacks/pgd.py",
        "noise = noise - step_size",
        "noise = noise + step_size",
        "tests/attacks",
        checked=True,
    ),
    Mutation(
        "the trigger is not applied to the victim's captions",
        "attacks/poison.py",
        '[f"{trigger} {caption}" for caption in own]',
        "[caption for caption in own]",
        "tests/harness/test_run.py",
        checked=True,
    ),
    Mutation(
        "δ exceeds ε",
        "attacks/pgd.py",
        "highest = (255 - clean).clamp(max=eps)",
        "highest = (255 - clean).clamp(max=eps + 1)",
        "tests/attacks",
    ),
    Mutation(
        "a poison beyond its ε is accepted",
        "attacks/poison.py",
        "if self.largest > self.eps:",
        "if self.largest > self.eps + 1:",
        "tests/attacks/test_poison.py",
    ),
    Mutation(
        "noise goes to the wrong image",
        "benchmark/data/dataset.py",
        "add_noise(images, self.noise[rows])",
        "add_noise(images, np.roll(self.noise, 1, axis=0)[rows])",
        "tests/attacks/test_poison.py",
        checked=True,
    ),
    Mutation(
        "the trigger goes to the wrong image",
        "attacks/poison.py",
        "zip(self.trigger, base.captions, strict=True)",
        "zip(self.trigger[1:] + self.trigger[:1], base.captions, strict=True)",
        "tests/attacks/test_poison.py",
    ),
    Mutation(
        "the protected images are not what the victim trains on",
        "benchmark/grid/runner.py",
        "                protected,\n                cell.recipe,",
        "                data.train,\n                cell.recipe,",
        "tests/harness/test_run.py",
    ),
    Mutation(
        "test captions carry triggers",
        "benchmark/grid/runner.py",
        "evaluate(model, data.test, seed))",
        "evaluate(model, replace(data.test, captions=[['a ' + c for c in x] for x in data.test.captions]), seed))",
        "tests/harness/test_run.py",
    ),
    Mutation(
        "prefix-drop silently does nothing",
        "defenses/prefix_drop.py",
        "def on_captions(",
        "def on_caption(",
        "tests/defenses",
        checked=True,
    ),
    Mutation(
        "the image hook of a defense is never called",
        "victims/training.py",
        "images = defense.on_images(images, at)",
        "pass",
        "tests/victims/test_training.py",
    ),
    Mutation(
        "adversarial training descends",
        "defenses/adv_training.py",
        "step_size, eps)",
        "-step_size, eps)",
        "tests/defenses/test_adv_training.py",
    ),
    Mutation(
        "captions are not permuted in the PGD steps",
        "attacks/crafting.py",
        "if permuted else tokens",
        "if False else tokens",
        "tests/attacks/test_mem.py",
        checked=True,
    ),
    Mutation(
        "HotFlip keeps the old trigger",
        "attacks/hotflip.py",
        "torch.where(best < current,",
        "torch.where(best < -1,",
        "tests/attacks/test_hotflip.py",
        checked=True,
    ),
    Mutation(
        "a trigger one token short",
        "attacks/crafting.py",
        "drawn_triggers(words, len(rows), settings.k, self.seed)",
        "drawn_triggers(words, len(rows), settings.k, self.seed)[:, 1:]",
        "tests/attacks/test_mem.py",
        checked=True,
    ),
    Mutation(
        "recall is off by one rank",
        "benchmark/metrics.py",
        "recall_at_10=float((ranks <= 10)",
        "recall_at_10=float((ranks <= 11)",
        "tests/test_metrics.py",
        checked=True,
    ),
    Mutation(
        "ties count in the victim's favour",
        "benchmark/metrics.py",
        "ahead = (similarity > best) | (tied & (order < place))",
        "ahead = similarity > best",
        "tests/test_metrics.py",
    ),
    Mutation(
        "the filters of the pixel gradient are not turned",
        "victims/fast/frozen_resnet.py",
        "weight.flip(2, 3).transpose(0, 1)",
        "weight.transpose(0, 1)",
        "tests/equality",
    ),
    Mutation(
        "the shortcut's gradient is left out",
        "victims/fast/frozen_resnet.py",
        "return self.first.gradient(g, add=beside)",
        "return self.first.gradient(g)",
        "tests/equality",
    ),
    Mutation(
        "the positional embedding of the attention pool is left out",
        "victims/fast/resnet.py",
        "x = x + pool.positional_embedding.to(x.dtype)",
        "x = x + 0 * pool.positional_embedding.to(x.dtype)",
        "tests/equality",
    ),
    Mutation(
        "the fast text tower sees the tokens to come",
        "victims/fast/text.py",
        "(scores if mask is None else scores + mask.to(scores.dtype))",
        "scores",
        "tests/equality/test_plain_models.py",
    ),
    Mutation(
        "plain models run the fast image tower",
        "victims/clip.py",
        "fast = isinstance(visual, ModifiedResNet) and not self.plain",
        "fast = isinstance(visual, ModifiedResNet)",
        "tests/equality/test_plain_models.py",
    ),
    Mutation(
        "gradients of plain models go to the embeddings of other captions",
        "victims/plain.py",
        "torch.cat([embeddings, ",
        "torch.cat([embeddings.roll(1, 0), ",
        "tests/equality/test_plain_models.py",
    ),
    Mutation(
        "features of captions sorted by length are not put back",
        "victims/clip.py",
        "torch.cat(pieces)[shortest_first.argsort()]",
        "torch.cat(pieces)",
        "tests/equality",
    ),
    Mutation(
        "a tensor of the CPU among a GPU's",
        "victims/fast/embedding.py",
        "torch.cat([ids.flatten(), ids.new_zeros(1)])",
        "torch.cat([ids.flatten().to(tower.token_embedding.weight.device), ids.new_zeros(1)])",
        "tests/equality/test_other_device.py",
    ),
    Mutation(
        "tokens that do not occur stay as they are, instead of decaying",
        "victims/fast/embedding.py",
        "table.mul_(self._decay)",
        "pass",
        "tests/equality",
    ),
    Mutation(
        "tokens that turn up late lose the others' momentum",
        "victims/fast/embedding.py",
        "grown[place] = value",
        "pass",
        "tests/equality",
    ),
    Mutation(
        "HTML entities in captions are taken for text",
        "victims/tokens.py",
        ' and "&" not in text',
        "",
        "tests/victims/test_tokens.py",
    ),
    Mutation(
        "HotFlip scores candidates by the rising loss",
        "attacks/hotflip.py",
        "vocabulary[(-gradient @ choices.T)",
        "vocabulary[(gradient @ choices.T)",
        "tests/equality",
    ),
    Mutation(
        "em gets a smaller budget than mem",
        "attacks/mem.py",
        'aliases={"em": {"k": 0},',
        'aliases={"em": {"k": 0, "surrogate_steps": 12},',
        "tests/attacks/test_mem.py",
    ),
    Mutation(
        "bad images are left out unasked",
        "benchmark/data/image_files.py",
        "            if not skip_bad:\n                raise\n            bad[index]",
        "            bad[index]",
        "tests/data",
    ),
    Mutation(
        "a caption stays where its image is left out",
        "benchmark/data/cache.py",
        "np.delete(np.arange(len(images)), [int(index) for index in left_out])",
        "np.arange(len(images) - len(left_out))",
        "tests/data",
    ),
    Mutation(
        "an image that changed is taken for what it was",
        "benchmark/data/content.py",
        "status.st_size, status.st_mtime_ns, status.st_ctime_ns",
        "status.st_size, status.st_mtime_ns, 0",
        "tests/data/test_content.py",
    ),
    Mutation(
        "an image that changes while it is read is kept under the hash of what it was",
        "benchmark/data/content.py",
        "if stamp_of(image) != stamp:",
        "if False:",
        "tests/data/test_content.py",
    ),
    Mutation(
        "what follows an image in its archive counts as the image",
        "benchmark/data/content.py",
        "_CHUNK if left is None else min(left, _CHUNK)",
        "_CHUNK",
        "tests/data/test_content.py",
    ),
    Mutation(
        "damage to the cache goes unnoticed",
        "benchmark/data/cache.py",
        'if _hashes(images) != stored["hashes"]:',
        'if len(_hashes(images)) != len(stored["hashes"]):',
        "tests/data",
    ),
    Mutation(
        "a path may lead out of the folder of images",
        "benchmark/data/caption_files.py",
        'if path.is_absolute() or ".." in path.parts:',
        "if path.is_absolute():",
        "tests/data",
    ),
    Mutation(
        "samples behind a damaged header are dropped",
        "benchmark/data/webdataset.py",
        "        _require_end_mark(file, archive.offset, shard)\n",
        "",
        "tests/data",
    ),
    Mutation(
        "published split sizes are not checked",
        "benchmark/data/known_sets.py",
        "if sizes != self.sizes:",
        "if not sizes:",
        "tests/data",
    ),
    Mutation(
        "PGD keeps to half of ε",
        "attacks/crafting.py",
        '"eps": settings.eps,',
        '"eps": settings.eps // 2,',
        "tests/attacks/test_mem.py",
        checked=True,
    ),
    Mutation(
        "captions are not permuted in the surrogate's steps",
        "attacks/crafting.py",
        'if "surrogate" in settings.permuted_steps:',
        "if False:",
        "tests/equality tests/attacks",
        checked=True,
    ),
    Mutation(
        "test scenes are training scenes",
        "benchmark/data/scenes.py",
        "draw_layout(self.seed, split, index, self.objects)",
        'draw_layout(self.seed, split.replace("test", "train"), index, self.objects)',
        "tests/data/test_scenes.py",
        checked=True,
    ),
    Mutation(
        "victims are under-trained: a tenth of the learning rate",
        "victims/training.py",
        'group["lr"] = recipe.lr * schedule',
        'group["lr"] = 0.1 * recipe.lr * schedule',
        "tests/equality tests/victims",
        checked=True,
    ),
    Mutation(
        "the surrogate trains on clean images",
        "attacks/crafting.py",
        "self.protected.batch(index[part])",
        "self.rows.batch(index[part])",
        "tests/equality/test_algorithm.py",
    ),
    Mutation(
        "every round's noise starts from nothing",
        "attacks/crafting.py",
        "delta = to_device(torch.from_numpy(self.delta[index]), model.device)",
        "delta = torch.zeros(self.delta[index].shape, dtype=torch.int8, device=model.device)",
        "tests/equality/test_algorithm.py",
    ),
    Mutation(
        "the test split chooses the best epoch",
        "benchmark/grid/records.py",
        "(scores.val.mean_recall_at_10, -scores.epoch)",
        "(scores.test.mean_recall_at_10, -scores.epoch)",
        "tests/tables",
    ),
    Mutation(
        "victims under every defense start from other weights",
        "benchmark/grid/runner.py",
        'seed = derive_seed(cell.seed, "victim")',
        'seed = derive_seed(cell.seed, "victim", cell.defense.choice.spec)',
        "tests/harness/test_run.py",
    ),
    Mutation(
        "adversarial steps move the batch norms' statistics",
        "victims/training.py",
        "with frozen_batchnorm_statistics(model):",
        "if True:",
        "tests/victims/test_training.py",
    ),
    Mutation(
        "captions are augmented alike in every epoch",
        "victims/training.py",
        'derive_seed(seed, "captions", epoch)',
        'derive_seed(seed, "captions")',
        "tests/victims/test_training.py",
    ),
    Mutation(
        "images are augmented alike in every step",
        "victims/training.py",
        'derive_seed(seed, "step", step)',
        'derive_seed(seed, "step")',
        "tests/victims/test_training.py",
    ),
    Mutation(
        "another surrogate's poison is taken from the store",
        "benchmark/grid/cells.py",
        "surrogate = [self.surrogate.identity(), self.recipe.precision]",
        "surrogate = [self.recipe.precision]",
        "tests/harness/test_addresses.py",
    ),
    Mutation(
        "texts have the targets of their rows, not their columns",
        "victims/clip.py",
        "F.cross_entropy(logits.T, targets.T)",
        "F.cross_entropy(logits.T, targets)",
        "tests/victims/test_clip.py",
    ),
    Mutation(
        "the logit scale is clamped at 50",
        "victims/clip.py",
        "clamp_(0, math.log(100))",
        "clamp_(0, math.log(50))",
        "tests/victims/test_clip.py",
    ),
    Mutation(
        "the surrogate starts from the victim's weights",
        "benchmark/grid/poison_store.py",
        'derive_seed(seed, "surrogate"), device',
        'derive_seed(seed, "victim"), device',
        "tests/harness/test_run.py",
    ),
)


def copied(mutation: Mutation, folder: Path) -> None:
    """Copy the tree into ``folder`` and break it there.

    Raises:
        ValueError: the code to replace is not there exactly once.
    """
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    file = folder / mutation.file
    text = file.read_text("utf-8")
    if text.count(mutation.code) != 1:
        raise ValueError(f"{mutation.file} holds {mutation.code!r} {text.count(mutation.code)} times")
    file.write_text(text.replace(mutation.code, mutation.replacement), "utf-8")


def caught_by_tests(mutation: Mutation, folder: Path) -> str:
    """The first test that turns red in the broken tree, or nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutation.tests.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    summary = (line.partition(" - ")[0] for line in done.stdout.splitlines())
    red = [line.split(maxsplit=1)[1] for line in summary if line.startswith(("FAILED", "ERROR"))]
    return f"`{red[0]}`" if done.returncode == 1 and red else ""


def caught_by_check(mutation: Mutation, folder: Path) -> str:
    """The cells outside their interval in the broken tree, or nothing.

    Raises:
        RuntimeError: check could not compare, which says nothing of the mutation.
    """
    command = [sys.executable, "-m", "benchmark", "check"]
    variables = {**os.environ, "UNLEARNABLE_BENCH_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "✗" in line]
    if done.returncode != 1 or not rows:
        raise RuntimeError(f"check ended with {done.returncode}: {done.stderr[-500:]}")
    return "; ".join(f"{cell}: {what} {now}, not {interval}" for cell, what, _, now, interval, _ in rows)


def main(words: list[str]) -> int:
    """Try the mutations and print the table."""
    ask_check = words[:1] == ["check"]
    wanted = words[ask_check:] or [""]
    mutations = [one for one in MUTATIONS if one.checked or not ask_check]
    print(f"| fault | file | {'what check says' if ask_check else 'the test that turned red'} |\n|---|---|---|")
    missed = 0
    for mutation in mutations:
        if not any(word in mutation.fault for word in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            copied(mutation, Path(folder))
            caught = (caught_by_check if ask_check else caught_by_tests)(mutation, Path(folder))
        missed += not caught
        print(f"| {mutation.fault} | {mutation.file} | {caught or '**none**'} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
