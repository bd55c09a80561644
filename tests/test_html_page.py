"""The report's page in a real browser: what a reader sees and does, and what must not happen."""

import html

import cv2
import numpy as np
import pytest
from pandas import DataFrame

from vared_mm.report.html_page import Section, page, text_and_value
from vared_mm.report.plot_style import Picture

BAD = '<script>window.hit = 1</script><img src="x" onerror="window.hit = 1">&amp;"'


def png(width, height=4):
    return cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes()


ENTER, ESCAPE = "\ue007", "\ue00c"  # as WebDriver writes these keys
LAYERS = DataFrame(
    [
        ["conv10", ("9 %", 0.09), 100.5, "trunk"],
        ["conv2", ("80 %", 0.8), 9, BAD],
        ["conv1", ("100 %", 1.0), None, "trunk"],
        ["head", ("n/a", None), 80.25, "head"],
    ],
    columns=["layer", "share", "GMACs", "of"],
)
WIDE = DataFrame([["w" * 300, *range(39)]], columns=[f"column {i}" for i in range(40)])
SECTIONS = [
    Section("What ran", f"One.\n\nTwo {BAD}", LAYERS, "Shares are of MACs."),
    Section("Wide", table=WIDE),
    Section("Pictures", pictures=[Picture("Both", BAD, png(900), png(500))]),
]


