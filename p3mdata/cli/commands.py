"""The commands of `p3mdata --help`: their panels, the modules that hold them, and what they do in a line or two.

A module is imported when one of its commands is called, so that the help costs no heavy library.
"""

from __future__ import annotations

# By panel and command: module of `p3mdata.cli`, and the first paragraph of the command's docstring (a test compares).
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "From photographs to a run": {
        "anonymize": ("runs", "Anonymize a folder or one picture."),
        "detect": ("runs", "Stage 1 of 4: find faces and landmarks; freezes the plan of RUN for the stages after it."),
        "mask": ("runs", "Stage 2 of 4: private area minus transition area, for every detected image of RUN."),
        "obfuscate": ("runs", "Stage 3 of 4: obfuscate and encode; nothing is released before `verify`."),
        "verify": (
            "runs",
            "Stage 4 of 4: prove and release what `obfuscate` made; on a finished run, prove every released "
            "image again.",
        ),
        "status": (
            "runs",
            "How far RUN is, while any number of processes work on it: outcomes, shards, speed, faults.",
        ),
        "fetch": (
            "runs",
            "Bring a run from an object store into a folder, where every command works on it; each file is "
            "checked by hash.",
        ),
        "merge": (
            "runs",
            "Make one run of several over different source files; of one RUN whose tasks are all done, close it.",
        ),
    },
    "A finished run and people": {
        "review": (
            "people",
            "Decide about what RUN held back, on a page that only this machine can open; Ctrl-C ends it.",
        ),
        "audit": (
            "people",
            "Can software tell who is on the released images? Writes audit.json, audit.png and a part of the report.",
        ),
        "remove": (
            "people",
            "Take images down: withdraw everything released for them and leave a tombstone in removed.jsonl.",
        ),
    },
    "Datasets": {
        "build-split": (
            "datasets",
            "Build a dataset in the layout of P3M-10k (or another) from the released images of RUN.",
        ),
        "check": (
            "datasets",
            "Check pairing, sizes, mattes, trimaps, facemasks, metadata and duplicates of a dataset.",
        ),
        "stats": ("datasets", "Resolutions, faces, face sizes, poses, methods and outcomes of a run or a dataset."),
        "celeba-facemask": (
            "datasets",
            "Facemasks for copy-and-paste training (P3M-CP). The contact sheet shows clear faces: keep it private.",
        ),
        "duplicates": (
            "datasets",
            "Find copies: equal, resized, re-encoded, cropped a little, mirrored. The page shows no clear face.",
        ),
        "curate": (
            "datasets",
            "Apply the paper's collection rules: size, no copies, a salient person. Nothing is moved or deleted.",
        ),
        "export": (
            "datasets",
            "Write a release: P3M-10k folders, WebDataset, Hugging Face, Parquet or Croissant, with a dataset card.",
        ),
    },
    "Networks": {
        "train-check": (
            "training",
            "Does the dataset still teach matting? Trains under B:B, B:N, N:N; exit 4 if not, 3 if that stays open.",
        ),
        "benchmark": (
            "training",
            "The paper's benchmark: ten metrics per method and validation set, parameters, time, and a plot "
            "of SAD by time.",
        ),
    },
    "Tools": {
        "run": (
            "tools",
            "Run the stages of a recipe in order; stops where a proof fails. With --json, one line per stage.",
        ),
        "explain": ("tools", "Draw the six steps for one picture. The drawing shows the clear face: keep it private."),
        "doctor": ("tools", "Check libraries, model files, cores and memory, and say what to install."),
        "demo": (
            "tools",
            "Anonymize the embedded sample: one public-domain portrait in several sizes, orientations and formats.",
        ),
    },
}
