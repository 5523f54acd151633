"""``README.md``: a data card for people, with a header that Hugging Face reads, from an export's manifest."""

import hashlib
import re
from collections.abc import Iterator, Mapping

import yaml

from attacks.placement import where
from benchmark.core.spec import Spec, parse_spec
from benchmark.export.layouts import HUGGING_FACE_SPLITS, layout_of
from benchmark.export.manifest import FileFacts, Manifest

NAME = "README.md"

# Of the names that the Hub accepts, those that data sets usually have; others are "other" there.
_KNOWN_TO_HUGGING_FACE = {
    *("unknown", "mit", "apache-2.0", "cc0-1.0"),
    *(f"cc-{kind}-4.0" for kind in ("by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd")),
}
# Numbers and single words, such as open_clip's tags of weights.
_NO_PATH = re.compile(r"[\w+-]*(\.\d+(e[+-]?\d+)?)?", re.ASCII)

_CHANGED = "Images and captions that were changed so that models trained on them learn little: *unlearnable examples*."
_CLEAN = "Images and captions that no attack has changed"


def title(manifest: Manifest) -> str:
    """Attack and data set. The parameters of the data set are left out: they may be paths on the owner's machine."""
    return f"{manifest.attack['label']} on {manifest.dataset.partition('[')[0]}"


def summary(manifest: Manifest) -> str:
    """The export in one sentence."""
    if manifest.is_clean:
        return f"{_CLEAN}: {title(manifest)}."
    return f"Unlearnable examples: {title(manifest)}, ε = {manifest.eps}/255."


def card(manifest: Manifest) -> str:
    """The text of the card. ``manifest`` describes the images and captions alone."""
    return f"---\n{yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True)}---\n\n{_body(manifest)}"


def _header(manifest: Manifest) -> dict[str, object]:
    header: dict[str, object] = {
        **_licence(manifest.licence),
        "pretty_name": title(manifest),
        "tags": [*([] if manifest.is_clean else ["unlearnable-examples", "data-poisoning"]), "image-text-pairs"],
    }
    pattern = layout_of(manifest.layout).hugging_face
    if pattern is not None:
        files = [
            {"split": HUGGING_FACE_SPLITS[split], "path": pattern.format(split=split, name=HUGGING_FACE_SPLITS[split])}
            for split in manifest.splits
        ]
        header["configs"] = [{"config_name": "default", "data_files": files}]
    return header


def _licence(spdx: str | None) -> dict[str, str]:
    name = "unknown" if spdx is None else spdx.lower()
    return {"license": name} if name in _KNOWN_TO_HUGGING_FACE else {"license": "other", "license_name": name}


def _body(manifest: Manifest) -> str:
    facts = {
        **(_unchanged(manifest) if manifest.is_clean else _changes(manifest)),
        "licence": manifest.licence or "unknown: that of the data it was made from",
        **({"attribution": manifest.attribution} if manifest.attribution else {}),
        "format": f"`{manifest.layout}`",
    }
    return "\n".join(
        [
            f"# {title(manifest)}",
            "",
            *([f"{_CLEAN}, to compare with."] if manifest.is_clean else [_CHANGED, manifest.note]),
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in facts.items()),
            "",
            "| split | images | captions | SHA-256 of pixels and captions |",
            "|---|--:|--:|---|",
            *_split_rows(manifest),
            "",
            "## Checksums",
            "",
            "`manifest.json` has the SHA-256 of every file. `python -m benchmark verify DIR` compares them.",
            f"The SHA-256 of the list of them is `{checksum_of(manifest.files)}`. With GNU's `find`:",
            "",
            "```sh",
            "find . -type f ! -name README.md ! -name croissant.json ! -name manifest.json -printf '%P\\n' \\",
            "  | LC_ALL=C sort | xargs sha256sum | sha256sum",
            "```",
            "",
        ]
    )


def _changes(manifest: Manifest) -> dict[str, str]:
    noise = manifest.noise
    surrogate = "" if manifest.surrogate is None else f", by the surrogate {_without_paths(manifest.surrogate)}"
    change = f"the largest change is {noise['largest']}/255, the mean {noise['mean']:.3f}/255"
    return {
        "attack": f"{manifest.attack['label']} (`{_without_paths(manifest.attack['spec'])}`), seed {manifest.seed}",
        "bound": f"ε = {manifest.eps}/255 on every pixel value; {change}",
        "captions": _triggers(manifest),
        "crafted for": f"images of {_side(manifest)}{surrogate}",
    }


def _triggers(manifest: Manifest) -> str:
    own = [trigger for trigger in manifest.triggers or () if trigger]
    if not own:
        return "unchanged"
    which = "each training caption" if own == manifest.triggers else f"the captions of {len(own):,} training images"
    return f"a trigger {where(manifest.place.kind)} {which}"


def _unchanged(manifest: Manifest) -> dict[str, str]:
    images = _side(manifest) if manifest.full_size is None else "of their original size"
    return {"attack": f"none, seed {manifest.seed}", "images": images}


def _side(manifest: Manifest) -> str:
    return f"{manifest.resolution} × {manifest.resolution} px"


def _without_paths(text: str) -> str:
    """A spec without the parameters that may name a file on the owner's machine."""
    spec = parse_spec(text)
    return str(Spec(spec.name, {name: value for name, value in spec.params.items() if _NO_PATH.fullmatch(value)}))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _split_rows(manifest: Manifest) -> Iterator[str]:
    for name, facts in manifest.splits.items():
        kind = name if name == "train" or manifest.is_clean else f"{name} (clean)"
        yield f"| {kind} | {facts.images} | {facts.captions} | {facts.fingerprint or 'at original size, none'} |"


def checksum_of(files: Mapping[str, FileFacts]) -> str:
    """The SHA-256 of what ``sha256sum`` prints for the files in the order of their names: 64 hex digits."""
    lines = "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
