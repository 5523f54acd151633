"""Exporting protected data as files that others can train on, and verifying such files."""

from collections.abc import Mapping

FORMATS: Mapping[str, str] = {
    "folder": "a text file beside each image",
    "csv": "a table with a row for each caption",
    "karpathy": "one dataset_export.json",
    "coco": "JSON as COCO's captions",
    "token": "lines as Flickr30k's captions",
    "webdataset": "tar files",
    "imagefolder": "as Hugging Face reads it",
}
"""Names on the command line, each with what it is; :data:`benchmark.export.layouts.LAYOUTS` writes and reads them."""
