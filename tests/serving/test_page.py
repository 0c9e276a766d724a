"""The page, in a real browser: pictures in, what a model says of each out; by mouse, by keyboard, in a narrow window.

SCREENSHOTS=docs/platform make test-serving     # draws the pictures of docs/platform.md anew
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from lesions.sample import scene
from tests.serving import toy
from tests.serving.conftest import ROOT, Processes, client, free_port, wait

DRAWN = {
    "BCC": ("BCN", 1, 2, 3, 11),
    "MEL": ("BCN", 15, 24, 25, 26),
    "NV": ("HAM", 0, 1, 2, 3),
}  # lite1 is of several minds
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install --no-install-recommends chromium"),
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """A page on a server of its own; `faults` are errors of its scripts, and what it asked for elsewhere."""

    def __init__(self, browser: Browser, processes: Processes, **settings: str) -> None:
        port = free_port()
        told = {"models": f"{processes.settings['models']}:{ROOT / 'released'}"} | settings
        self.server = processes.start("serving", "--port", str(port), **told)
        self.api, self.faults = client(port), []
        wait(lambda: self.api.get("/health/ready").status_code == 200)
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 860})
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.faults.append(said.text))
        self.page.on("request", lambda asked: self.asked(asked.url, f"http://127.0.0.1:{port}/"))
        self.page.goto(f"http://127.0.0.1:{port}/")

    def asked(self, url: str, own: str) -> None:
        if not url.startswith((own, f"blob:{own}")):
            self.faults.append(url)

    def choose(self, files: list[Path], model: str = "lite1") -> None:
        self.page.select_option("#model", model)
        self.page.set_input_files("#files", files)
        expect(self.page.locator("#pictures li")).to_have_count(len(files))

    def predict(self) -> None:
        self.page.click("#predict")
        self.ended()

    def ended(self, seconds: int = 60) -> None:
        expect(self.page.locator("#status")).to_have_text(re.compile("predicted in .* by"), timeout=1000 * seconds)

    def kinds(self) -> list[str]:
        return [tile.get_attribute("class") for tile in self.page.locator("#pictures li").all()]

    def names(self) -> list[str]:
        return self.page.locator("#pictures .name").all_inner_texts()

    def accessible(self) -> None:
        found = Axe().run(self.page)
        assert not found.violations_count, found.generate_report()

    def shoot(self, name: str) -> None:
        if "SCREENSHOTS" in os.environ:
            self.page.screenshot(path=f"{os.environ['SCREENSHOTS']}/{name}.jpg", quality=85)


@pytest.fixture
def visit(browser: Browser, processes: Processes) -> Iterator[Visit]:
    found = Visit(browser, processes)
    yield found
    found.page.close()
    assert not found.faults


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Return files of the sample's drawn lesions, a white sheet and half a picture."""
    folder, drawn = tmp_path / "pictures", []
    folder.mkdir()
    for name, (source, *numbers) in DRAWN.items():
        for number in numbers:
            picture = scene.photograph(scene.lesion(name, 7, number), source, 7, number, 0).picture
            drawn.append(folder / f"lesion {len(drawn) + 1}.jpg")
            Image.fromarray(picture).save(drawn[-1], quality=95)
    (folder / "sheet.png").write_bytes(toy.sheet())
    (folder / "half.jpg").write_bytes(drawn[0].read_bytes()[:1500])
    return [*drawn, folder / "sheet.png", folder / "half.jpg"]


def many(folder: Path, count: int) -> list[Path]:
    """Write so many toy pictures; return their paths."""
    files = [folder / f"{i}.jpg" for i in range(count)]
    for i, path in enumerate(files):
        path.write_bytes(toy.picture(i))
    return files


def test_pictures_in_predictions_and_a_table_out(visit: Visit, pictures: list[Path], tmp_path: Path) -> None:
    page = visit.page
    expect(page.locator("#summary")).to_contain_text("On 860 other images: balanced accuracy")
    expect(page.locator("#predict")).to_be_disabled()
    visit.accessible()
    visit.shoot("before")
    visit.choose(pictures)
    page.click("#predict")
    page.locator("#pictures :is(.melanoma, .other)").first.wait_for()
    visit.shoot("running")
    visit.accessible()
    visit.ended()
    kinds = visit.kinds()
    assert kinds == sorted(kinds, key=["melanoma", "other", "unfamiliar", "failed"].index)
    assert kinds[-2:] == ["unfamiliar", "failed"] and "melanoma" in kinds and "other" in kinds
    expect(page.locator("#pictures .failed")).to_contain_text("half.jpg: not a readable image")
    visit.accessible()
    visit.shoot("results")

    page.select_option("#order", "name")
    assert visit.names()[1:4] == ["lesion 1.jpg", "lesion 2.jpg", "lesion 3.jpg"]
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "page.csv")
    command = [sys.executable, "-m", "serving.predict", str(pictures[0].parent), "--model", "lite1"]
    told = os.environ | {"LESIONS_MODELS": str(ROOT / "released"), "LESIONS_THREADS": "1"}
    subprocess.run([*command, "--out", str(tmp_path / "folder.csv")], cwd=ROOT, check=True, env=told)
    tables = []
    for name in ("page.csv", "folder.csv"):
        with (tmp_path / name).open(encoding="utf-8-sig", newline="") as file:
            tables.append({line["name"]: line for line in csv.DictReader(file)})
    assert tables[0].keys() == tables[1].keys() == {path.name for path in pictures}
    for name, line in tables[0].items():
        assert list(line) == list(tables[1][name])
        for column, value in tables[1][name].items():
            assert line[column] == value or abs(float(line[column]) - float(value)) < 1e-4, (name, column)

    page.click("#clear")
    expect(page.locator("#pictures li")).to_have_count(0)
    expect(page.locator("#drop")).to_be_visible()
    assert 'state="done"} 0' in visit.api.get("/metrics").text  # results are deleted when the page has them


