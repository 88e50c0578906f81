"""Laws of the report page: every result has a section, foreign text stays text, nothing is fetched, and a browser likes it."""

import itertools
import json
import re
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mechgate.errors import DataError, InputError
from mechgate.report.comparison import compared, settings_table
from mechgate.report.page import read_run, write_report
from mechgate.report.results import read_result, write_result

FIGURES = Path(__file__).parents[2] / "figures"
NAMES = ("selectivity", "objectives", "transfer", "token-roles", "which_heads", "behaviour_profile", "reversal")
HOSTILE = """</style></pre><script>document.title='hacked'</script><img src=x onerror="alert(1)">'"><b>{{ 7 * 7 }}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the results that the repository ships, and of one that no section knows, full of foreign text: in
    questions, settings, names, reasons, replies, the config, and the name of a figure."""
    folder = tmp_path_factory.mktemp("report") / "run"
    (folder / "figures").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / "config.yaml").write_text(json.dumps({"model": "smollm2-135m", "note": HOSTILE}), encoding="utf-8")
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
    shutil.copy(FIGURES / "reversal.png", folder / "figures" / "unheard-of-'\"><b onclick=alert(1)>.png")
    shutil.copy(FIGURES / "reversal.svg", folder / "figures" / "of no result.svg")
    changed(folder / "results" / "reversal.json", _hostile_replies)
    changed(folder / "results" / "selectivity.json", _hostile_host)
    return folder


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a result file in place."""
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def _hostile_replies(found: dict[str, Any]) -> None:
    found["numbers"]["samples"][0]["prompt"] = HOSTILE
    for reply in found["numbers"]["samples"][0]["replies"]:
        reply["reply"] = reply["stance"] = HOSTILE
    found["numbers"]["verdict"]["lines"].append(HOSTILE)
    found["provenance"]["command"] = found["provenance"]["commit"] = HOSTILE


def _hostile_host(found: dict[str, Any]) -> None:
    contexts = found["numbers"]["contexts"]
    contexts[f"host {HOSTILE}"] = contexts.pop("lora-sycophancy-medical-0")
    contexts["base"]["verdict"]["reasons"].append(HOSTILE)


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.said += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_every_result_has_a_section_and_a_link_to_its_numbers(run: Path, page: Page) -> None:
    links = {str(attributes.get("href")) for tag, attributes in page.tags if tag == "a"}
    for path in (run / "results").glob("*.json"):
        assert f"results/{path.name}" in links, path.name
        assert read_result(path)["question"] in page.said
    for path in (run / "figures").glob("*.*g"):
        assert urllib.parse.quote(f"figures/{path.name}") in links, path.name


def test_results_that_are_known_are_told_in_full(run: Path) -> None:
    found = read_run(run).sections
    assert list(found) == [*NAMES, "unheard-of"]
    for name in NAMES:
        assert found[name].how, name
        assert found[name].tables, name
        assert found[name].primary or name == "which_heads", name
        assert not [text for text in found[name].caveats if "top-level numbers" in text]
    assert [text for text in found["unheard-of"].caveats if "top-level numbers" in text]


def test_a_known_result_of_another_form_is_said_to_be_one(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    changed(other / "results" / "transfer.json", lambda found: found["numbers"].pop("cells"))
    assert "another form than this version expects" in write_report(other).read_text(encoding="utf-8")
    changed(other / "results" / "selectivity.json", lambda found: found["numbers"].pop("contexts"))
    with pytest.raises(DataError, match=r"selectivity\.json"):
        write_report(other)


def test_without_a_verdict_there_is_none(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    (other / "results" / "selectivity.json").unlink()
    said = Page(write_report(other).read_text(encoding="utf-8")).said
    assert "this page gives no verdict" in said
    assert "undecidable" not in said.split("Objectives")[0]


def test_the_folder_alone_decides_the_page(run: Path, tmp_path: Path) -> None:
    before = write_report(run).read_bytes()
    shutil.copytree(run, tmp_path / run.name)
    assert write_report(run).read_bytes() == write_report(tmp_path / run.name).read_bytes() == before


def test_no_cell_is_no_number(page: Page, run: Path, tmp_path: Path) -> None:
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page.said)
    other = shutil.copytree(run, tmp_path / "run")
    path = other / "results" / "token-roles.json"
    path.write_text(path.read_text(encoding="utf-8").replace("-0.5283358414967855", "NaN"), encoding="utf-8")
    with pytest.raises(DataError, match=r"token-roles\.json.*NaN"):
        write_report(other)


def test_foreign_text_stays_text_and_nothing_is_fetched(page: Page) -> None:
    # Replies, stances, command, question, prompt, a verdict's reason, a finding, names of hosts: all there, as they are.
    assert page.said.count(HOSTILE) > 15
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
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


def test_tables_have_a_caption_and_headings_of_rows_and_columns(page: Page) -> None:
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) > len(NAMES)
    assert {attributes.get("scope") for tag, attributes in page.tags if tag == "th"} == {"row", "col"}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {str(a["href"])[1:] for tag, a in page.tags if tag == "a" and str(a.get("href", "")).startswith("#")}
    assert inside <= set(ids)


def test_rows_are_as_long_as_their_table_is_wide(run: Path) -> None:
    for name, section in read_run(run).sections.items():
        for table in section.tables:
            assert {len(row) for row in table.rows} == {len(table.columns)}, (name, table.caption)
            assert all(isinstance(cell, str) and cell for row in table.rows for cell in row), (name, table.caption)


def test_two_runs_stand_side_by_side(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)

    def moved(found: dict[str, Any]) -> None:
        found["settings"]["facts"] = 7
        base = found["numbers"]["contexts"]["base"]
        base["verdict"]["outcome"] = "not selective"
        base["axes"]["all"][0]["effect"] |= {"value": -9.0, "low": -9.5, "high": -8.5}
        base["axes"]["all"][1]["sigma"] = None

    changed(other / "results" / "selectivity.json", moved)
    (other / "results" / "transfer.json").unlink()
    theirs, ours = read_run(run), read_run(other)
    names = ("other", "run")
    rows = {(t.caption, row[0]): row for t in compared(ours.sections, theirs.sections, names) for row in t.rows}
    told = {label: row[-1] for (_, label), row in rows.items()}
    assert told.pop("The gated model: verdict") == "different"
    assert told.pop("The gated model, s = −1: E (nats)") == "no"
    assert told.pop("The gated model, s = +1: sigma") == "cannot be told: not defined"
    missing = {label for label, text in told.items() if text == "in one run only"}
    assert missing == set(theirs.sections["transfer"].primary)
    assert {text for label, text in told.items() if label not in missing} == {"yes", "same"}
    changes = settings_table(ours.settings, theirs.settings, names).rows
    assert ("selectivity (result).facts", "7", "none") in changes
    assert all(row[0] == changes[0][0] or row[0].startswith("transfer") for row in changes)
    said = Page(write_report(other, compare=run).read_text(encoding="utf-8")).said
    assert f"How does this run compare with {run.name}?" in said
    same = write_report(tmp_path / shutil.copytree(run, tmp_path / "same").name, compare=run)
    assert "No setting differs." in Page(same.read_text(encoding="utf-8")).said


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


# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, AA).
CONTRAST = r"""() => {
    const parts = c => c.match(/[\d.]+/g).map(Number);
    const light = c => { const v = parts(c).slice(0, 3).map(x => x / 255)
        .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
    const behind = e => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor; if ((parts(c)[3] ?? 1) > 0) return c } return 'rgb(255, 255, 255)' };
    return [...document.body.querySelectorAll('*')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
        .filter(e => { const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5 })
        .map(e => e.tagName + ': ' + e.textContent.slice(0, 40)) }"""


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
@pytest.mark.parametrize("width", [360, 390, 1280])
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
    assert tab.evaluate(CONTRAST) == []
    context.close()


@pytest.mark.browser
def test_the_first_screen_of_a_laptop_holds_verdict_table_and_both_figures(
    browser: Any, run: Path, page: Page, tmp_path: Path
) -> None:
    # The page's own run has a hostile reason and host name, which take room.
    other = shutil.copytree(run, tmp_path / "run")
    shutil.copy(FIGURES / "selectivity.json", other / "results")
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(write_report(other).as_uri())
    ends = "[...document.querySelectorAll('.first .answer, .first table, .first img')].map(e => e.getBoundingClientRect().bottom)"
    assert len(tab.evaluate(ends)) == 5
    assert max(tab.evaluate(ends)) <= 900
    tab.close()


@pytest.mark.browser
def test_on_paper_nothing_is_cut_off_or_folded_away(browser: Any, run: Path, page: Page) -> None:
    tab = browser.new_page(viewport={"width": 695, "height": 1000}, color_scheme="dark")  # A4 less its margins
    tab.emulate_media(media="print")
    tab.goto((run / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 695
    wide = "[...document.querySelectorAll('table, img, pre')].filter(e => e.getBoundingClientRect().right > 696).length"
    assert tab.evaluate(wide) == 0
    folded = "[...document.querySelectorAll('details > :not(summary)')].filter(e => !e.checkVisibility()).length"
    assert tab.evaluate(folded) == 0
    assert tab.evaluate(CONTRAST) == []
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    tab.close()
