// A course of one question, in SCORM 2004.

// The LMS offers `API_1484_11` in this window or one above it (RTE 2004 §3.3).
function findApi(from) {
  for (let at = from, steps = 0; steps < 10; at = at.parent, steps += 1) {
    if (at.API_1484_11) return at.API_1484_11;
    if (at === at.parent) break;
  }
  return from.opener ? findApi(from.opener) : null;
}

const api = findApi(window);
const began = Date.now();
const state = document.querySelector("#state");

function answer(score) {
  api.SetValue("cmi.score.min", "0");
  api.SetValue("cmi.score.max", "100");
  api.SetValue("cmi.score.raw", String(score));
  api.SetValue("cmi.score.scaled", String(score / 100));
  api.SetValue("cmi.progress_measure", "1");
  api.SetValue("cmi.completion_status", "completed");
  api.SetValue("cmi.success_status", score >= 80 ? "passed" : "failed");
  save(score >= 80 ? "Right." : "Wrong. Try again.");
}

function save(words) {
  api.SetValue("cmi.session_time", `PT${Math.round((Date.now() - began) / 1000)}S`);
  state.textContent = api.Commit("") === "true" ? words : "Not saved.";
}

api.Initialize("");
if (["unknown", "not attempted", ""].includes(api.GetValue("cmi.completion_status"))) {
  api.SetValue("cmi.completion_status", "incomplete");
}
state.textContent = "Started.";

document.querySelector("#right").addEventListener("click", () => answer(100));
document.querySelector("#wrong").addEventListener("click", () => answer(20));
document.querySelector("#save").addEventListener("click", () => save("Saved."));
document.querySelector("#leave").addEventListener("click", () => {
  api.SetValue("cmi.session_time", `PT${Math.round((Date.now() - began) / 1000)}S`);
  api.Terminate("");
  state.textContent = "Finished.";
});
