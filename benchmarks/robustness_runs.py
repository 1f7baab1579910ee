"""Cases of `benchmarks.robustness` about what lies on the disk: killed processes, ids, resuming, modes."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.local_store import BUCKET, serve_store
from benchmarks.robustness_tool import HELD, Case, Ended, Tool, at_name, torn, waited
from p3mdata.base.ids import sample_id
from p3mdata.base.jsonl import read_rows
from p3mdata.cli.sample import portrait
from tests.factories import encoded, shared

_MOMENTS = (1, 3, 6, 10, 15)
_MEMBERS = 21
_SEEDS = range(50)
_LEFT = ".{}.12345678900001.tmp"
_HEX = re.compile("[0-9a-f]{16,}")


@functools.cache
def store() -> str:
    """The address of an empty bucket on this machine."""
    server = serve_store()
    atexit.register(server.wait)
    atexit.register(server.terminate)
    return f"s3://{BUCKET}"


# Torn files


def verify_names_them(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    left = [run / _LEFT.format("manifest.jsonl"), run / "private" / _LEFT.format("ledger.jsonl")]
    left.append(run / "images" / _LEFT.format("0.jpg"))
    for path in left:
        path.write_bytes(b"half a")
    ended = tool("verify", run)
    return f"names {sum(path.name in ended.text for path in left)} of {len(left)}, {ended.said()}"


def killed(verb: str, run: Path, tool: Tool, at: Path) -> Iterator[Path]:
    """Copies of a run in which a verb was killed, at one moment after the other, as long as there are any."""
    for moment in _MOMENTS:
        copy = shutil.copytree(run, at / f"killed-{moment}")
        if _withdraw(verb, copy, tool, moment).code < 0:
            yield copy


def _withdraw(verb: str, run: Path, tool: Tool, moment: int = 0) -> Ended:
    at = at_name(run, moment)
    if verb == "remove":
        return tool("remove", run, "a.jpg", at=at)
    said = run.parent / "said.jsonl"
    said.write_text(json.dumps({"source": "b.jpg", "action": "exclude"}))
    return tool("review", run, "--apply", said, "--workers", "1", at=at)


def killed_verbs_are_told(verb: str, tool: Tool, at: Path) -> str:
    """Told is a torn file that is named, or a run that is said not to be finished."""
    told = runs = 0
    for run in killed(verb, tool.finished(at), tool, at):
        if left := torn(run):
            ended = tool("verify", run)
            unfinished = ended.code == 2 and "not finished" in ended.err
            runs, told = runs + 1, told + (unfinished or all(path.name in ended.text for path in left))
    return "all told" if told == runs else f"{told} of {runs} told"


def _built(tool: Tool, run: Path, data: Path) -> None:
    tool.well("build-split", run, data, "--validation", "0", "--workers", "1", "--quiet")


def _torn_copy(data: Path) -> tuple[Path, bytes]:
    """A copy of a released picture, as a killed build-split leaves it."""
    picture = next(path for path in sorted(data.rglob("*")) if path.is_file() and path.suffix == ".jpg")
    left = picture.with_name(_LEFT.format(picture.name))
    left.write_bytes(picture.read_bytes())
    return left, picture.read_bytes()


def check_names_them(tool: Tool, at: Path) -> str:
    _built(tool, tool.finished(at), at / "data")
    left, _ = _torn_copy(at / "data")
    ended = tool("check", at / "data", "--workers", "1")
    return ("named, " if left.name in ended.text else "not named, ") + ended.said()


def copies_after_remove(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    _built(tool, run, at / "data")
    left, content = _torn_copy(at / "data")
    shutil.copy(left, run / "images" / left.name)
    gone = next(row for row in read_rows(run / "private/ledger.jsonl") if content == _content(run, row))
    ended = tool("remove", run, gone["source"])
    there = [path for path in at.rglob("*") if path.is_file() and path.read_bytes() == content]
    return f"{ended.said()}, {len(there)} copies left"


def _content(run: Path, row: dict[str, object]) -> bytes | None:
    files = row.get("files") or {}
    assert isinstance(files, dict)
    entry = files.get("images")
    name = entry[0] if isinstance(entry, list) else entry
    return (run / "images" / name).read_bytes() if name else None


def build_split_killed(tool: Tool, at: Path) -> str:
    run, kills, well, left = tool.finished(at), 0, 0, 0
    for moment in _MOMENTS:
        data = at / f"data-{moment}"
        if tool("build-split", run, data, "--validation", "0", "--workers", "1", at=at_name(data, moment)).code < 0:
            again = tool("build-split", run, data, "--validation", "0", "--workers", "1")
            kills, well, left = kills + 1, well + (again.code == 0), left + len(torn(data))
    return f"{well} of {kills} go on, {left} torn files left"


def _stored(tool: Tool) -> str:
    address = f"{store()}/{tool.place.name}"
    if not (tool.place / "stored").exists():
        tool.anonymize(tool.source, address)
        (tool.place / "stored").touch()
    return address


def fetch_killed(tool: Tool, at: Path) -> str:
    address, killed, well, codes = _stored(tool), 0, 0, set()
    for moment in _MOMENTS:
        out = at / f"fetched-{moment}"
        if tool("fetch", address, out, at=at_name(out, moment)).code < 0:
            killed += 1
            again = tool("fetch", address, out)
            codes.add(again.said())
            well += again.code == 0 and tool("verify", out).code == 0 and not torn(out)
    return f"{well} of {killed} go on ({', '.join(sorted(codes))})"


# Ids


def _photographs(folder: Path) -> None:
    """Photographs of many people where there are any, else pieces of the demo's portrait."""
    from PIL import Image

    folder.mkdir()
    there = shared() / "testdata/portraits"
    found = sorted(path for path in there.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    for number in range(_MEMBERS):
        if number < len(found):
            picture = Image.open(found[number]).convert("RGB")
            picture.thumbnail((480, 480))
        else:
            picture = Image.fromarray(np.ascontiguousarray(portrait()[number : 480 + number]))
        picture.save(folder / f"{number:02d}.png")


def _members(tool: Tool) -> tuple[int, int, int, int]:
    """Photographs in the run and taken down, and how many of each somebody confirms who has the photographs."""
    kept = tool.place / "members.json"
    if not kept.exists():
        source, run = tool.place / "members", tool.place / "members-run"
        _photographs(source)
        tool.anonymize(source, run)
        rows = [row for row in read_rows(run / "private/ledger.jsonl") if "images" in (row.get("files") or {})]
        taken = [row["source"] for row in rows[:2]]
        tool.well("remove", run, *taken)
        confirmed = confirmed_members(source, run)
        kept.write_text(json.dumps([_MEMBERS, len(taken), len(confirmed), len(confirmed & set(taken))]))
    in_run, taken_down, found, found_taken = json.loads(kept.read_text())
    return in_run, taken_down, found, found_taken


def confirmed_members(source: Path, run: Path) -> set[str]:
    """Photographs that somebody who has them finds in what is published of a run.

    Ids are made as this and earlier versions make them, with every seed that anybody would take, and with everything
    that is published and could be a key as the key.
    """
    private = ("private", "shards", "review")
    published = [path for path in run.rglob("*") if path.is_file() and path.relative_to(run).parts[0] not in private]
    names = [path.relative_to(run).as_posix() for path in published]
    text = "\n".join([*names, *(path.read_bytes().decode("utf-8", "replace") for path in published)])
    words = set(_HEX.findall(text))
    keys = {word for word in words if len(word) == 64}
    found = set()
    for path in source.iterdir():
        digest = _sha256(path)
        ids = {sample_id(digest, path.name, seed, None) for seed in _SEEDS}
        ids |= {sample_id(digest, path.name, seed, key) for seed, key in itertools.product(range(2), keys)}
        if digest in text or not words.isdisjoint(ids):
            found.add(path.name)
    return found


def _sha256(path: Path) -> str:
    from p3mdata.base.files import sha256

    return sha256(path.read_bytes())


def members(tool: Tool, at: Path) -> str:
    in_run, _, found, _ = _members(tool)
    return f"{found} of {in_run}"


def members_taken_down(tool: Tool, at: Path) -> str:
    _, taken, _, found = _members(tool)
    return f"{found} of {taken}"


def order(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    source_of = {row["id"]: row["source"] for row in read_rows(run / "private/ledger.jsonl")}
    ids = [row["id"] for row in read_rows(run / "manifest.jsonl")]
    by_name = [source_of[identity] for identity in ids] == sorted(source_of[identity] for identity in ids)
    return "of the sources' names" if by_name else "of ids" if ids == sorted(ids) else "another one"


def times(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    told = {path.stat().st_mtime_ns for kind in ("images", "facemasks") for path in (run / kind).iterdir()}
    return "1" if len(told) == 1 else "one for each"


def second_run(tool: Tool, at: Path) -> str:
    first = {row["id"] for row in read_rows(tool.finished(at) / "manifest.jsonl")}
    tool.anonymize(tool.source, at / "second")
    second = {row["id"] for row in read_rows(at / "second/manifest.jsonl")}
    return f"{len(first & second)} of {len(first)} ids are those of the first"


# Resuming


def differed_for_a_moment(tool: Tool, at: Path) -> str:
    source, run = shutil.copytree(tool.source, at / "src"), at / "run"
    tool.task(source, run, 1, 2)
    done = {row["source"] for path in run.glob("shards/*/results.jsonl") for row in read_rows(path)}
    waiting = next(path for path in sorted(source.iterdir()) if path.name not in done and path.name != HELD)
    content = waiting.read_bytes()
    waiting.write_bytes(encoded(portrait(), "PNG"))
    tool.task(source, run, 2, 2)
    waiting.write_bytes(content)
    tool.task(source, run, 2, 2)
    tool("merge", run)
    (row,) = (row for row in read_rows(run / "private/ledger.jsonl") if row["source"] == waiting.name)
    return f"{row['outcome']}" + (f" ({row['reason']})" if row.get("reason") else "")


def unreadable_while_planned(tool: Tool, at: Path) -> str:
    source, run = shutil.copytree(tool.source, at / "src"), at / "run"
    (source / "a.jpg").rename(at / "a.jpg")
    (source / "a.jpg").symlink_to(at / "elsewhere.jpg")
    tool.anonymize(source, run)
    (at / "a.jpg").rename(at / "elsewhere.jpg")
    ended = tool("anonymize", "dir", source, run, "--workers", "1")
    if ended.code not in (0, 3):
        return f"{ended.said()}, the run is refused"
    (row,) = (row for row in read_rows(run / "private/ledger.jsonl") if row["source"] == "a.jpg")
    return f"goes on, {row['outcome']}"


def _advice(ended: Ended) -> str:
    said = ended.err.replace("\n", " ")
    if "Delete the run folder" in said or "delete the run folder" in said:
        return f"{ended.said()}, 'delete the run folder'"
    return f"{ended.said()}, " + ("how decisions are kept" if "decisions" in said else "another sentence")


def torn_plan(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    (run / "plan.json").write_bytes((run / "plan.json").read_bytes()[:100])
    return _advice(tool.again(run))


def damaged_log(tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    _withdraw("review", run, tool)
    log = run / "private/decisions.jsonl"
    log.write_bytes(b"{ half a\n" + log.read_bytes())
    ended = tool.again(run)
    said = _advice(ended)
    return said if "delete the run" in said else f"{ended.said()}, the line is named, nothing is deleted"


def out_deleted(tool: Tool, at: Path) -> str:
    source = at / "src"
    source.mkdir()
    for number in range(16):
        shutil.copy(tool.source / "b.jpg", source / f"{number}.jpg")
    process = tool.start("anonymize", "dir", source, at / "run", "--workers", "1", "--no-progress")
    waited(lambda: any(at.glob("run/images/*.jpg")) or process.poll() is not None)
    (at / "run").rename(at / "going")
    shutil.rmtree(at / "going", ignore_errors=True)
    _, err = process.communicate()
    said = Ended(process.returncode, "", err).said()
    there = at / "run"
    made = "made again without a plan" if there.exists() and not (there / "plan.json").exists() else "not made again"
    return f"{said}, OUT is {made}"


def _renamed(run: Path, **values: object) -> None:
    plan = json.loads((run / "plan.json").read_text())
    assert plan.keys() >= values.keys()
    (run / "plan.json").write_text(json.dumps(plan | values))


def other_version(what: str, tool: Tool, at: Path) -> str:
    run = tool.finished(at)
    if what == "version":
        _renamed(run, tool="p3mdata 0.0.1")
    else:
        weights = json.loads((run / "plan.json").read_text())["weights"]
        _renamed(run, weights={name: "0" * 64 for name in weights})
    (at / "said.jsonl").write_text(json.dumps({"source": HELD, "action": "no_face"}))
    before = len(list((run / "images").iterdir()))
    ended = tool("review", run, "--apply", at / "said.jsonl", "--workers", "1")
    made = len(list((run / "images").iterdir())) - before
    return f"{ended.said()}, {made} pictures made"


def take_down_under_another_version(tool: Tool, at: Path) -> str:
    """After a review that was killed between the word and the picture."""
    run = tool.finished(at)
    (at / "said.jsonl").write_text(json.dumps({"source": HELD, "action": "no_face"}))
    tool("review", run, "--apply", at / "said.jsonl", "--workers", "1", at=at_name(run / "images", 1))
    for path in torn(run):
        path.unlink()
    before = {path.name for path in (run / "images").iterdir()}
    _renamed(run, tool="p3mdata 0.0.1")
    ended = tool("remove", run, "a.jpg")
    now = {path.name for path in (run / "images").iterdir()}
    return f"{ended.said()}, {len(before - now)} taken down, {len(now - before)} made"


# Modes


def fetched_modes(tool: Tool, at: Path) -> str:
    before = os.umask(0o022)
    try:
        tool.well("fetch", _stored(tool), at / "fetched")
    finally:
        os.umask(before)
    found = 0
    for folder in (at / "fetched" / name for name in ("private", "shards", "review")):
        for path in (folder, *folder.rglob("*")):
            # Others come as far as every folder on the way lets them.
            way = [path, *path.parents[: len(path.relative_to(folder).parts)]]
            found += all(stat.S_IMODE(step.stat().st_mode) & 0o077 for step in way)
    return f"{found} that others can open"


def left_in_tmpdir(tool: Tool, at: Path) -> str:
    there = at / "tmp"
    there.mkdir()
    apart = Tool(tool.checkout, at, {"TMPDIR": str(there)})
    address = f"{store()}/{tool.place.name}-tmp"
    apart.anonymize(tool.source, address)
    apart.well("fetch", address, at / "fetched")
    apart.well("export", at / "fetched", at / "release", "--to", "webdataset", "--license", "cc-by-4.0")
    apart.well("celeba-facemask", "--help")
    return f"{sum(path.is_file() for path in there.rglob('*'))} files"


CASES = (
    Case("torn", "`verify` of a run with three torn files", verify_names_them, "names 3 of 3, exit 4"),
    Case("torn", "`remove` killed, then `verify`", functools.partial(killed_verbs_are_told, "remove"), "all told"),
    Case(
        "torn", "`review --apply` killed, then `verify`", functools.partial(killed_verbs_are_told, "review"), "all told"
    ),
    Case("torn", "`check` of a dataset with a torn copy", check_names_them, "named, exit 4"),
    Case("torn", "`remove` where torn copies of the picture lie", copies_after_remove, "exit 0, 0 copies left"),
    Case("torn", "`build-split` killed, and again", build_split_killed, "5 of 5 go on, 0 torn files left"),
    Case("torn", "`fetch` killed, and again", fetch_killed, "5 of 5 go on (exit 0)"),
    Case("ids", "members confirmed by who has the photographs", members, f"0 of {_MEMBERS}"),
    Case("ids", "take-downs confirmed by who has the photographs", members_taken_down, "0 of 2"),
    Case("ids", "order of the rows", order, "of ids"),
    Case("ids", "times that released files tell", times, "1"),
    Case("ids", "a second run of the same photographs", second_run, "0 of 5 ids are those of the first"),
    Case("resume", "source that differed for a moment", differed_for_a_moment, "anonymized"),
    Case("resume", "source unreadable while planned, there later", unreadable_while_planned, "goes on, anonymized"),
    Case("resume", "torn plan.json", torn_plan, "exit 2, how decisions are kept"),
    Case("resume", "damaged log of decisions", damaged_log, "exit 2, the line is named, nothing is deleted"),
    Case("resume", "OUT deleted under a run", out_deleted, "exit 2, OUT is not made again"),
    Case(
        "resume",
        "decision on a run of another version",
        functools.partial(other_version, "version"),
        "exit 2, 0 pictures made",
    ),
    Case(
        "resume",
        "decision on a run of other weights",
        functools.partial(other_version, "weights"),
        "exit 2, 0 pictures made",
    ),
    Case(
        "resume",
        "take-down under another version, a decision still open",
        take_down_under_another_version,
        "exit 0, 1 taken down, 0 made",
    ),
    Case("modes", "private files and folders after `fetch`", fetched_modes, "0 that others can open"),
    Case("modes", "files left in TMPDIR by a run in a store, `fetch` and `export`", left_in_tmpdir, "0 files"),
)
