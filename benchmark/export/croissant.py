"""``croissant.json``: an export in MLCommons' vocabulary for data sets, from its manifest."""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from benchmark.export.layouts import layout_of
from benchmark.export.manifest import Manifest
from benchmark.export.shards import EXTENSIONS

NAME = "croissant.json"

_MEDIA = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".png": "image/png",
    ".tar": "application/x-tar",
    ".token": "text/tab-separated-values",
    ".txt": "text/plain",
}
_ONE_FOR_EACH_IMAGE = (".png", ".txt")
# Croissant 1.0's own context: programs warn of any other.
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS.split()},
}
_PAPER = "Multimodal Unlearnable Examples: Protecting Data against Multimodal Contrastive Learning, arXiv:2407.16307"


def croissant(manifest: Manifest, name: str, description: str) -> str:
    """The JSON-LD of an export: its files with their hashes, and a record set of the captions of each split.

    Args:
        manifest: of the images and captions alone.
        name: the name of the data set.
        description: one sentence.
    """
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": f"{description} {manifest.attribution}." if manifest.attribution else description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **({"license": manifest.licence} if manifest.licence else {}),
        **({} if manifest.is_clean else {"citeAs": _PAPER}),
        "distribution": [*_file_objects(manifest), *_file_sets(manifest)],
        "recordSet": _record_sets(manifest),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


def _file_objects(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{facts.bytes} B",
            "encodingFormat": _MEDIA.get(_suffix(name), "application/octet-stream"),
            "sha256": facts.sha256,
        }
        for name, facts in manifest.files.items()
        if _suffix(name) not in _ONE_FOR_EACH_IMAGE
    ]


def _file_sets(manifest: Manifest) -> list[dict[str, Any]]:
    """Files of which each image has its own, by folder and kind; those in shards, by split and kind."""
    loose = {
        f"{PurePosixPath(name).parent}/*{_suffix(name)}": _MEDIA[_suffix(name)]
        for name in manifest.files
        if _suffix(name) in _ONE_FOR_EACH_IMAGE
    }
    sets = [_file_set(pattern, pattern, media) for pattern, media in loose.items()]
    for split in manifest.splits:
        shards = [{"@id": name} for name in manifest.files if name.startswith(f"{split}-") and _suffix(name) == ".tar"]
        if shards:
            sets += [
                {**_file_set(f"{split}/*.{kind}", f"*.{kind}", _MEDIA[f".{kind}"]), "containedIn": shards}
                for kind in EXTENSIONS
            ]
    return sets


def _file_set(id_: str, pattern: str, media: str) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": id_, "name": id_, "encodingFormat": media, "includes": pattern}


def _record_sets(manifest: Manifest) -> list[dict[str, Any]]:
    layout = layout_of(manifest.layout)
    described = {split: source for split in manifest.splits if (source := layout.captions(split)) is not None}
    # Where all splits are in one file, so are their records.
    shared = len(described) > 1 and len({source.files for source in described.values()}) == 1
    if shared:
        described = {"all": described["train"]}
    return [
        {
            "@type": "cr:RecordSet",
            "@id": split,
            "name": split,
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{split}/{field}",
                    "name": field,
                    "dataType": "sc:Text",
                    **({"repeated": True} if field == "captions" else {}),
                    "source": {
                        "fileObject" if source.files in manifest.files else "fileSet": {"@id": source.files},
                        **extraction,
                    },
                }
                for field, extraction in source.fields.items()
            ],
        }
        for split, source in described.items()
    ]
