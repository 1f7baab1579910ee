"""The review page in a real browser, on the real server and a real run: what a person does, and what comes of it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from p3mdata.base.jsonl import read_rows
from p3mdata.faces.ensemble import FaceFinder
from p3mdata.records import Action
from p3mdata.review.session import reviewing
from p3mdata.run.decisions import read_log
from p3mdata.run.layout import MANIFEST
from tests.browser import headless, playwright
from tests.factories import astronaut, astronaut_face, encoded, matte, texture
from tests.reviews import HeldRun

pytest.importorskip("fastapi")
from p3mdata.review.server import Server  # noqa: E402

pytestmark = pytest.mark.slow

SIDE = 256
FACE, CUT, EMPTY, HOSTILE = "face.png", "half.png", "nothing.png", "<img src=x onerror=alert(1)>.png"
# What each of them comes to without a person.
HELD = {FACE: "matte_without_person", CUT: "mask_too_small", EMPTY: "no_face_found", HOSTILE: "no_face_found"}
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 420, "height": 800}
# Decisions obfuscate and prove an image again, on a machine that may be busy.
PATIENCE = 20_000
expect = playwright.expect


def unknown_over_the_eyes() -> NDArray[np.uint8]:
    """A matte that is unsure about the upper half of the face, as under hair."""
    alpha = matte(SIDE).copy()
    left, top, right, bottom = (round(v) for v in astronaut_face(SIDE).box)
    alpha[top : (top + bottom) // 2, left:right] = 128
    return alpha


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, kept_models: FaceFinder) -> HeldRun:
    """Two faces and two pictures without any, all held back."""
    run = HeldRun(tmp_path_factory.mktemp("page") / "run")
    run.source.mkdir(parents=True)
    run.alphas.mkdir()
    pictures = {
        FACE: (astronaut(SIDE), np.zeros((SIDE, SIDE), np.uint8)),
        # Not the same picture again: its id follows from its content.
        CUT: (np.maximum(astronaut(SIDE), 1), unknown_over_the_eyes()),
        EMPTY: (texture(SIDE, SIDE, seed=2), matte(SIDE)),
        HOSTILE: (texture(SIDE, SIDE, seed=1), matte(SIDE)),
    }
    for name, (photo, alpha) in pictures.items():
        (run.source / name).write_bytes(encoded(photo, "PNG"))
        (run.alphas / name).write_bytes(encoded(alpha, "PNG"))
    run.anonymize()
    assert {name: row["reason"] for name, row in run.rows.items()} == HELD
    return run


@pytest.fixture
def run(finished: HeldRun, tmp_path: Path) -> HeldRun:
    return finished.copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with headless() as started:
        yield started


@pytest.fixture
def server(run: HeldRun) -> Iterator[Server]:
    with reviewing(run.out, "Ada") as session, Server(session) as started:
        yield started


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens the page; what the page reports as an error fails the test."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_page(viewport: dict[str, int] = WIDE, context: Any = None, **options: Any) -> Any:
            if context is None:
                context = browser.new_context(viewport=viewport, **options)
                stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
            page.goto(server.address)
            shows(page)
            return page

        yield open_page
    assert not errors


@pytest.fixture
def page(visit: Callable[..., Any]) -> Any:
    return visit()


def shows(page: Any, source: str | None = None) -> None:
    """Wait until a picture, and not only its name, is there."""
    if source:
        expect(page.locator("#source")).to_have_text(source, timeout=PATIENCE)
    expect(page.locator("body.has-item")).to_be_attached(timeout=PATIENCE)
    expect(page.locator("#stage-note")).to_be_hidden(timeout=PATIENCE)
    expect(page.locator("#busy")).to_be_hidden(timeout=PATIENCE)


def go_to(page: Any, source: str) -> None:
    page.locator("#rows button", has_text=source).click()
    shows(page, source)


def draw(page: Any) -> None:
    page.keyboard.press("d")
    expect(page.locator("#tools")).to_be_visible()


def says(page: Any, words: str) -> None:
    expect(page.locator("#status")).to_contain_text(words, timeout=PATIENCE)


def warns(page: Any, words: str) -> None:
    expect(page.locator("#alert")).to_contain_text(words, timeout=PATIENCE)


def number(page: Any, view: str) -> Any:
    return page.locator(f"[data-view={view}] b")


def spot(page: Any, x: float, y: float, side: int = SIDE) -> tuple[float, float]:
    """Where a pixel of a fitted picture is in the window."""
    box = page.locator("#stage").bounding_box()
    scale = min((box["width"] - 32) / side, (box["height"] - 32) / side, 4)
    return box["x"] + box["width"] / 2 + (x - side / 2) * scale, box["y"] + box["height"] / 2 + (y - side / 2) * scale


def click_around(page: Any, box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    for corner in ((left, top), (right, top), (right, bottom), (left, bottom)):
        page.mouse.click(*spot(page, *corner))


def stroke(page: Any, *points: tuple[float, float], button: str = "left") -> None:
    page.mouse.move(*spot(page, *points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*spot(page, *point), steps=4)
    page.mouse.up(button=button)


def kept(page: Any) -> Any:
    """The drawings in the tab's storage, as one text."""
    return page.evaluate("Object.entries(sessionStorage).filter(([key]) => key.includes(':item:')).join('\\n')")


