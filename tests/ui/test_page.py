"""The page in a real browser: rows, counts, logs, links, themes, and what it says when something is wrong."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

from tests.ui.api_server import pod_of
from tests.ui.browser import chromium, open_page
from tests.ui.conftest import DASHBOARD, HTML, Site

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]

NODES = 300
MEASUREMENTS = 5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(site: Site, browser: Browser) -> Iterator[Page]:
    """The page itself, as an administrator sees it."""
    with open_page(browser, f"{site.server.url}/kpo-async/", site.server.token("root", "admin")) as found:
        expect(row(found, "billing.invoices")).to_be_visible()
        yield found


def row(page: Page | FrameLocator, task: str) -> Locator:
    return page.locator(".row", has_text=task)


def test_a_row_shows_the_task_its_phase_and_node_and_counts_add_up(page: Page) -> None:
    invoices = row(page, "billing.invoices")
    expect(invoices.locator(".phase")).to_have_text("Running")
    expect(row(page, "billing.waits").locator(".phase")).to_have_text("Pending")
    expect(page.locator("#by-dag li", has_text="billing").locator("b")).to_have_text("2")
    expect(page.locator("#by-dag li", has_text="reports").locator("b")).to_have_text("1")
    expect(page.locator("#total")).to_have_text("3 pods")


def test_a_click_on_a_count_shows_those_pods_only(page: Page) -> None:
    page.locator("#by-dag button", has_text="reports").click()
    expect(page.locator("#total")).to_have_text("1 of 3 pods")
    expect(page.locator(".row:visible")).to_have_count(1)
    page.locator("#by-dag button", has_text="reports").click()
    expect(page.locator("#total")).to_have_text("3 pods")
    page.locator("#filter").fill("monthly")
    expect(page.locator(".row:visible")).to_have_count(1)


def test_a_click_on_a_row_streams_its_log_and_html_stays_text(page: Page) -> None:
    row(page, "billing.invoices").click()
    log = page.locator("#log")
    expect(log).to_contain_text(HTML)
    expect(log).to_contain_text("password ***")
    expect(page.locator("#log-state")).to_have_text("live")
    ticks = log.locator("div", has_text="tick").count()
    expect(log.locator("div", has_text="tick").nth(ticks + 1)).to_be_visible()
    assert page.locator("#log img, #log b").count() == 0


def test_a_pod_is_on_the_page_within_a_second_and_leaves_it(site: Site, page: Page) -> None:
    """The page takes no longer, but a busy machine may: the quickest of some pods counts."""
    seconds: list[float] = []
    while not seconds or (min(seconds) >= 1.0 and len(seconds) < MEASUREMENTS):
        site.create(pod_of("billing", "brief", sim={}))
        begun = time.monotonic()
        expect(row(page, "billing.brief")).to_be_visible(timeout=5000)
        seconds.append(time.monotonic() - begun)
        site.delete("billing-brief")
        expect(row(page, "billing.brief")).to_have_count(0)
    assert min(seconds) < 1.0, seconds


def test_a_cluster_that_does_not_answer_is_named_above_the_pods_of_the_others(page: Page) -> None:
    problem = page.locator("#problems")
    expect(problem).to_contain_text("Connection moved_away")
    expect(problem).to_contain_text("127.0.0.1:9")
    expect(page.locator("#total")).to_have_text("3 pods")
    page.locator("#watches-box summary").click()
    expect(page.locator("#watches tr", has_text="kubernetes_default")).to_contain_text("live")
    expect(page.locator("#watches tr", has_text="moved_away")).to_contain_text("failing")


def test_of_many_rows_only_those_in_sight_exist_and_the_last_can_be_scrolled_to(site: Site, page: Page) -> None:
    site.create(*(pod_of("many", f"task-{number:03d}", sim={}) for number in range(NODES)))
    try:
        expect(page.locator("#total")).to_have_text(f"{NODES + 3} pods", timeout=20_000)
        assert page.locator(".row").count() < 60
        page.locator("#head button", has_text="Task").click()
        page.locator("#scroll").evaluate("scroll => { scroll.scrollTop = scroll.scrollHeight; }")
        expect(page.locator(".row:visible", has_text="reports.monthly")).to_be_visible()
        expect(page.locator(".row:visible", has_text="billing.invoices")).to_have_count(0)
    finally:
        for number in range(NODES):
            site.delete(f"many-task-{number:03d}")


def test_airflows_menu_leads_to_the_page_and_a_row_back_to_airflow(site: Site, browser: Browser) -> None:
    with open_page(browser, f"{site.server.url}/", site.server.token("root", "admin")) as page:
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="Pods").click()
        frame = page.frame_locator("iframe")
        row(frame, "billing.invoices").click()
        expect(frame.locator("#log")).to_contain_text("tick")
        frame.locator("#detail-links a", has_text="Run").click()
        expect(page).to_have_url(re.compile("/airflow/dags/billing/runs/manual__1"))


def test_a_row_leads_to_the_dashboard_in_a_window_of_its_own(site: Site, browser: Browser) -> None:
    url, token = f"{site.server.url}/plugin/kpo-async-pods", site.server.token("root", "admin")
    with open_page(browser, url, token) as page:
        page.context.route("https://dashboard.example.com/**", lambda route: route.fulfill(body="a dashboard"))
        frame = page.frame_locator("iframe")
        row(frame, "billing.invoices").click()
        with page.context.expect_page() as opened:
            frame.locator("#detail-links a", has_text="Dashboard").click()
        opened.value.wait_for_url(DASHBOARD.format(namespace=site.cluster.namespace, name="billing-invoices"))
        expect(frame.locator("#detail-name")).to_contain_text("billing-invoices")


def test_the_page_is_as_dark_as_airflow_whatever_the_system_prefers(site: Site, browser: Browser) -> None:
    url, token = f"{site.server.url}/plugin/kpo-async-pods", site.server.token("root", "admin")
    with open_page(browser, url, token) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("html")).to_have_attribute("data-theme", "light")
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.reload()
        expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
        expect(frame.locator("body")).to_have_css("background-color", "rgb(17, 17, 17)")
        expect(page.locator("html")).to_have_class(re.compile("dark"))


def test_a_link_to_a_pod_opens_it(site: Site, browser: Browser) -> None:
    namespace, token = site.cluster.namespace, site.server.token("ann")
    link = f"{site.server.url}/plugin/kpo-async-pods?pod={namespace}/billing-invoices"
    with open_page(browser, link, token) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("#detail-name")).to_have_text(f"{namespace}/billing-invoices")
        expect(frame.locator("#total")).to_have_text("1 of 2 pods")


def test_a_user_without_the_right_to_logs_sees_why_there_are_none(site: Site, browser: Browser) -> None:
    with open_page(browser, f"{site.server.url}/kpo-async/", site.server.token("lena")) as page:
        row(page, "billing.invoices").click()
        expect(page.locator("#log-note")).to_contain_text("you may not read this DAG's logs")
        expect(page.locator("#log")).to_have_text("")


def test_a_task_that_formats_its_lines_shows_why_there_are_none(site: Site, page: Page) -> None:
    site.create(pod_of("billing", "formats", logs=None, sim={}))
    try:
        row(page, "billing.formats").click()
        expect(page.locator("#log-note")).to_contain_text("log_formatter")
        expect(page.locator("#log")).to_have_text("")
    finally:
        site.delete("billing-formats")


def test_a_link_to_a_pod_that_is_gone_says_so(site: Site, browser: Browser) -> None:
    link = f"{site.server.url}/plugin/kpo-async-pods?pod={site.cluster.namespace}/billing-gone"
    with open_page(browser, link, site.server.token("root", "admin")) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("#empty")).to_contain_text("billing-gone is not on this page")
        frame.locator("#show-all").click()
        expect(frame.locator("#total")).to_have_text("3 pods")
        expect(frame.locator("#empty")).to_be_hidden()


def test_the_keyboard_alone_filters_and_walks_through_the_pods(page: Page) -> None:
    page.keyboard.press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("billing")
    expect(page.locator(".row:visible")).to_have_count(2)
    page.locator("#scroll").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    chosen = page.locator(".row[aria-selected=true]")
    expect(chosen).to_have_count(1)
    expect(page.locator("#scroll")).to_have_attribute("aria-activedescendant", chosen.get_attribute("id") or "-")
    expect(page.locator("#detail-facts")).to_contain_text(chosen.locator("span").first.text_content() or "-")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(site: Site, browser: Browser, theme: str) -> None:
    with open_page(browser, f"{site.server.url}/kpo-async/", site.server.token("root", "admin"), theme=theme) as page:
        expect(page.locator("#problems")).to_be_visible()
        row(page, "billing.invoices").click()
        page.locator("#watches-box summary").click()
        expect(page.locator("#log")).to_contain_text("tick")
        violations = Axe().run(page).response["violations"]
    assert [(found["id"], [node["html"] for node in found["nodes"]]) for found in violations] == []


@pytest.mark.parametrize("width", [1360, 900, 420])
def test_a_heading_stands_above_its_column_and_nothing_sticks_out(site: Site, browser: Browser, width: int) -> None:
    url, token = f"{site.server.url}/kpo-async/", site.server.token("root", "admin")
    with open_page(browser, url, token, size=(width, 800)) as page:
        expect(row(page, "billing.invoices")).to_be_visible()
        columns = "parts => parts.map(part => part.getBoundingClientRect()).filter(box => box.width).map(box => box.x)"
        heads = page.locator("#head > *").evaluate_all(columns)
        assert heads == page.locator(".row").first.locator("> *").evaluate_all(columns)
        assert len(heads) == {1360: 9, 900: 6, 420: 3}[width]
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_the_page_loads_is_below_its_own_path(site: Site, browser: Browser) -> None:
    requests: list[str] = []
    context = browser.new_context()
    context.add_cookies([{"name": "_token", "value": site.server.token("root", "admin"), "url": site.server.url}])
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{site.server.url}/kpo-async/")
    row(page, "billing.invoices").click()
    expect(page.locator("#log")).to_contain_text("tick")
    context.close()
    assert len(requests) > 10
    assert [url for url in requests if not url.startswith(f"{site.server.url}/kpo-async/")] == []
