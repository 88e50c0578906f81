"""Laws of the report page: every result has a section, foreign text stays text, nothing is fetched, and a browser likes it."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mechgate.errors import DataError, InputError
from mechgate.report.page import write_report
from mechgate.report.results import write_result

FIGURES = Path(__file__).parents[2] / "figures"
NAMES = ("selectivity", "objectives", "transfer", "token-roles", "which_heads", "behaviour_profile", "reversal")
HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the results that the repository ships, and of one that no section knows, full of foreign text."""
    folder = tmp_path_factory.mktemp("report") / "run"
    (folder / "figures").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "config.yaml").write_text("model: smollm2-135m\n", encoding="utf-8")
    for name in NAMES:
        shutil.copy(FIGURES / f"{name}.json", folder / "results")
        for picture in FIGURES.glob(f"{name}*.*g"):
            shutil.copy(picture, folder / "figures")
    write_result(
        folder / "results" / "unheard-of.json",
        question=f"What of {HOSTILE}?",
        numbers={HOSTILE: HOSTILE, "replies": [HOSTILE], "n": 3},
        settings={HOSTILE: HOSTILE},
        hashes={},
    )
    return folder


class Page(HTMLParser):
    """What a page holds: its tags with their attributes."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_every_result_has_a_section_and_a_link_to_its_numbers(run: Path, page: Page) -> None:
    links = {str(attributes.get("href")) for tag, attributes in page.tags if tag == "a"}
    for path in (run / "results").glob("*.json"):
        assert f"results/{path.name}" in links, path.name


def test_foreign_text_stays_text_and_nothing_is_fetched(page: Page) -> None:
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed", "base")]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "srcset", "data", "poster", *(["href"] if tag == "link" else [])):
            assert str(attributes.get(name) or "data:").startswith("data:"), (tag, name)


def test_styles_fetch_nothing(run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    for found in re.findall(r"url\(([^)]{0,40})", text):
        assert found.strip("'\"").startswith(("data:", "#")), found


def test_pictures_say_what_they_show_and_headings_are_in_order(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert pictures
    assert all(len(str(attributes.get("alt") or "")) > 10 for attributes in pictures)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_two_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    path = other / "results" / "selectivity.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["settings"]["facts"] = 7
    path.write_text(json.dumps(found), encoding="utf-8")
    text = write_report(other, compare=run).read_text(encoding="utf-8")
    assert "facts" in text
    assert str(run.name) in text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"result_format": 99}', '{"result_format": 1}'])
def test_a_damaged_result_is_named(run: Path, text: str, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "results" / "selectivity.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"selectivity\.json"):
        write_report(tmp_path / "run")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run with results"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="no run with results"):
        write_report(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; without it these tests fail and say how to get it."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "these tests open pages in Chromium, which is not there: apt-get install chromium"
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_whole_without_errors_or_requests(
    browser: Any, run: Path, page: Page, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto((run / "report.html").as_uri())
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert tab.title() != "hacked"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert all(tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)"))
    contrast = tab.evaluate(
        """() => {
            const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
                .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
            const style = getComputedStyle(document.body);
            const back = style.backgroundColor === 'rgba(0, 0, 0, 0)'
                ? getComputedStyle(document.documentElement).backgroundColor : style.backgroundColor;
            const [a, b] = [light(style.color), light(back)];
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) }"""
    )
    assert contrast > 7
    context.close()