def face_box(margin: float = 12) -> tuple[float, float, float, float]:
    """Around the face, in whole pixels: what is clicked between two of them falls on one or the other."""
    left, top, right, bottom = (round(v) for v in astronaut_face(SIDE).box)
    return left - margin, top - margin, right + margin, bottom + margin


def test_names_of_options_are_not_broken_at_their_hyphens(page: Any) -> None:
    lines, told = page.evaluate(
        """async () => {
            const { tell } = await import(new URL("words.js", document.querySelector("script[src]").src));
            const box = document.getElementById("advice");
            box.style.width = "4em";
            tell(box, "a hand-drawn mask, or --transition-width 0 <b>");
            const inner = [...box.querySelectorAll("*")];
            return [inner.map((e) => [e.textContent, e.getClientRects().length]), box.textContent];
        }"""
    )
    assert lines == [["--transition-width", 1]] and told == "a hand-drawn mask, or --transition-width 0 <b>"


def test_a_polygon_around_the_face_releases_it_and_undo_takes_it_back(page: Any, run: HeldRun) -> None:
    go_to(page, FACE)
    # Typed in one go: the second key waits for the first one's work.
    page.keyboard.press("d")
    page.keyboard.press("p")
    expect(page.locator("[data-do=polygon]")).to_have_attribute("aria-pressed", "true")
    click_around(page, face_box())
    page.keyboard.press("Enter")
    says(page, "closed")
    page.keyboard.press("Enter")
    says(page, f"Released with the drawn mask: {FACE}")
    expect(number(page, "open")).to_have_text("3")
    identity = run.id(FACE)
    released, facemask = run.out / "images" / f"{identity}.png", run.out / "facemasks" / f"{identity}.png"
    mask = np.asarray(Image.open(facemask)) > 0
    left, top, right, bottom = map(int, face_box())
    drawn = np.zeros_like(mask)
    cv2.rectangle(drawn.view(np.uint8), (left, top), (right, bottom), 1, -1)
    assert (mask & drawn).sum() / (mask | drawn).sum() > 0.97, "the mask is what was drawn, to the line"
    changed = (np.asarray(Image.open(released)) != astronaut(SIDE)).any(axis=2)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.9
    page.keyboard.press("u")
    says(page, f"Open again: {FACE}")
    shows(page, FACE)
    expect(number(page, "open")).to_have_text("4")
    assert not released.exists() and not facemask.exists()


