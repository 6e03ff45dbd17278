"use strict";
// Everything works without this file; it only makes some things quicker.
document.addEventListener("submit", (event) => {
  // A second press of a button must not send the form twice.
  for (const button of event.target.querySelectorAll("button")) setTimeout(() => (button.disabled = true));
});
window.addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});
const zones = document.getElementById("zones");
if (zones) {
  const own = document.createElement("option");
  own.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
  zones.append(own);
}
