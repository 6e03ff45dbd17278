// A course of one question, in SCORM 1.2.

// The LMS offers `API` in this window or one above it (RTE 1.2 §3.3).
function findApi(from) {
  for (let at = from, steps = 0; steps < 10; at = at.parent, steps += 1) {
    if (at.API) return at.API;
    if (at === at.parent) break;
  }
  return from.opener ? findApi(from.opener) : null;
}

const api = findApi(window);
const began = Date.now();
const state = document.querySelector("#state");

function time() {
  const seconds = Math.round((Date.now() - began) / 1000);
  return [seconds / 3600, (seconds / 60) % 60, seconds % 60]
    .map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
}

function answer(score) {
  api.LMSSetValue("cmi.core.score.min", "0");
  api.LMSSetValue("cmi.core.score.max", "100");
  api.LMSSetValue("cmi.core.score.raw", String(score));
  api.LMSSetValue("cmi.core.lesson_status", score >= 80 ? "passed" : "failed");
  save(score >= 80 ? "Right." : "Wrong. Try again.");
}

function save(words) {
  api.LMSSetValue("cmi.core.session_time", time());
  state.textContent = api.LMSCommit("") === "true" ? words : "Not saved.";
}

api.LMSInitialize("");
if (["not attempted", ""].includes(api.LMSGetValue("cmi.core.lesson_status"))) {
  api.LMSSetValue("cmi.core.lesson_status", "incomplete");
}
state.textContent = "Started.";

document.querySelector("#right").addEventListener("click", () => answer(100));
document.querySelector("#wrong").addEventListener("click", () => answer(20));
document.querySelector("#save").addEventListener("click", () => save("Saved."));
document.querySelector("#leave").addEventListener("click", () => {
  api.LMSSetValue("cmi.core.session_time", time());
  api.LMSFinish("");
  state.textContent = "Finished.";
});