def test_reload_keeps_picture_drawing_and_decisions(page: Any) -> None:
    go_to(page, EMPTY)
    page.keyboard.press("x")
    says(page, f"Released as a picture without a face: {EMPTY}")
    shows(page)
    go_to(page, CUT)
    draw(page)
    stroke(page, (100, 40), (150, 60))
    stroke(page, (150, 200), (200, 200), button="right")
    before = kept(page)
    assert '"erase":true' in before and '"erase":false' in before
    looks = page.locator("#stage").screenshot()
    page.reload()
    shows(page, CUT)
    expect(page.locator("#tools")).to_be_visible()
    expect(number(page, "decided")).to_have_text("1")
    assert kept(page) == before
    page.mouse.move(*spot(page, 200, 200))
    expect(page.locator("#legend [data-mark=cut]")).to_be_visible()
    assert similar(page.locator("#stage").screenshot(), looks)
    page.keyboard.press("u")
    page.keyboard.press("u")
    page.keyboard.press("u")
    says(page, "Nothing is drawn")
    assert '"operations":[]' in kept(page)


def similar(one: bytes, two: bytes) -> bool:
    """Whether two screenshots show the same, whatever has the focus."""
    first, second = pixels(one), pixels(two)
    return first.shape == second.shape and float(np.mean(np.abs(first - second) > 8)) < 0.01


def pixels(screenshot: bytes) -> NDArray[np.int_]:
    return np.asarray(Image.open(io.BytesIO(screenshot)).convert("RGB")).astype(int)


def test_keys_accept_no_face_and_exclude(page: Any, run: HeldRun) -> None:
    go_to(page, EMPTY)
    page.keyboard.press("a")
    says(page, "nothing to accept")
    page.keyboard.press("x")
    says(page, EMPTY)
    # The next open picture comes by itself.
    expect(page.locator("#source")).not_to_have_text(EMPTY)
    shows(page)
    go_to(page, HOSTILE)
    page.keyboard.press("e")
    says(page, f"Excluded: {HOSTILE}")
    shows(page)
    go_to(page, FACE)
    page.keyboard.press("a")
    says(page, FACE)
    said = {identity: decision.action.value for identity, decision in read_log(run.out)}
    assert said == {run.id(EMPTY): "no_face", run.id(HOSTILE): "exclude", run.id(FACE): "accept"}
    assert (run.out / "images" / f"{run.id(EMPTY)}.png").exists()
    assert not (run.out / "images" / f"{run.id(HOSTILE)}.png").exists()


def test_a_face_under_hair_takes_three_keys(page: Any, run: HeldRun) -> None:
    """The transition area is obfuscated too, after a warning: draw, keep, apply."""
    go_to(page, CUT)
    # The matte is unsure over the eyes: composing again hides half of them, which is no reason to release.
    page.keyboard.press("k")
    says(page, "Still held back")
    assert CUT not in run.released()
    shows(page, CUT)
    page.keyboard.press("d")
    expect(page.locator("#legend [data-mark=cut]")).to_be_visible()
    page.keyboard.press("k")
    expect(page.locator("#keep-warning")).to_be_visible()
    expect(page.locator("#legend [data-mark=cut]")).to_be_hidden()
    page.keyboard.press("Enter")
    says(page, f"Released with the drawn mask: {CUT}")
    assert (run.out / "images" / f"{run.id(CUT)}.png").exists()


def test_a_drawing_is_recomposed_by_a_key_of_its_own(page: Any, run: HeldRun) -> None:
    go_to(page, FACE)
    page.keyboard.press("d")
    expect(page.locator("[data-do=apply-recomposed]")).to_be_visible()
    page.keyboard.press("h")
    # Released, or held back with a doubt about what the matte leaves: either way that is what was tried.
    expect(page.locator("#busy")).to_be_hidden()
    page.wait_for_function("document.getElementById('status').textContent.match(/Released with|Still held/)")
    (decision,) = (decision for identity, decision in read_log(run.out) if identity == run.id(FACE))
    assert decision.action is Action.MASK and decision.settings == {"boundary": "recomposite"}
    assert not decision.keep_transition


