"""Pages in a real browser, from disk: headless Chromium, where one is installed."""

from __future__ import annotations

import shutil

import pytest
from page_folders import write_full_run
from run_folders import write_seeds

from mnemonics_tf.report import collection
from mnemonics_tf.report.page import drawing, site

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (_CHROMIUM and _DRIVER), reason="No Chromium is installed (Debian: apt-get install chromium chromium-driver)."
)

# Brightness of the colour behind the page, 0..1, as the browser computes it.
_BRIGHTNESS = """
const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
return (r + g + b) / 765;
"""


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed.")
    options = selenium.ChromeOptions()
    options.binary_location = _CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1100,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(_DRIVER))
    # Nothing may be fetched: the page is all that there is.
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Addresses of the page of a run and of that of a set, without further files of figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "_FORMATS", {"svg": {}})
        yield _written_pages(tmp_path_factory)


# What reaches beyond the right edge of the page, without the parts of figures, which are cut off by their figures.
_BEYOND = """
return [...document.querySelectorAll("body *:not(svg *)")]
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(each => `${each.tagName} ${each.textContent.slice(0, 60)}`);
"""


def _written_pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    run = write_full_run(folder / "run #1?")
    write_seeds(folder / "set/ours", [60, 61, 62])
    write_seeds(folder / "set/herding", [50, 52], exemplars="herding", adjust_exemplars=False)
    found = collection.collect([str(folder / "set")])
    paths = [
        site.write_run_page(str(run), str(run / "report"), looks_at_data=False),
        site.write_set_page(found, [str(folder / "set")], str(folder / "out"), found.grids(None, "all"), False),
    ]
    assert len(paths) == 2
    return [(run / "report/index.html").as_uri(), (folder / "out/index.html").as_uri()]


def _hover(browser, element, is_told):
    """Moves the pointer to an element, and waits until something is told of it, or nothing is."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(browser).move_to_element(element).perform()
    tip = browser.find_element("id", "tip")
    # Scrolling and moving are told to the page with its next picture, which takes a while on a busy machine.
    WebDriverWait(browser, 20).until(lambda _: tip.is_displayed() == is_told)
    return tip


def _emulate(browser, scheme, width=1100, media=""):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )


def test_console_is_silent_and_the_pointer_reads_curves(browser, pages):
    for address, tip in zip(pages, ("CNN (head), phase 1: 50.00 %", "phase 3: 50.00 ± 0.00 % (3 seeds)"), strict=True):
        browser.get(address)
        points = browser.find_elements("css selector", f'[data-tip*="{tip}"]')
        assert tip in _hover(browser, points[0], is_told=True).text
        _hover(browser, browser.find_element("tag name", "h1"), is_told=False)
        assert browser.get_log("browser") == []


def test_boxes_filter_the_series_of_their_figure(browser, pages):
    browser.get(pages[0])
    section = browser.find_element("id", "accuracy")
    first, second = section.find_elements("css selector", ".choice input")
    series = {number: section.find_elements("css selector", f'[data-series="{number}"]') for number in "01"}
    others = browser.find_elements("css selector", '#old-and-new [data-series="0"]')
    first.click()
    assert not any(part.is_displayed() for part in series["0"])
    assert all(part.is_displayed() for part in series["1"])
    assert all(part.is_displayed() for part in others)
    first.click()
    assert all(part.is_displayed() for part in series["0"])
    assert second.is_selected()


def test_picked_phase_is_the_one_that_is_shown(browser, pages):
    from selenium.webdriver.support.ui import Select

    browser.get(pages[0])
    for name in ("confusion", "memory"):
        section = browser.find_element("id", name)
        parts = section.find_elements("css selector", "[data-phase]")
        assert [part.get_attribute("data-phase") for part in parts if part.is_displayed()] == ["2"]
        Select(section.find_element("tag name", "select")).select_by_value("0")
        assert [part.get_attribute("data-phase") for part in parts if part.is_displayed()] == ["0"]


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_page_follows_the_readers_scheme(browser, pages, scheme, dark):
    _emulate(browser, scheme)
    browser.get(pages[0])
    assert (browser.execute_script(_BRIGHTNESS) < 0.5) == dark
    # Figures' letters stand out from the page in both.
    letter = browser.find_element("css selector", "#accuracy svg text")
    red = int(letter.value_of_css_property("fill").split("(")[1].split(",")[0])
    assert (red > 128) == dark
    pictures = browser.execute_script("return [...document.images].map(each => each.naturalWidth)")
    assert pictures
    assert min(pictures) > 0


def test_narrow_screen_scrolls_down_and_not_across(browser, pages):
    try:
        for address in pages:
            _emulate(browser, "light", width=390)
            browser.get(address)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
            assert browser.find_element("tag name", "h1").is_displayed()
    finally:
        _emulate(browser, "light")


def test_printed_page_is_white_and_has_no_controls_and_nothing_beyond_the_paper(browser, pages):
    try:
        for address in pages:
            _emulate(browser, "dark", width=718, media="print")  # pixels between the margins of A4
            browser.get(address)
            controls = browser.find_elements("css selector", "nav, input, .files, #tip")
            assert len(controls) > 5
            assert not any(each.is_displayed() for each in controls)
            # Which phase is shown is told all the same.
            picked = browser.find_elements("css selector", "select")
            assert [each.value_of_css_property("border-top-width") for each in picked] == ["0px"] * len(picked)
            assert browser.execute_script(_BRIGHTNESS) == 1
            letter = browser.find_element("css selector", "figure svg text")
            assert letter.value_of_css_property("fill") == "rgb(0, 0, 0)"
            assert browser.execute_script(_BEYOND) == []
            figures = browser.find_elements("css selector", "figure svg")
            assert max(each.size["height"] for each in figures) < 1040  # pixels between the margins of A4
    finally:
        _emulate(browser, "light")