def test_the_pop_up(visit: Visit, pictures: list[Path]) -> None:
    page, details = visit.page, visit.page.locator("#details")
    visit.choose(pictures)
    visit.predict()
    page.locator("#pictures button").first.click()
    expect(page.locator("#said")).to_have_text("The model says melanoma.")
    shares = [int(text.lstrip("<")) for text in details.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert len(shares) == 8 and shares == sorted(shares, reverse=True) and 96 <= sum(shares) <= 107
    frame, heat = page.locator(".frame").bounding_box(), page.locator("#heat").bounding_box()
    assert frame == heat  # lite1 looks at the whole picture
    drawn = "() => document.querySelector('#heat').getContext('2d').getImageData(0, 0, 99, 99).data.some(v => v)"
    assert page.evaluate(drawn)
    visit.accessible()
    visit.shoot("details")
    page.uncheck("#map")
    expect(page.locator("#heat")).to_be_hidden()
    page.get_by_label("Next picture").click()
    expect(page.locator("#title")).to_have_text(visit.names()[1])
    page.mouse.click(5, 5)
    expect(details).to_be_hidden()
    page.locator("#pictures .unfamiliar button").click()
    expect(page.locator("#said")).to_contain_text("unlike those that the model learnt from")
    page.get_by_label("Close").click()
    page.emulate_media(color_scheme="dark")
    page.locator("#pictures button").first.click()
    visit.accessible()
    visit.shoot("dark")
    page.get_by_label("Close").click()
    visit.accessible()
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 800})
    visit.accessible()
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    visit.shoot("narrow")
    page.locator("#pictures button").first.click()
    visit.accessible()
    assert details.bounding_box()["width"] <= 390


def test_all_of_it_by_keyboard(visit: Visit, pictures: list[Path]) -> None:
    page, press = visit.page, visit.page.keyboard.press
    page.on("filechooser", lambda chooser: None)  # from here on choosers are the test's, not the screen's
    page.select_option("#model", "quick")

    def to(name: str) -> None:
        for _ in range(20):
            press("Tab")
            if page.evaluate("() => document.activeElement.textContent").strip().startswith(name):
                return
        raise AssertionError(f"no way to {name}")

    to("Add pictures")
    with page.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files(pictures)
    to("Predict")
    press("Enter")
    visit.ended()
    names = visit.names()
    to("Download table")
    press("Tab")
    press("ArrowRight")
    press("End")
    press("Home")
    press("ArrowRight")
    press("Enter")
    expect(page.locator("#title")).to_have_text(names[1])
    press("ArrowRight")
    expect(page.locator("#title")).to_have_text(names[2])
    press("Escape")
    expect(page.locator("#details")).to_be_hidden()
    expect(page.locator("#pictures li:nth-child(3) button")).to_be_focused()
    page.locator("#clear").focus()
    press("Enter")
    expect(page.locator("#pictures li")).to_have_count(0)


def test_stop_leaves_nothing_on_the_server_and_predict_goes_on(visit: Visit, tmp_path: Path) -> None:
    files = many(tmp_path, 90)
    visit.choose(files, "slow")
    visit.page.click("#predict")
    visit.page.locator("#pictures .other, #pictures .melanoma").first.wait_for()
    visit.page.click("#predict")
    expect(visit.page.locator("#status")).to_contain_text("Stopped after")
    assert "waiting" in visit.kinds()
    wait(lambda: 'state="queued"} 0' in visit.api.get("/metrics").text)
    visit.predict()
    assert "waiting" not in visit.kinds() and "failed" not in visit.kinds()


def test_a_server_with_small_limits_and_a_full_queue(browser: Browser, processes: Processes, tmp_path: Path) -> None:
    visit = Visit(browser, processes, request_images="4", queued_images="5", image_mb="0.05")
    files = many(tmp_path, 14)
    (tmp_path / "large.png").write_bytes(os.urandom(60_000))
    visit.choose([*files, tmp_path / "large.png"], "slow")
    visit.page.click("#predict")
    visit.ended(150)
    assert visit.kinds().count("failed") == 1
    expect(visit.page.locator("#pictures .failed")).to_contain_text("large.png: more than 0.05 MB")