def test_showing_a_face_asks_for_the_ground(page: Any, run: HeldRun, tmp_path: Path) -> None:
    go_to(page, CUT)
    page.keyboard.press("s")
    expect(page.locator("#permit")).to_be_visible()
    # Keys wait while it is open, and without a ground nothing is sent.
    page.keyboard.press("Enter")
    expect(page.locator("#permit")).to_be_visible()
    page.locator("#permit-no").click()
    expect(page.locator("#permit")).to_be_hidden()
    assert read_log(run.out) == []
    page.keyboard.press("s")
    page.keyboard.type("consent of 2026-01-31")
    page.keyboard.press("Enter")
    says(page, f"Released with its faces, by permission: {CUT}")
    ((identity, decision),) = read_log(run.out)
    assert identity == run.id(CUT) and decision.permits
    assert (decision.basis, decision.reviewer) == ("consent of 2026-01-31", "Ada")
    assert (run.out / "images" / f"{identity}.png").exists()


def test_a_mask_that_leaves_the_face_bare_is_held_back_until_confirmed(page: Any, run: HeldRun) -> None:
    go_to(page, FACE)
    draw(page)
    page.keyboard.press("c")
    stroke(page, (20, 230), (60, 230))
    page.keyboard.press("Enter")
    expect(page.locator("#held")).to_contain_text("bare", timeout=PATIENCE)
    released = run.out / "images" / f"{run.id(FACE)}.png"
    assert not released.exists()
    # Nothing is confirmed about a mask that has changed since.
    stroke(page, (20, 20), (60, 20))
    expect(page.locator("#held")).to_be_hidden()
    page.keyboard.press("u")
    expect(page.locator("#held")).to_be_visible()
    page.reload()
    shows(page, FACE)
    expect(page.locator("#held")).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator("#stage-mode")).to_contain_text("Result")
    page.keyboard.press("Shift+Enter")
    says(page, f"Released with the drawn mask: {FACE}")
    assert released.exists()
    assert [decision.confirmed for _, decision in read_log(run.out)] == [False, True]


def test_leaving_a_drawing_keeps_it_and_nothing_is_released_without_it(page: Any, run: HeldRun) -> None:
    go_to(page, FACE)
    draw(page)
    page.keyboard.press("p")
    page.mouse.click(*spot(page, 30, 30))
    page.keyboard.press("Enter")
    says(page, "three corners")
    page.keyboard.press("Escape")
    expect(page.locator("#tools")).to_be_visible()
    page.keyboard.press("b")
    stroke(page, (30, 30), (60, 30))
    page.keyboard.press("a")
    says(page, "Enter applies it")
    page.keyboard.press("Escape")
    says(page, "kept and not applied")
    page.keyboard.press("a")
    says(page, "not applied")
    page.get_by_role("button", name="Discard").click()
    assert not kept(page)
    assert not list(read_log(run.out))


def test_help_opens_and_keys_wait_for_it(page: Any, run: HeldRun) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    for chord in ("Control+x", "Alt+e", "Meta+a", "Shift+X", "Shift+E"):
        page.keyboard.press(chord)
    expect(page.locator("#busy")).to_be_hidden()
    assert not list(read_log(run.out))


def test_keys_walk_through_the_list(page: Any) -> None:
    order = page.locator("#rows button span").all_inner_texts()
    assert set(order) == set(HELD)
    for key, index in (("n", 1), ("ArrowRight", 2), ("Shift+N", 1), ("ArrowLeft", 0), ("ArrowLeft", 3)):
        page.keyboard.press(key)
        shows(page, order[index])
        expect(page.locator("#rows [aria-current] span")).to_have_text(order[index])
    page.keyboard.press("o")
    expect(page.locator("#legend")).to_be_hidden()
    before = page.locator("#zoom-text").inner_text()
    page.keyboard.press("+")
    expect(page.locator("#zoom-text")).not_to_have_text(before)
    page.keyboard.press("0")
    expect(page.locator("#zoom-text")).to_have_text(before)


