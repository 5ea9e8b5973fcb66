// What decided: the spectrogram with what speaks for a class over it, and only that, or the rest, to be heard.
import { $, clock, make, player, problem, words } from "./page.js";

const FOR = "233, 78, 27", AGAINST = "38, 104, 190";
const percent = (share) => `${Math.round(100 * share)} %`;
const hertz = (value) => (value < 1000 ? `${Math.round(value)} Hz` : `${(value / 1000).toFixed(1)} kHz`);
let line = null;
let address = null;

// A track of the library has an id; a file that was dropped is sent along with each question.
async function get(source, ending, asked) {
  const query = new URLSearchParams(asked);
  if (source.id) return fetch(`v1/tracks/${source.id}/why${ending}?${query}`);
  const form = new FormData();
  form.append("file", source.file);
  return fetch(`v1/why${ending}?${query}`, { method: "POST", body: form });
}

export function whySection(record, source) {
  const choice = chooser(record);
  const body = make("div");
  const section = make("section", [make("h2", "What decided"), make("label", ["Why ", choice, "?"], { className: "why-label" }), body], { className: "why" });
  const show = () => explain(body, source, { task: choice.selectedOptions[0].dataset.task, label: choice.value });
  choice.addEventListener("change", show);
  show();
  return section;
}

function chooser(record) {
  const select = make("select");
  for (const task of ["mood", "genre"].filter((one) => record[one])) {
    const group = make("optgroup", [], { label: words(task) });
    const names = Object.entries(record[task].probabilities).sort((a, b) => b[1] - a[1]);
    group.append(...names.map(([name, share]) => {
      const option = make("option", `${words(name)} (${percent(share)})`, { value: name });
      option.dataset.task = task;
      return option;
    }));
    select.append(group);
  }
  return select;
}

async function explain(body, source, asked) {
  body.replaceChildren(make("p", "Looking for what decided …", { className: "quiet" }));
  body.asked = asked.label; // an answer that another choice has overtaken is not shown
  line = null;
  try {
    const [said, picture] = await Promise.all([
      get(source, "", asked).then(answered).then((answer) => answer.json()),
      get(source, ".png", { ...asked, opacity: 0 }).then(answered).then((answer) => answer.blob()).then(createImageBitmap),
    ]);
    if (body.asked === asked.label) body.replaceChildren(sentence(said), figure(said, picture), controls(said, source, asked, body), table(said));
  } catch (error) {
    if (body.asked === asked.label) body.replaceChildren(problem(error));
  }
}

async function answered(answer) {
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.detail || `${answer.status} ${answer.statusText}`);
}

function sentence(said) {
  const name = words(said.label);
  return make("p", [
    make("strong", `${name}: ${percent(said.probability)}. Without what is outlined: ${percent(said.without)}. By that alone: ${percent(said.only)}. `),
    make("span", `Outlined are the ${percent(said.area)} of the spectrogram that speak most for it.`, { className: "quiet" }),
  ]);
}

function figure(said, picture) {
  const base = make("canvas", "", { width: picture.width, height: picture.height, className: "base" });
  base.getContext("2d").drawImage(picture, 0, 0);
  const heat = make("canvas", "", { width: 1200, height: 512, className: "heat" });
  paint(heat, said);
  line = make("i", "", { className: "now" });
  line.seconds = said.seconds;
  const stack = make("div", [base, heat, line], { className: "spectrogram" });
  stack.setAttribute("role", "img");
  stack.setAttribute("aria-label", `Spectrogram with what speaks for and against ${words(said.label)}; the table below says the same.`);
  stack.addEventListener("click", (event) => {
    const box = stack.getBoundingClientRect();
    if ($("audio").src) $("audio").currentTime = ((event.clientX - box.left) / box.width) * said.seconds;
  });
  const top = make("span", hertz(said.hertz.at(-1))), end = make("span", clock(said.seconds));
  return make("figure", [
    make("div", [top, end], { className: "axis" }), stack, make("div", [make("span", "0 Hz · 0:00")], { className: "axis" }),
    make("figcaption", [make("b", "orange", { className: "for" }), " speaks for it, ", make("b", "blue", { className: "against" }), " against it; compared with silence in its place"]),
  ], { className: "wide" });
}

