"use strict";
// Everything works without this file; it only makes some things quicker.

// -- a second press of a button must not send the form twice
// They stay focusable meanwhile: a disabled button would lose the focus.
const isSending = (form) => form.querySelector("button[aria-disabled]") !== null;
const allow = (part) => part.querySelectorAll("[aria-disabled]").forEach((one) => one.removeAttribute("aria-disabled"));
document.addEventListener(
  "submit",
  (event) => {
    if (isSending(event.target)) {
      event.preventDefault();
      event.stopPropagation();
    }
    event.target.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", "true"));
  },
  true,
);
window.addEventListener("pageshow", () => allow(document));
document.addEventListener("htmx:afterRequest", (event) => allow(event.detail.elt));

// -- a form without an answer
for (const name of ["htmx:responseError", "htmx:sendError"])
  document.addEventListener(name, (event) => {
    if (event.detail.elt.matches("form"))
      event.detail.target.textContent = "No answer came. Reload the page: the latest deliveries show what happened.";
  });

// -- check all rows that are shown
const all = document.querySelector("[data-check-all]");
if (all) {
  const boxes = [...all.closest("form").querySelectorAll("td.box input")];
  const box = all.querySelector("input");
  const show = () => {
    const checked = boxes.filter((one) => one.checked).length;
    box.checked = checked === boxes.length;
    box.indeterminate = checked > 0 && !box.checked;
  };
  box.addEventListener("change", () => boxes.forEach((one) => (one.checked = box.checked)));
  boxes.forEach((one) => one.addEventListener("change", show));
  all.hidden = false;
  // After "Back" the browser restores what was checked.
  window.addEventListener("pageshow", show);
}

// -- a check box that belongs to a choice chooses it
for (const box of document.querySelectorAll("[data-chooses]"))
  box.addEventListener("change", () => {
    const choice = box.closest("fieldset").querySelector(`[type=radio][value=${box.dataset.chooses}]`);
    if (box.checked) choice.checked = true;
  });

// -- copy
function showCopyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});
document.addEventListener("htmx:afterSettle", showCopyButtons);
showCopyButtons();

// -- the browser's own time zone
const zones = document.getElementById("zones");
if (zones) {
  const own = document.createElement("option");
  own.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  zones.append(own);
}

// -- the navigation scrolls on a narrow screen: begin at the present page
document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// -- narrow the list: open where there is room
const facets = document.querySelector("details.facets");
if (facets && matchMedia("(min-width: 60rem)").matches) facets.open = true;

// -- live updates: parts that have an id change in place, new rows are only counted
const LIVE_MS = 5000;
const live = document.getElementById("live");
const areas = () => document.querySelectorAll("[data-live]");
if (live && areas().length) {
  const stored = () => localStorage.getItem("live") !== "off";
  const show = () => {
    live.hidden = false;
    live.setAttribute("aria-pressed", String(stored()));
    live.textContent = `Live updates: ${stored() ? "on" : "off"}`;
  };
  live.addEventListener("click", () => {
    localStorage.setItem("live", stored() ? "off" : "on");
    show();
  });
  show();
  // A reader's selection, focus or open menu must not be disturbed.
  const isBusy = () =>
    [...areas()].some((area) => area.contains(document.activeElement)) || String(getSelection()) !== "";
  const update = async () => {
    // A page that a form led to has the address of the form.
    const response = await fetch(areas()[0].dataset.live || location.href, { headers: { "X-Live": "1" } });
    if (!response.ok || response.redirected || isBusy()) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-live] [id]")) {
      const present = document.getElementById(part.id);
      if (present && part.id !== "new" && present.outerHTML !== part.outerHTML) swap(present, part);
    }
    const known = new Set([...document.querySelectorAll("[data-rows] tr[id]")].map((row) => row.id));
    const rows = [...fresh.querySelectorAll("[data-rows] tr[id]")];
    const first = rows.findIndex((row) => known.has(row.id));
    const count = known.size ? (first < 0 ? rows.length : first) : 0;
    const link = document.getElementById("new");
    if (link && count) {
      link.hidden = false;
      link.textContent = `${count}${first < 0 ? "+" : ""} new · show`;
    }
  };
  const swap = (present, part) => {
    const open = [...present.querySelectorAll("details")].map((one) => one.open);
    present.replaceWith(document.adoptNode(part));
    part.querySelectorAll("details").forEach((one, index) => {
      if (index < open.length) one.open = open[index];
    });
  };
  const again = () => setTimeout(tick, LIVE_MS);
  const tick = async () => {
    try {
      if (!document.hidden && stored() && !isBusy()) await update();
    } catch {
      // The next one may work.
    }
    again();
  };
  again();
}
