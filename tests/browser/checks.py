"""What holds for every page."""

from typing import Any

from playwright.sync_api import Page

from browser.chromium import NARROW, SCHEMES, WIDE, viewport

# 24 by 24 pixels (WCAG 2.2, 2.5.8): axe-core does not ask for it by default.
ALL_RULES = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"], "preload": False}
# Only these depend on the size of the screen and its colours.
RULES_OF_STYLE = {
    **ALL_RULES,
    "runOnly": ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"],
}

# A line of the header: its links have a padding.
LINE_PIXELS = 44

_IS_TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > width + 1)
    .map((one) => one.outerHTML.slice(0, 200));
}"""

_CUT_TABLES = """() => [...document.querySelectorAll(".table")]
  .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)
  .map((one) => `${one.getAttribute("aria-label")}: ${one.scrollWidth} of ${one.clientWidth}`)"""

# What a person can reach by Tab: of a group of radio buttons one is enough.
_FOCUSABLE = """() => {
  const seen = new Set();
  return [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
    .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0)
    .filter((one) => one.type !== "radio" || (!seen.has(one.name) && seen.add(one.name)))
    .length;
}"""

# What is wrong with the element that has the focus; null if there is none, or if it had the focus before.
_FOCUSED = """() => {
  const one = document.activeElement;
  window.reached ??= new Set();
  if (!one || one === document.body || window.reached.has(one)) return null;
  window.reached.add(one);
  const style = getComputedStyle(one), box = one.getBoundingClientRect();
  const isSeen = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const problems = [];
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) problems.push("has no visible focus");
  if (!isSeen) problems.push("is off-screen");
  return problems.map((problem) => `${one.outerHTML.slice(0, 120)} ${problem}`);
}"""

_RUN_AXE = """async (options) => (await axe.run(document, options)).violations.flatMap((rule) =>
  rule.nodes.map((node) => `${rule.id}: ${node.html}: ${node.failureSummary}`))"""

_TEXT = """() => {
  const main = document.querySelector("main").cloneNode(true);
  for (const time of main.querySelectorAll("time")) time.remove();
  return main.textContent.replace(/\\s+/g, " ").replace(/req_\\w+/g, "");
}"""


def axe_violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds, in light and dark, wide and narrow. The CSP does not hold for what a test evaluates."""
    page.evaluate(axe)
    found: list[str] = []
    options: dict[str, Any] = ALL_RULES
    for size in (WIDE, NARROW):
        page.set_viewport_size(viewport(size))
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found += [f"{size[0]} {scheme} {one}" for one in page.evaluate(_RUN_AXE, options)]
            options = RULES_OF_STYLE
    return found


def cut_tables(page: Page) -> list[str]:
    """The tables that have to be scrolled to the side, with their widths."""
    found: list[str] = page.evaluate(_CUT_TABLES)
    return found


def too_wide(page: Page) -> list[str]:
    """The elements that make the document scroll to the side."""
    found: list[str] = page.evaluate(_IS_TOO_WIDE)
    return found


def header_lines(page: Page) -> float:
    """How many lines of text with their padding the header takes; 0 without one."""
    heights: list[int] = page.locator("header.top").evaluate_all("(all) => all.map((one) => one.offsetHeight)")
    return sum(heights) / LINE_PIXELS


def text_of_main(page: Page) -> str:
    """The text of a page without what changes by itself: relative times, and the id of the request."""
    return str(page.evaluate(_TEXT))


def focus_problems(page: Page) -> list[str]:
    """Press Tab through the whole page; what cannot be reached, or not be seen when it has the focus."""
    expected, problems, reached = int(page.evaluate(_FOCUSABLE)), [], 0
    # A page may begin in its field: then Tab comes to what is above it at last.
    presses = expected + 3
    for _ in range(presses):
        found = page.evaluate(_FOCUSED)
        if found is not None:
            reached += 1
            problems += found
        page.keyboard.press("Tab")
    return problems if reached >= expected else [*problems, f"Tab reaches {reached} of {expected}"]