function paint(canvas, said) {
  const pen = canvas.getContext("2d");
  const size = (row, column) => Math.max(1e-9, (said.heights[row + 1] - said.heights[row]) * (said.times[column][1] - said.times[column][0]));
  const densities = said.shares.map((shares, row) => shares.map((share, column) => (size(row, column) > 1e-9 ? share / size(row, column) : 0)));
  const most = densities.flat().reduce((a, b) => Math.max(a, Math.abs(b)), 1e-9);
  const left = (column) => (said.times[column][0] / said.seconds) * canvas.width;
  const right = (column) => (said.times[column][1] / said.seconds) * canvas.width;
  const up = (row) => (1 - said.heights[row]) * canvas.height;
  const isDecided = (row, column) => Boolean(said.decided[row]?.[column]);
  pen.strokeStyle = `rgb(${FOR})`;
  pen.lineWidth = 3;
  pen.beginPath();
  densities.forEach((across, row) => across.forEach((density, column) => {
    const [x, end, low, high] = [left(column), right(column), up(row), up(row + 1)];
    pen.fillStyle = `rgba(${density > 0 ? FOR : AGAINST}, ${(Math.abs(density) / most) ** 0.6})`;
    pen.fillRect(x, high, end - x, low - high);
    if (!isDecided(row, column)) return;
    const edges = [[row + 1, column, x, high, end, high], [row - 1, column, x, low, end, low], [row, column - 1, x, low, x, high], [row, column + 1, end, low, end, high]];
    for (const [otherRow, otherColumn, ...edge] of edges) {
      if (!isDecided(otherRow, otherColumn)) { pen.moveTo(edge[0], edge[1]); pen.lineTo(edge[2], edge[3]); }
    }
  }));
  pen.stroke();
}

function controls(said, source, asked, body) {
  const slider = make("input", "", { type: "range", min: 0, max: 100, value: 70 });
  const overlay = () => { body.querySelector(".heat").style.opacity = slider.value / 100; };
  slider.addEventListener("input", overlay);
  requestAnimationFrame(overlay);
  const status = make("span", "", { className: "quiet" });
  status.setAttribute("role", "status");
  const buttons = [["decided", "▶ Only what decided"], ["rest", "▶ The rest"]].map(([part, text]) => {
    const button = make("button", text, { type: "button" });
    button.addEventListener("click", () => playPart(said, source, { ...asked, part }, status));
    return button;
  });
  return make("div", [make("label", ["Opacity ", slider], { className: "opacity" }), ...buttons, status], { className: "options" });
}

// Both parts start where most of what decided is, so that they can be compared.
function strongest(said) {
  const sums = said.times.map((_, column) => said.shares.reduce((sum, row, n) => sum + (said.decided[n][column] ? row[column] : 0), 0));
  return Math.max(0, said.times[sums.indexOf(Math.max(...sums))][0] - 0.5);
}

async function playPart(said, source, asked, status) {
  status.textContent = "Making it …";
  try {
    const wav = await get(source, ".wav", asked).then(answered).then((answer) => answer.blob());
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(wav);
    const audio = $("audio");
    player.list = [];
    $("player").hidden = false;
    $("playing").textContent = `${asked.part === "decided" ? "Only what decided" : "All but what decided"}: ${words(said.label)}`;
    audio.src = address;
    audio.addEventListener("loadedmetadata", () => { audio.currentTime = strongest(said); audio.play().catch(() => {}); }, { once: true });
    audio.load();
    status.textContent = "";
  } catch (error) {
    status.textContent = error.message;
  }
}

export function followWhy() {
  if (line) line.style.left = `${(100 * $("audio").currentTime) / line.seconds}%`;
}

function table(said) {
  const total = said.logit - said.silence;
  const cells = said.shares.flatMap((row, n) => row.map((share, column) => ({ share, n, column })));
  const rows = cells.sort((a, b) => b.share - a.share).slice(0, 8).filter((cell) => cell.share > 0).map(({ share, n, column }) => make("tr", [
    make("td", said.times[column].map((at) => at.toFixed(1)).join("–") + " s"),
    make("td", `${hertz(said.hertz[n])}–${hertz(said.hertz[n + 1])}`),
    make("td", `+${share.toFixed(3)}`),
  ]));
  const head = make("thead", make("tr", ["When", "Frequencies", "Adds to the logit"].map((text) => make("th", text, { scope: "col" }))));
  const sum = make("p", `All ${cells.length} parts together add ${total.toFixed(2)}: from ${said.silence.toFixed(2)} for silence to ${said.logit.toFixed(2)}.`, { className: "quiet" });
  return make("details", [make("summary", "The parts that speak most for it"), make("div", make("table", [head, make("tbody", rows)]), { className: "scroll" }), sum]);
}