def test_a_worker_and_a_server_that_die(browser: Browser, processes: Processes, tmp_path: Path) -> None:
    visit = Visit(browser, processes)
    files = many(tmp_path, 400)
    visit.choose(files, "slow")
    visit.page.click("#predict")
    visit.page.locator("#pictures .other, #pictures .melanoma").first.wait_for()
    port = str(visit.api.base_url.port)
    processes.kill(visit.server)
    expect(visit.page.locator("#status")).to_contain_text("The server does not answer; trying again.")
    processes.start("serving", "--port", port)
    visit.ended()
    assert "failed" not in visit.kinds()


def test_what_a_proxy_says_is_no_result_and_a_server_that_is_gone_leaves_pictures_waiting(
    visit: Visit, pictures: list[Path]
) -> None:
    page, asked = visit.page, []
    page.clock.install()
    visit.choose(pictures, "quick")

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=502, body="<html>Bad gateway") if len(asked) == 1 else route.abort()

    page.route("**/predict_bulk*", refuse)
    page.click("#predict")
    expect(page.locator("#status")).to_have_text("The server says: HTTP 502 (in 5 s).")
    for _ in range(8):
        page.clock.run_for(20_000)
        page.wait_for_timeout(50)
    expect(page.locator("#status")).to_have_text(
        "Stopped after 0 pictures: the server does not answer. Predict goes on."
    )
    assert set(visit.kinds()) == {"waiting"} and len(asked) == 7
    page.unroute("**/predict_bulk*")
    page.click("#predict")
    for _ in range(30):
        page.clock.run_for(1000)
        page.wait_for_timeout(50)
    visit.ended()
    assert visit.kinds().count("failed") == 1
    visit.faults[:] = [fault for fault in visit.faults if "Failed to load resource" not in fault]


def test_a_result_comes_while_its_picture_is_open(visit: Visit, pictures: list[Path]) -> None:
    page = visit.page
    visit.choose(pictures, "quick")
    page.locator("#pictures button").nth(1).click()
    expect(page.locator("#said")).to_have_text("Not predicted yet.")
    page.evaluate("() => document.querySelector('#predict').click()")
    expect(page.locator("#said")).to_contain_text("The model says")
    for key in ("Home", *["ArrowLeft"] * 14, "ArrowRight"):  # at the first one the focus stays in the pop-up
        page.keyboard.press(key)
    expect(page.locator("#facts dd").first).to_contain_text("2 of 14")
    page.locator("#said").click(position={"x": -4, "y": 4}, force=True)  # its padding is no way out
    expect(page.locator("#details")).to_be_visible()


def test_each_model_keeps_what_it_said(visit: Visit, pictures: list[Path]) -> None:
    visit.choose(pictures, "quick")
    visit.predict()
    said = visit.page.locator("#pictures").text_content()
    visit.page.select_option("#model", "two")
    assert set(visit.kinds()) == {"waiting"}
    visit.page.select_option("#model", "quick")
    assert visit.page.locator("#pictures").text_content() == said


def test_a_token_is_asked_for_until_it_is_right(browser: Browser, processes: Processes, pictures: list[Path]) -> None:
    visit = Visit(browser, processes, token="secret")
    for token in ("wrong", "secret"):
        expect(visit.page.locator("#asking")).to_be_visible()
        visit.page.fill("#token", token)
        visit.page.keyboard.press("Enter")
        if token == "wrong":
            expect(visit.page.locator("#refused")).to_be_visible()
            visit.accessible()
    expect(visit.page.locator("#asking")).to_be_hidden()
    visit.choose(pictures, "quick")
    visit.predict()
    assert visit.kinds().count("failed") == 1


def test_names_are_text_and_what_is_no_picture_is_left_out(visit: Visit, tmp_path: Path) -> None:
    page, name = visit.page, "<img src=x onerror=alert(1)>.jpg"
    (tmp_path / name).write_bytes(toy.picture())
    (tmp_path / "=1+1.jpg").write_bytes(toy.picture(1))
    (tmp_path / "notes.txt").write_text("no picture")
    page.select_option("#model", "two")
    page.set_input_files("#files", [tmp_path / name, tmp_path / "=1+1.jpg", tmp_path / "notes.txt"])
    expect(page.locator("#status")).to_have_text("2 pictures. 1 file left out: neither JPEG nor PNG.")
    visit.predict()
    assert set(visit.names()) == {name, "=1+1.jpg"}
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "table.csv")
    assert "\n'=1+1.jpg," in (tmp_path / "table.csv").read_text(encoding="utf-8-sig")
    dropped = """() => {
        const data = new DataTransfer();
        data.items.add(new File(["x"], "dropped.jpg", {type: "image/jpeg"}));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.evaluate(dropped)
    expect(page.locator("#pictures li")).to_have_count(3)
    visit.predict()
    expect(page.locator("#pictures .failed")).to_contain_text("dropped.jpg: neither JPEG nor PNG")
