"""The contract of a defense: what its hooks return at three moments of a training."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmark.contracts.hooks import defense_answers, defense_inputs, difference
from benchmark.contracts.verdict import Verdict, global_state_kept, note_words, require
from benchmark.core.errors import UsageError
from benchmark.core.seeding import seeded_globals
from benchmark.core.spec import parse_spec, split_outside_brackets
from defenses import DEFENSES, Defense
from defenses.base import HOOKS, Composed
from victims.defense_effect import words_changed

# Where in a training a defense's hooks are called: progress and epoch.
_MIDDLE = "in the middle"
_MOMENTS = {"at the first step": (0.0, 1), _MIDDLE: (0.5, 2), "at the last step": (0.999, 3)}


def defense_verdict(text: str) -> Verdict:
    """Call a defense's hooks; see :func:`benchmark.contracts.check`."""
    verdict, given = Verdict(), defense_inputs()
    parts = _parts(text)
    defense = _joined(parts)
    if asked := [part for part in parts if not part.changes_nothing]:
        idle = [type(part).__name__ for part in asked if not part.has_hooks]
        why = f"{idle[0]} has none of {', '.join(HOOKS)}" if idle else ""
        verdict.note("at least one hook is overridden", not idle, why)
    results: dict[str, dict[str, Any]] = {}
    with verdict.promise("every hook returns"), global_state_kept(verdict):
        results = _training(defense, given)
    changed = difference(given, defense_inputs())
    verdict.note("the arguments are left unchanged", not changed, f"the {changed} are not")
    given = defense_inputs()
    if results and _answers(verdict, text, given, results):
        with verdict.promise("all randomness comes from the context's seed"):
            _require_same(text, defense, given, results)
    note_words(verdict, *parts)
    return verdict


