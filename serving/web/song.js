// Song: what a file sounds like, and when.
import { $, ask, bar, clock, colour, make, named, play, player, problem, words } from "./page.js";
import { followWhy, whySection } from "./why.js";

const SPACE = "http://www.w3.org/2000/svg";
let shown = null;

export function startSong() {
  const drop = $("drop");
  $("file").addEventListener("change", () => $("file").files[0] && hear($("file").files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) hear(event.dataTransfer.files[0]);
    });
  }
}

async function hear(file) {
  $("answer").replaceChildren(make("p", `Listening to ${file.name} …`));
  const form = new FormData();
  form.append("file", file);
  try {
    const [record] = await ask("v1/classify?per_slice=true", { method: "POST", body: form });
    show(record, record.timeline, record.waveform, () => playFile(file, record), { file });
  } catch (error) {
    $("answer").replaceChildren(problem(error));
  }
}

function playFile(file, record) {
  player.list = [];
  $("player").hidden = false;
  $("playing").textContent = named(record);
  $("audio").src = URL.createObjectURL(file);
}

export async function showTrack(id) {
  try {
    const [record, timeline, waveform] = await Promise.all(["", "/timeline", "/waveform"].map((part) => ask(`v1/tracks/${id}${part}`)));
    show(record, timeline, waveform, () => play([record], 0), { id });
  } catch (error) {
    $("answer").replaceChildren(problem(error));
  }
}

function show(record, timeline, waveform, start, source) {
  shown = { seconds: timeline.seconds, start, line: null };
  const synthetic = Object.values(record.trained_on).some((one) => one.includes("synthetic"));
  const notice = synthetic ? [make("p", "These models learned from synthetic data: do not trust them on real music.", { className: "notice" })] : [];
  const cards = ["genre", "mood"].filter((task) => record[task]).map((task) => card(task, record[task], record.model[task]));
  const task = timeline.tasks.mood ? "mood" : "genre";
  const heading = make("h2", named(record));
  $("answer").replaceChildren(heading, ...notice, make("div", cards, { className: "answers" }), make("h2", "Over time"), picture(timeline.tasks[task], waveform), legend(timeline.tasks[task]), table(timeline.tasks[task]), whySection(record, source));
}

function card(task, answer, model) {
  const entries = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 5);
  const said = answer.label === null ? `Not sure: ${entries.slice(0, 2).map(([name]) => words(name)).join(" or ")}` : words(answer.best);
  const rows = entries.flatMap(([name, share]) => [make("dt", words(name)), make("dd", bar(share, `${Math.round(100 * share)} %`)), make("dd", `${Math.round(100 * share)} %`, { className: "number" })]);
  return make("div", [make("div", `${task} · ${model}`, { className: "quiet" }), make("div", said, { className: "answer-big" }), make("dl", rows)], { className: "card" });
}

function draw(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function picture(task, waveform) {
  const svg = draw("svg", { viewBox: "0 0 1000 200", preserveAspectRatio: "none", class: "timeline", role: "img", "aria-label": "Probabilities of the moods in each part of the track; the table below says the same." });
  const width = 1000 / waveform.length;
  waveform.forEach((peak, n) => svg.append(draw("rect", { class: "wave", x: n * width, y: 40 - 36 * peak, width: width * 0.8, height: Math.max(1, 72 * peak) })));
  for (const part of task.windows) {
    const [x, end] = [part.start, part.end].map((at) => (1000 * at) / shown.seconds);
    let y = 90;
    part.probabilities.forEach((share, n) => {
      svg.append(draw("rect", { x, y, width: end - x, height: 110 * share, fill: colour(n) }));
      y += 110 * share;
    });
  }
  shown.line = draw("line", { class: "now", x1: 0, x2: 0, y1: 0, y2: 200 });
  svg.append(shown.line);
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * shown.seconds;
    shown.start();
    const audio = $("audio");
    const seek = () => { audio.currentTime = at; audio.play().catch(() => {}); };
    audio.readyState ? seek() : audio.addEventListener("loadedmetadata", seek, { once: true });
  });
  return svg;
}

export function followPlayer() {
  followWhy();
  if (!shown || !shown.line) return;
  const x = (1000 * $("audio").currentTime) / shown.seconds;
  for (const name of ["x1", "x2"]) shown.line.setAttribute(name, x);
}

function legend(task) {
  return make("ul", task.classes.map((name, n) => {
    const box = make("span");
    box.style.background = colour(n);
    return make("li", [box, words(name)]);
  }), { className: "legend" });
}

function table(task) {
  const rows = task.windows.map((part) => {
    const best = part.probabilities.indexOf(Math.max(...part.probabilities));
    return make("tr", [make("td", `${clock(part.start)}–${clock(part.end)}`), make("td", words(task.classes[best])), make("td", `${Math.round(100 * part.probabilities[best])} %`)]);
  });
  const head = make("thead", make("tr", ["Part", "Most probable", "Probability"].map((text) => make("th", text, { scope: "col" }))));
  return make("div", make("table", [head, make("tbody", rows)]), { className: "scroll" });
}