def test_a_file_name_with_markup_is_text(page: Any) -> None:
    go_to(page, HOSTILE)
    expect(page.locator("#source")).to_have_text(HOSTILE)
    page.keyboard.press("x")
    says(page, HOSTILE)
    assert page.locator("img").count() == 0


def test_a_narrow_window_has_everything(visit: Callable[..., Any], run: HeldRun) -> None:
    page = visit(NARROW, has_touch=True)
    page.get_by_role("button", name="List").tap()
    page.locator("#rows button", has_text=FACE).tap()
    shows(page, FACE)
    for mode in ("decide", "draw"):
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        buttons = page.locator("#actions button:visible, #tools button:visible").all()
        assert buttons
        for button in buttons:
            button.scroll_into_view_if_needed()
            box = button.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"]
            assert box["y"] >= 0 and box["y"] + box["height"] <= NARROW["height"]
        if mode == "decide":
            page.get_by_role("button", name="Draw a mask").tap()
            expect(page.locator("#tools")).to_be_visible()
    page.get_by_role("button", name="Polygon").tap()
    left, top, right, bottom = face_box()
    for corner in ((left, top), (right, top), (right, bottom), (left, bottom), (left, top)):
        page.touchscreen.tap(*spot(page, *corner))
    says(page, "closed")
    page.get_by_role("button", name="Apply").tap()
    says(page, f"Released with the drawn mask: {FACE}")
    assert (run.out / "images" / f"{run.id(FACE)}.png").exists()


def test_another_token_shows_nothing(page: Any, server: Server) -> None:
    token = urlsplit(server.address).path.strip("/")
    response = page.goto(server.address.replace(token, "x" * len(token)))
    assert response.status == 404
    assert "review" not in page.content() and FACE not in page.content()


def test_a_server_that_ended_is_told(page: Any, server: Server) -> None:
    server.stop()
    assert server.wait(10)
    page.keyboard.press("e")
    warns(page, "does not answer")
    page.keyboard.press("n")
    warns(page, "does not answer")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_finishing_writes_the_manifest_and_ends_the_server(page: Any, run: HeldRun, server: Server) -> None:
    go_to(page, EMPTY)
    page.keyboard.press("x")
    says(page, EMPTY)
    shows(page)
    page.get_by_role("button", name="Finish").click()
    expect(page.locator("#end-text")).to_contain_text("3 pictures")
    page.locator("#end-yes").click()
    expect(page.locator("#done")).to_contain_text("can be closed", timeout=PATIENCE)
    expect(page.locator("#done")).to_contain_text("1 picture released")
    assert server.wait(10)
    assert [row["id"] for row in read_rows(run.out / MANIFEST)] == [run.id(EMPTY)]


def test_an_empty_queue_says_so(page: Any) -> None:
    for left in (3, 2, 1, 0):
        shows(page)
        page.keyboard.press("e")
        expect(number(page, "open")).to_have_text(str(left), timeout=PATIENCE)
        expect(page.locator("#busy")).to_be_hidden()
    expect(page.locator("#done")).to_contain_text("Everything is decided")
    page.keyboard.press("u")
    shows(page)
    expect(page.locator("#done")).to_be_hidden()


def test_the_stale_decision_of_a_second_tab_is_refused_and_told(visit: Callable[..., Any], run: HeldRun) -> None:
    first = visit()
    second = visit(context=first.context)
    for tab in (first, second):
        go_to(tab, HOSTILE)
    first.keyboard.press("x")
    says(first, HOSTILE)
    second.keyboard.press("e")
    warns(second, "not taken")
    shows(second, HOSTILE)
    expect(second.locator("#state")).to_contain_text("no face by Ada")
    assert [decision.action.value for _, decision in read_log(run.out)] == ["no_face"]