def show(browser, folder, text, width=1000, scheme="light", medium="screen"):
    """Opens the page as a file on a screen, or paper, of this width and colour scheme."""
    size = dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = dict(name="prefers-color-scheme", value=scheme)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(media=medium, features=[scheme]))
    file = folder / "page.html"
    file.write_text(text)
    browser.get(file.as_uri())


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of SECTIONS as told; nothing may be logged until the test ends."""

    def start(**settings):
        show(browser, tmp_path, page("A model", SECTIONS), **settings)
        return browser

    yield start
    assert browser.get_log("browser") == []


def seen(browser, selector):
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility())"
    return browser.execute_script(f"{script}.map(e => e.textContent.trim())", selector)


def names(browser):
    return seen(browser, "section:first-of-type tbody th")


def click_head(browser, column, key=None):
    """Clicks, or presses a key on, the head of a column; returns its aria-sort and the others'."""
    heads = browser.find_elements("css selector", "section:first-of-type thead th")
    button = heads[column].find_element("tag name", "button")
    button.send_keys(key) if key else button.click()
    return [head.get_attribute("aria-sort") for head in heads]


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def picture_widths(browser):
    script = (
        "return Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    return browser.execute_script(script)


def test_the_page_shows_all_it_was_given_and_fetches_nothing(opened):
    browser = opened()
    assert browser.title == "A model"
    assert seen(browser, "h2") == ["What ran", "Wide", "Pictures"]
    assert seen(browser, "nav a") == ["What ran", "Wide", "Pictures"]
    assert names(browser) == ["conv10", "conv2", "conv1", "head"]
    assert seen(browser, "tbody tr:nth-child(3) td")[:3] == ["100 %", "–", "trunk"]
    assert seen(browser, ".note") == ["Shares are of MACs."]
    assert picture_widths(browser) == [900]
    fetched = "return performance.getEntriesByType('resource').map(e => e.name.slice(0, 5))"
    assert set(browser.execute_script(fetched)) <= {"data:"}


def test_what_looks_like_markup_is_shown_as_text(opened):
    browser = opened()
    assert BAD in seen(browser, "td")
    assert f"Two {BAD}" in seen(browser, "p")
    assert browser.execute_script("return window.hit ?? null") is None
    assert len(browser.find_elements("tag name", "img")) == 1


BY_SHARE = ["conv10", "conv2", "conv1", "head"]  # 0.09, 0.8, 1, missing
BY_GMACS = ["conv2", "head", "conv10", "conv1"]  # 9, 80.25, 100.5, missing
BY_NAME = ["conv1", "conv2", "conv10", "head"]


@pytest.mark.parametrize(
    ("column", "order", "last"),
    [(1, BY_SHARE, 1), (2, BY_GMACS, 1), (0, BY_NAME, 0)],
    ids=["numbers behind a text", "numbers", "names with numbers in them"],
)
def test_a_click_sorts_up_the_next_one_down_and_what_is_missing_stays_last(
    opened, column, order, last
):
    browser = opened()
    click_head(browser, 3)
    others = [None] * (3 - column)
    assert click_head(browser, column) == [*[None] * column, "ascending", *others]
    assert names(browser) == order
    assert click_head(browser, column) == [*[None] * column, "descending", *others]
    there = order[: len(order) - last]
    assert names(browser) == there[::-1] + order[len(there) :]


def test_the_keyboard_sorts_too(opened):
    assert click_head(opened(), 2, ENTER)[2] == "ascending"


def test_a_filter_keeps_the_rows_that_hold_every_word_and_one_row_needs_none(opened):
    browser = opened()
    box = browser.find_element("css selector", "input[aria-label='Filter What ran']")
    box.send_keys("TRUNK 100")
    assert names(browser) == ["conv10", "conv1"]
    assert seen(browser, "output") == ["2 of 4 rows"]
    click_head(browser, 0)
    assert names(browser) == ["conv1", "conv10"]
    box.send_keys(ESCAPE)
    assert len(names(browser)) == 4


def test_a_phone_scrolls_wide_tables_and_never_the_page(opened):
    browser = opened(width=360)
    page_width = "return [document.documentElement.scrollWidth, visualViewport.width]"
    assert browser.execute_script(page_width) == [360, 360]
    boxes = (
        "return [...document.querySelectorAll('.scroll')].map(b => [b.clientWidth, b.scrollWidth])"
    )
    inner, whole = browser.execute_script(boxes)[1]
    assert inner < 360 < whole


def test_dark_follows_the_system_and_the_switch_overrules_it(opened):
    browser = opened(scheme="light")
    light = background(browser)
    switch = browser.find_element("id", "colours")
    switch.send_keys("dark")
    dark = background(browser)
    assert dark != light
    assert picture_widths(browser) == [500]
    browser = opened(scheme="dark")
    assert background(browser) == dark
    assert picture_widths(browser) == [500]
    browser.find_element("id", "colours").send_keys("light")
    assert background(browser) == light
    assert picture_widths(browser) == [900]


def test_paper_is_white_and_has_no_controls(opened):
    light = background(opened())
    browser = opened(scheme="dark", medium="print")
    assert background(browser) == light
    assert picture_widths(browser) == [900]
    assert seen(browser, "input, select, nav, output") == []
    assert names(browser) == ["conv10", "conv2", "conv1", "head"]


def test_no_other_script_runs_and_nothing_is_loaded_even_if_markup_got_in(browser, tmp_path):
    broken = html.unescape(page("A model", SECTIONS).replace("</main>", f"{BAD}</main>"))
    show(browser, tmp_path, broken.replace('src="x"', 'src="http://127.0.0.1:9/x.png"'))
    assert browser.execute_script("return window.hit ?? null") is None
    messages = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "script-src" in messages
    assert "img-src" in messages


@pytest.mark.parametrize(
    ("cell", "text", "value"),
    [
        ("I3D", "I3D", None),
        (("9 %", 0.09), "9 %", "0.09"),
        (55.93, "55.93", "55.93"),
        (0.123456, "0.1235", "0.123456"),
        (12_490_000, "12,490,000", "12490000.0"),
        (1234.5, "1,234", "1234.5"),
        (np.float32(0.5), "0.5", "0.5"),
        (float("inf"), "inf", "Infinity"),
        (None, "–", ""),
        (float("nan"), "–", ""),
        (("not run", None), "not run", ""),
    ],
)
def test_a_cell_has_a_text_and_a_number_to_sort_by(cell, text, value):
    assert text_and_value(cell) == (text, value)