def _require_same(text: str, defense: Defense, given: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """Require the same results in further trainings with the same seed, and in one that others continue."""

    def continued() -> dict[str, dict[str, Any]]:
        # The last moment first, so that a count kept in a module cannot fit either.
        new = ((when, _joined(_parts(text))) for when in reversed(_MOMENTS))
        return {when: answers for when, other in new for answers in _training(other, given, [when]).values()}

    # One object defends many victims, so what it keeps from one must not show in the next. A training that was killed
    # goes on with a new object.
    repeated: dict[str, Callable[[], dict[str, dict[str, Any]]]] = {
        "by the same object": lambda: _training(defense, given),
        "by a new object": lambda: _training(_joined(_parts(text)), given),
        "by a new object with which the training goes on": continued,
    }
    for who, again in repeated.items():
        with seeded_globals(1), global_state_kept(Verdict()):
            repeat = again()
        found = [(difference(answers, repeat[when]), when) for when, answers in results.items()]
        what = next((f"other {name}, {when}" for name, when in found if name), "")
        require(not what, f"a second call with the same seed, {who}, returns {what}")


def _training(
    defense: Defense, given: dict[str, Any], moments: Iterable[str] = tuple(_MOMENTS)
) -> dict[str, dict[str, Any]]:
    """What the hooks return at moments of one training; an error names the moment."""
    results: dict[str, dict[str, Any]] = {}
    data = None  # on_dataset is called once
    for when in moments:
        progress, epoch = _MOMENTS[when]
        try:
            results[when] = defense_answers(defense, given, 7, progress, epoch, data)
        except (Exception, SystemExit) as error:
            error.add_note(when)
            raise
        data = results[when]["data"]
    return results


def _answers(verdict: Verdict, text: str, given: dict[str, Any], results: dict[str, dict[str, Any]]) -> bool:
    """Enter whether the hooks' results keep their promises at every moment of a training.

    Enter also how much the hooks change in the middle of the training.

    Returns:
        Whether they are of the kinds and shapes that they should be, so that others can be compared with them.
    """
    intact = True
    for promise, reason in _PROMISES.items():
        reasons = ((when, reason(given, answers)) for when, answers in results.items())
        why = next((f"{why}, {when}" for when, why in reasons if why), "")
        verdict.note(promise, not why, why)
        intact = intact and not (why and reason in (_captions_why, _shape_why))
    if intact:
        verdict.measured.append(_effect(given, results[_MIDDLE]))
        if all(part.changes_nothing for part in _parts(text)):
            verdict.note(
                "it changes nothing, as it says", not any(difference(given, answers) for answers in results.values())
            )
    with verdict.promise("a 63-bit seed is accepted"), global_state_kept(Verdict()):
        defense_answers(_joined(_parts(text)), given, seed=2**63 - 1)
    return intact


def _rows_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    """Why the pairs that ``on_rows`` returned cannot be trained on; empty if they can.

    The functions below do the same for other promises: they return why a promise is broken, or "" if it is kept.
    """
    foreign = {*map(tuple, answers["rows"])} - {tuple(pair) for pair in given["rows"]}
    if foreign:
        return f"on_rows returns {min(foreign)}, which did not go in"
    if len({*map(tuple, answers["rows"])}) < len(answers["rows"]):
        return "on_rows returns a pair twice"
    return "" if answers["rows"] else "on_rows returns none"


def _loss_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    return "" if np.isfinite(answers["loss"]) else f"it is {answers['loss']}"


def _captions_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    captions, count = answers["captions"], len(given["captions"])
    if not isinstance(captions, list):
        return f"on_captions returns {_kind(captions)}, no list"
    if others := [each for each in captions if not isinstance(each, str)]:
        return f"on_captions returns {_kind(others[0])} among its captions"
    if len(captions) != count:
        return f"on_captions returns {len(captions)} for {count}"
    empty = [number for number, each in enumerate(captions) if not each.split()]
    return f"on_captions makes {given['captions'][empty[0]]!a} empty" if empty else ""


def _shape_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    for hook, before, after in _tensors(given, answers):
        if not isinstance(after, torch.Tensor):
            return f"{hook} is {_kind(after)}"
        if (after.shape, after.dtype) != (before.shape, before.dtype):
            was, now = (f"{tuple(each.shape)} {str(each.dtype).removeprefix('torch.')}" for each in (before, after))
            return f"{hook} is {now} for {was}"
    return ""


def _range_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    for hook, _, after in _tensors(given, answers):
        if isinstance(after, torch.Tensor) and not bool(((after >= 0) & (after <= 1)).all()):
            reaches = f"reaches {after.min():.3g} and {after.max():.3g}"
            return f"{hook} {reaches if after.isfinite().all() else 'has values that are not finite'}"
    return ""


def _gradient_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    tensors = _tensors(given, answers)
    return next((hook for hook, _, after in tensors if isinstance(after, torch.Tensor) and after.requires_grad), "")


def _targets_why(given: dict[str, Any], answers: dict[str, Any]) -> str:
    targets = answers["mixed targets"]
    if not isinstance(targets, torch.Tensor) or targets.shape != given["mixed targets"].shape:
        return ""  # said elsewhere
    sums = targets.sum(dim=1)
    return "" if torch.allclose(sums, torch.ones_like(sums)) else f"that of the first is {sums[0]:.3g}"


_PROMISES: dict[str, Callable[[dict[str, Any], dict[str, Any]], str]] = {
    "only pairs that went in come back, and some do": _rows_why,
    "the loss is finite": _loss_why,
    "as many captions come back as went in, none of them empty": _captions_why,
    "images and targets keep their shape and dtype": _shape_why,
    "images and targets stay within 0 and 1": _range_why,
    "the results carry no gradient": _gradient_why,
    "the targets of every image sum to one": _targets_why,
}
_RETURNED = {
    "images": "what on_images returns",
    "mixed images": "on_batch's image tensor",
    "mixed targets": "on_batch's target tensor",
    "adversarial": "what adversarial returns",
}


def _tensors(given: dict[str, Any], answers: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """For each hook on tensors: the name of its result for messages, the tensor that went in, and what came back."""
    return ((said, given[name], answers[name]) for name, said in _RETURNED.items())


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _effect(given: dict[str, Any], results: dict[str, Any]) -> str:
    """How much the hooks change :func:`defense_inputs`, in words."""
    pairs = zip(given["captions"], results["captions"], strict=True)
    words = sum(words_changed(before, after) for before, after in pairs) / len(given["captions"])
    effects = {"on_captions changes {:.2g} words per caption": words}
    for hook, name in (("on_images", "images"), ("on_batch", "mixed images"), ("adversarial", "adversarial")):
        pixel = float((results[name].detach() - given[name]).abs().mean()) * 255
        effects[f"{hook} changes pixels by {{:.3g}}/255 on average"] = pixel
    if given["data"] != results["data"]:
        effects["on_dataset changes the data"] = 1.0
    effects["on_rows leaves out {:.0%} of the pairs"] = 1 - len(results["rows"]) / len(given["rows"])
    effects["the loss differs by {:.3g} nats"] = abs(results["loss"] - given["loss"])
    moved = float((results["mixed targets"] - given["mixed targets"]).abs().sum(dim=1).mean()) / 2
    effects["on_batch moves {:.0%} of an image's target to other captions"] = moved
    return ", ".join(effect.format(size) for effect, size in effects.items() if size) or "no hook changes anything"


def _parts(text: str) -> list[Defense]:
    """The defenses that a text such as ``jpeg+crop-flip`` joins.

    Raises:
        UsageError: one of them is a group, or unknown.
    """
    parts = split_outside_brackets(text, "+")
    if group := next((part for part in parts if part in DEFENSES.groups()), None):
        raise UsageError(f"'{group}' is a group of defenses; name one, or several joined by +")
    return [DEFENSES.build(parse_spec(part)) for part in parts]


def _joined(parts: Sequence[Defense]) -> Defense:
    return parts[0] if len(parts) == 1 else Composed(parts)