def test_a_source_that_vanished_is_told(page: Any, run: HeldRun) -> None:
    go_to(page, FACE)
    (run.source / FACE).unlink()
    page.keyboard.press("a")
    warns(page, FACE)
    expect(page.locator("#alert")).not_to_contain_text("how it stands now")
    assert not list((run.out / "images").glob(f"{run.id(FACE)}.*"))


def test_keys_pressed_twice_decide_once(page: Any, run: HeldRun) -> None:
    waiting: list[Any] = []
    page.route("**/decision", lambda route: waiting.append(route))
    go_to(page, EMPTY)
    with page.expect_request("**/decision"):
        page.keyboard.press("x")
    for key in ("x", "e", "n", "u", "x"):
        page.keyboard.press(key)
    expect(page.locator("#busy")).to_be_visible()
    expect(page.locator("#source")).to_have_text(EMPTY)
    waiting[0].continue_()
    says(page, EMPTY)
    shows(page)
    assert len(waiting) == 1
    assert [decision.action.value for _, decision in read_log(run.out)] == ["no_face"]


def test_a_late_photograph_never_shows_under_another_name(page: Any, run: HeldRun) -> None:
    late: list[Any] = []
    page.route(f"**/{run.id(FACE)}/photo*", lambda route: late.append(route))
    # A fresh page has fetched nothing ahead.
    page.reload()
    shows_name = page.locator("#source")
    go_to(page, EMPTY)
    page.mouse.move(5, 5)
    alone = page.locator("#stage").screenshot()
    page.locator("#rows button", has_text=FACE).click()
    expect(shows_name).to_have_text(FACE)
    blank = pixels(page.locator("#stage").screenshot())
    assert np.ptp(blank[40:200, 200:600].reshape(-1, 3), axis=0).max() < 40, "nothing of the last picture is left"
    go_to(page, EMPTY)
    for route in late:
        route.continue_()
    page.keyboard.press("o")
    page.keyboard.press("o")
    page.mouse.move(5, 5)
    assert similar(page.locator("#stage").screenshot(), alone)


def test_ten_thousand_pictures_are_no_burden(page: Any, run: HeldRun) -> None:
    real, calls = run.id(EMPTY), []

    def items(route: Any) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        calls.append(limit)
        rows: list[dict[str, Any]] = [
            {"id": real if i == 7000 else f"id{i}", "source": f"{i:05d}.jpg", "reason": "detectors_disagree"}
            | {"outcome": "needs_review", "action": None, "open": True}
            for i in range(offset, min(10_000, offset + limit))
        ]
        route.fulfill(json={"total": 10_000, "items": rows})

    def item(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer, json=answer.json() | {"position": {"view": "open", "index": 7000, "total": 10_000}}
        )

    page.route(re.compile(r"/api/items\?"), items)
    page.route(re.compile(rf"/api/items/{real}\?"), item)
    page.goto(f"{page.url.partition('#')[0]}?#{real}")
    shows(page)
    expect(page.locator("#rows [aria-current] span")).to_have_text("07000.jpg")
    expect(page.locator("#progress-text")).to_contain_text("10,000")
    assert page.locator("#rows button").count() < 60
    assert len(calls) < 8 and max(calls) <= 200


def test_nothing_of_a_picture_is_stored(page: Any) -> None:
    go_to(page, FACE)
    draw(page)
    stroke(page, (100, 100), (120, 120))
    page.keyboard.press("n")
    shows(page)
    stored = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert '"points"' in stored.replace("\\", "")
    assert len(stored) < 4000 and "data:image" not in stored and "blob:" not in stored
    assert page.evaluate("caches.keys()") == []
    assert page.evaluate("indexedDB.databases()") == []
