"""Croissant 1.1: croissant.json beside Parquet files, with the responsible-AI fields filled from the run's figures.

The pictures are in Parquet files, as they are in the Hugging Face export: mlcroissant joins at most two sets of files
into a record, takes the pictures of both from one of them (findings/mlcroissant-gives-photo-for-matte.sh) and turns
every image file into RGB, so that image, alpha and facemask of one record, in their own bit depths, can only come from
one table. A licence, a citation and a date of publication are the publisher's to state;
without them mlcroissant warns that they are recommended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from p3mdata.export.card_text import Words
from p3mdata.export.entries import KINDS, MEANING, Split
from p3mdata.export.huggingface import Config, write_parquet
from p3mdata.export.release import Release
from p3mdata.export.target import Target
from p3mdata.typing import Json

CROISSANT = "croissant.json"
VERSION, RAI = "http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"

LOADING = """\
```python
import mlcroissant as mlc
import numpy as np

for record in mlc.Dataset("croissant.json").records("{split}"):
    image, alpha = np.asarray(record["{split}/image"]), np.asarray(record["{split}/alpha"])
    alpha = alpha / np.iinfo(alpha.dtype).max  # 0 to 1; `.convert("L")` would clip mattes of 16 bits
```

`datasets.load_dataset` opens the same folder."""

# The context of the specification, as mlcroissant compares it.
_CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {str: "sc:Text", int: "sc:Integer", float: "sc:Float", bool: "sc:Boolean"}
_PARQUET = "application/x-parquet"


def write(
    release: Release, target: Target, most_images: int, most_bytes: int, step: Callable[[], None]
) -> Sequence[Config]:
    """Write the Parquet files; croissant.json follows when the words of the card are known (`describe`)."""
    return write_parquet(release, target, most_images, most_bytes, step)


def describe(release: Release, target: Target, words: Words) -> None:
    """Write croissant.json about files that are written."""
    target.write_json(CROISSANT, document(release, target, words))


def document(release: Release, target: Target, words: Words) -> Json:
    """The JSON-LD document."""
    licence = {"license": words.licence} if words.licence else {}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": words.name,
        "description": words.summary,
        "conformsTo": [VERSION, RAI],
        **licence,
        "version": f"{release.facts().version}.0.0",
        "keywords": list(words.keywords),
        "isLiveDataset": False,
        **{f"rai:{name}": text for name, text in responsible(words).items()},
        "distribution": list(_distribution(release, target)),
        "recordSet": [_roles(release), *(_record_set(release, split) for split in release.splits)],
    }


def responsible(words: Words) -> dict[str, str | list[str]]:
    """Properties of the RAI vocabulary 1.0 by name; a list where it takes many."""
    return {
        "dataCollection": words.collection,
        "dataCollectionRawData": words.raw_data,
        "dataCollectionMissingData": words.held_back,
        "dataPreprocessingProtocol": [*words.method, *words.proofs],
        "dataManipulationProtocol": " ".join(words.method),
        "dataAnnotationProtocol": words.annotation,
        "machineAnnotationTools": [words.tool],
        "personalSensitiveInformation": [
            *words.personal,
            *words.second_look,
            *words.recall,
            *words.audit,
            *words.attackers,
        ],
        "dataBiases": [*words.biases, *words.spread],
        "dataLimitations": list(words.limits),
        "dataUseCases": list(words.uses),
        "dataSocialImpact": words.impact,
        "dataReleaseMaintenancePlan": words.maintenance,
    }


def _distribution(release: Release, target: Target) -> Iterator[Json]:
    """Every file with its hash, and the set of files of each split."""
    for path, (digest, size) in target.files.items():
        yield {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": f"{size} B",
            "encodingFormat": _PARQUET,
            "sha256": digest,
        }
    for split in release.splits:
        yield {
            "@type": "cr:FileSet",
            "@id": f"{split.name}-files",
            "name": f"{split.name}-files",
            "description": f"The Parquet files of {split.name}.",
            "encodingFormat": _PARQUET,
            "includes": f"data/{split.name}-*.parquet",
        }


def _roles(release: Release) -> Json:
    """What each split is for."""
    role = {True: "cr:TrainingSplit", False: "cr:ValidationSplit"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits and what they are for.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [_plain("splits/name", "Name of the split.", "sc:Text"), _plain("splits/url", "Its role.", "sc:URL")],
        "data": [{"splits/name": split.name, "splits/url": role[split.training]} for split in release.splits],
    }


def _plain(name: str, meaning: str, kind: str) -> Json:
    return {"@type": "cr:Field", "@id": name, "name": name, "description": meaning, "dataType": kind}


def _record_set(release: Release, split: Split) -> Json:
    types = dict.fromkeys(split.kinds, "sc:ImageObject") | {k: _TYPES[t] for k, t in release.columns.items()}
    return {
        "@type": "cr:RecordSet",
        "@id": split.name,
        "name": split.name,
        "description": f"{len(split.entries)} images of {split.title}.",
        "key": {"@id": f"{split.name}/id"},
        "field": [
            {
                **_plain(f"{split.name}/{column}", MEANING[column], kind),
                "source": {
                    "fileSet": {"@id": f"{split.name}-files"},
                    "extract": {"column": column},
                    **({"transform": {"jsonPath": "bytes"}} if column in KINDS else {}),
                },
            }
            for column, kind in types.items()
        ],
    }
