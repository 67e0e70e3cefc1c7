"""The page in headless Chromium: nothing it complains of, tables that sort, a telephone's width."""

import dataclasses
import json

import pytest
from devtools import EXECUTABLE, Browser
from toy_results import result

from biofm_jax.evaluate.metrics import score
from biofm_jax.evaluate.report import write_report
from biofm_jax.evaluate.results import write_result

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)

TABLE = "task-toy-012345-results"
# Their noise; the first two have errors of about 12 and 2.5, in another order if these were text.
MODELS = {"10": 50.0, "2": 10.0, "0.3": 0.3}
LONG = "runs/" + "averylongnamewithoutanyplacetobreak" * 4


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of a page with everything on it."""
    folder = tmp_path_factory.mktemp("page")
    for model, noise in MODELS.items():
        for seed in (0, 1) if model == "2" else (0,):
            given = result(model=f"runs/{model}", seed=seed)
            write_result(scaled(given, noise), folder / "results")
    for task in ("esol", "flip_gb1/sampled"):
        for share in ("", "@10%", "@30%"):
            write_result(result(task=task, model=LONG, method=f"probe{share}"), folder / "results")
    write_result(result(task="bbbp", metric="auroc", control=None), folder / "results")
    rows = [{"step": s, "loss": 3.0 / (s + 1), "tokens_per_second": 5e3} for s in range(0, 50, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"command": f"biofm train {LONG}" * 3}))
    (folder / "experiment.json").write_text(json.dumps({"data": {"path": LONG * 3}}))
    (folder / f"{'x' * 200}.result.json").write_text("{")
    return write_report([folder], folder / "report.html").html.as_uri()


def scaled(given, noise):
    """The result with errors that are so many times larger."""
    found = given.predictions
    predicted = found.truth + noise * (found.predicted - found.truth)
    return dataclasses.replace(
        given,
        score=score(given.metric, found.truth, predicted),
        predictions=dataclasses.replace(found, predicted=predicted),
    )


@pytest.fixture
def browse(page, tmp_path):
    opened = []

    def browse(hash="", **settings):
        opened.append(Browser(tmp_path / f"profile{len(opened)}", page + hash, **settings))
        return opened[-1]

    yield browse
    for browser in opened:
        browser.close()


def column(browser, number, table=TABLE):
    """The texts of a column, from top to bottom; columns count from 1."""
    return browser.ask(
        f"[...document.querySelectorAll('#{table} td:nth-child({number})')]"
        ".map((cell) => cell.textContent)"
    )


def heads(browser):
    return browser.ask(
        f"[...document.querySelectorAll('#{TABLE} th')].map((th) => th.getAttribute('aria-sort'))"
    )


def click(browser, number):
    browser.ask(f"document.querySelector('#{TABLE} th:nth-child({number}) button').click()")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_complaints_and_nothing_is_fetched(browse, page, width, dark):
    browser = browse(width=width, dark=dark)
    assert browser.ask("document.images.length") > 6
    assert browser.ask("[...document.images].every((i) => i.complete && i.naturalWidth > 99)")
    assert browser.complaints() == []
    asked = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:image/png")} == {page}


def test_the_browser_refuses_what_is_not_the_pages_own(browse):
    browser = browse()
    for tag, content in (("img", "{src: 'https://a.org'}"), ("script", "{text: 'window.x = 1'}")):
        browser.ask(
            f"document.body.append(Object.assign(document.createElement('{tag}'), {content}))"
        )
    assert browser.ask("window.x") is None
    assert "Content Security Policy" in str(browser.complaints())


def test_numbers_sort_as_numbers_and_missing_ones_are_last(browse):
    browser = browse()
    unsorted = column(browser, 1)
    assert unsorted[-2:] == ["flat", "Same | protocol"] and heads(browser) == [None] * 6
    click(browser, 3)
    ascending = column(browser, 1)
    assert ascending[0] == "runs/0.3" and ascending[-1] == "runs/10"
    values = [float(text.split()[0]) for text in column(browser, 3)]
    assert values == sorted(values) and len(values) == 5 and values[-1] > 10
    assert values[-2] > 2
    assert heads(browser)[2] == "ascending"
    click(browser, 3)
    assert column(browser, 1) == ascending[::-1] and heads(browser)[2] == "descending"
    click(browser, 4)  # standard deviation: one model has two seeds
    assert heads(browser) == [None, None, None, "ascending", None, None]
    for _ in range(2):
        found = column(browser, 4)
        assert found[0] != "–" and found[1:] == ["–"] * 4
        assert column(browser, 1)[0] == "runs/2"
        click(browser, 4)


def test_text_sorts_as_text_with_its_numbers(browse):
    browser = browse()
    click(browser, 1)
    assert column(browser, 1) == ["flat", "runs/0.3", "runs/2", "runs/10", "Same | protocol"]


def test_an_address_opens_the_page_sorted(browse, page):
    address = f"#sort={TABLE},3,descending"
    browser = browse(address)
    values = [float(text.split()[0]) for text in column(browser, 3)]
    assert values == sorted(values, reverse=True)
    assert heads(browser)[2] == "descending" and browser.complaints() == []
    assert browser.ask("scrollY") > 100
    click(browser, 3)
    assert browser.ask("location.href") == page + address.replace("descending", "ascending")
    # Inside of what is folded away, and by a link followed later.
    browser.ask("location.hash = '#sort=task-toy-012345-made,4,ascending'")
    found = column(browser, 4, "task-toy-012345-made")
    assert [float(text) for text in found] == sorted(map(float, found)) and len(found) == 4
    assert browser.ask("document.querySelector('details:has(#task-toy-012345-made)').open")


@pytest.mark.parametrize(
    "hash", ["#sort=none,1,ascending", f"#sort={TABLE},99,ascending", f"#sort={TABLE},0,ascending",
             f"#sort={TABLE},1,sideways", "#sort=results,1,ascending", "#results", "#%"]
)  # fmt: skip
def test_an_address_that_names_nothing_changes_nothing(browse, hash):
    browser = browse(hash)
    assert column(browser, 1)[-1] == "Same | protocol" and heads(browser) == [None] * 6
    assert browser.complaints() == []


@pytest.mark.parametrize("key", ["Enter", " "])
def test_sorting_by_keyboard(browse, key):
    browser = browse()
    browser.ask(f"document.querySelector('#{TABLE} th:nth-child(2) button').focus()")
    browser.press("Tab")  # on to the next title
    browser.press(key)
    assert heads(browser)[2] == "ascending" and column(browser, 1)[0] == "runs/0.3"
    browser.press(key)
    assert heads(browser)[2] == "descending"


def test_every_table_sorts_by_every_column(browse):
    browser = browse()
    assert browser.ask(
        """[...document.querySelectorAll("table")].every((table) => {
            const texts = () => [...table.tBodies[0].rows].map((row) => row.textContent);
            const given = texts().sort().join();
            return [...table.querySelectorAll("th button")].every((button) => {
                button.click();
                return texts().sort().join() === given
                    && button.parentElement.ariaSort === "ascending";
            });
        })"""
    )
    assert browser.ask("document.querySelectorAll('th button').length") > 40
    assert browser.complaints() == []


# What stands out of the page's width, without what is in a box that scrolls.
OUTSIDE = """[...document.querySelectorAll("main *")]
    .filter((e) => !e.closest(".scroll > *, pre > *"))
    .filter((e) => e.getBoundingClientRect().right > WIDTH)
    .map((e) => e.outerHTML.slice(0, 80))"""
SMALL = """[...new Set([...document.querySelectorAll("body *")]
    .filter((e) => parseFloat(getComputedStyle(e).fontSize) < 14).map((e) => e.tagName))]"""


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("scripts", [True, False])
def test_the_page_is_as_wide_as_the_window(browse, width, scripts):
    browser = browse(width=width, scripts=scripts)
    for folded in (True, False):
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask(OUTSIDE.replace("WIDTH", str(width))) == [] and browser.ask(SMALL) == []
        if folded:
            browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true })")


def test_without_scripts_the_page_is_whole(browse):
    with_scripts, without = browse(), browse(scripts=False)
    text = "document.querySelector('main').textContent.replace(/\\s+/g, ' ')"
    assert without.ask(text) == with_scripts.ask(text)
    assert without.ask("document.querySelectorAll('button').length") == 0
    assert without.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_and_pictures_stay_light(browse, dark):
    browser = browse(dark=dark)
    colours = browser.ask(CONTRASTS)
    assert len(colours) > 4
    for ratio, what in colours:
        assert ratio >= 4.5, what  # WCAG 2.2, level AA
    assert browser.ask("getComputedStyle(document.images[0]).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    page = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") != dark


# The contrast of each pair of text and background colours, by WCAG's relative luminance.
CONTRASTS = """(() => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const under = (e) => {
        const colour = getComputedStyle(e).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? under(e.parentElement) : colour;
    };
    const found = new Map();
    for (const e of document.querySelectorAll("main, main *")) {
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
        const [front, back] = [getComputedStyle(e).color, under(e)];
        const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
        found.set(front + back, [(high + 0.05) / (low + 0.05), e.outerHTML.slice(0, 80)]);
    }
    return [...found.values()];
})()"""
