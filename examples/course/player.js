// Plays a course with scorm-again 3. `stored` is what the answer of POST /v1/sessions with "keepState" has, or what your
// platform stored. It is in the fragment, which no server's log has:
// player.html#{"standard":"1.2","commitUrl":"https://…","stored":{"cmi":{…}},"settings":{…}}

const { standard, commitUrl, stored, settings: own } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
const isScorm12 = standard === "1.2";

const settings = {
  lmsCommitUrl: commitUrl,
  autocommit: true,
  autocommitSeconds: 10,
  includeCommitSequence: true,
  enableOfflineSupport: true,
  courseId: "fire-safety",
  syncOnTerminate: true,
  ...own,
};
const api = isScorm12 ? new Scorm12API(settings) : new Scorm2004API(settings);
if (stored) api.loadFromJSON(stored);
window[isScorm12 ? "API" : "API_1484_11"] = api;

document.querySelector("iframe").src = isScorm12 ? "scorm12/index.html" : "scorm2004/index.html";
