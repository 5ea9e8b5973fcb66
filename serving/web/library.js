// Library: all tracks, which models answer, and what changed with the last one.
import { $, ask, clock, make, named, openSong, problem, send, words } from "./page.js";

const SHOWN = 50;
let offset = 0;
let update = () => {};

export function startLibrary(showState) {
  update = showState;
  $("search").addEventListener("input", () => { offset = 0; showLibrary(); });
  $("before").addEventListener("click", () => { offset = Math.max(0, offset - SHOWN); showLibrary(); });
  $("after").addEventListener("click", () => { offset += SHOWN; showLibrary(); });
}

export async function showLibrary() {
  const wanted = $("search").value;
  const found = await ask(`v1/tracks?q=${encodeURIComponent(wanted)}&offset=${offset}&n=${SHOWN}`);
  if (wanted !== $("search").value) return;
  $("found").textContent = `${found.total} ${found.total === 1 ? "track" : "tracks"}`;
  $("rows").replaceChildren(...found.tracks.map((track) => {
    const title = make("button", named(track), { className: "plain", type: "button" });
    title.addEventListener("click", () => openSong(track.id));
    const said = (answer) => (answer ? (answer.label === null ? `not sure (${words(answer.best)}?)` : words(answer.best)) : "–");
    return make("tr", [make("td", title), make("td", said(track.genre)), make("td", said(track.mood)), make("td", clock(track.seconds))]);
  }));
  $("before").disabled = offset === 0;
  $("after").disabled = offset + SHOWN >= found.total;
  showChanges(await ask("v1/changes"));
}

function showChanges(changes) {
  if (!changes.length) return $("changes").replaceChildren();
  const lines = changes.slice(0, 20).map((one) => make("li", `${one.path.split("/").pop()}: ${words(one.before)} → ${words(one.now)}`));
  const more = changes.length > 20 ? [make("li", `and ${changes.length - 20} more`)] : [];
  $("changes").replaceChildren(make("h2", `What changed since ${changes[0].since}`), make("ul", [...lines, ...more]));
}

export function showModels(state) {
  const lines = state.models.map((one) => {
    const share = (value) => `${Math.round(100 * value)} %`;
    const scores = `right for ${share(one.metrics.accuracy)} of its test tracks (95 % interval ${share(one.metrics.accuracy_ci_low)} to ${share(one.metrics.accuracy_ci_high)})`;
    return make("li", `${one.name}: ${one.model}, trained on ${one.dataset}${one.synthetic ? " (synthetic)" : ""}, protocol ${one.protocol}; ${scores}`);
  });
  const parts = [make("h2", "Models that answer"), make("ul", lines)];
  if (state.models.some((one) => one.newer)) {
    const fetch = make("button", "Use it", { type: "button" });
    fetch.addEventListener("click", async () => {
      fetch.disabled = true;
      await send("v1/models/pull", {}).catch((error) => $("models").append(problem(error)));
      await update();
      showLibrary();
    });
    parts.push(make("p", ["Another version serves by now. ", fetch], { className: "notice" }));
  }
  $("models").replaceChildren(...parts);
}
