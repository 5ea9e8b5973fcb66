// Mix: words or poles with strengths, the list, and the library as a map.
import { $, ask, bar, clock, make, named, openSong, openWrong, play, problem } from "./page.js";

let mix = { tracks: [] };
let seeds = { like: [], unlike: [] };
let points = null;
let asked = "";

export function startMix(known) {
  for (const pole of known.poles) {
    const chip = make("button", pole, { type: "button" });
    chip.setAttribute("aria-pressed", "false");
    chip.addEventListener("click", () => { toggle(pole, chip); search(); });
    $("chips").append(chip);
  }
  for (const genre of known.genres) $("genre").append(make("option", genre, { value: genre }));
  $("mix-form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  for (const id of ["genre", "number", "per-artist"]) $(id).addEventListener("change", search);
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href).catch(() => {});
    $("copy").textContent = "Copied";
  });
  $("map-canvas").addEventListener("click", playNearest);
  window.addEventListener("hashchange", mixFromAddress);
}

function toggle(pole, chip) {
  const row = document.querySelector(`[data-pole="${pole}"]`);
  chip.setAttribute("aria-pressed", String(!row));
  if (row) return row.remove();
  const range = make("input", "", { type: "range", min: -1, max: 1, step: 0.1, value: 1 });
  const said = make("output", "wanted");
  range.addEventListener("input", () => {
    const value = Number(range.value);
    said.textContent = value ? `${value > 0 ? "wanted" : "not"} ${Math.abs(value).toFixed(1)}` : "either";
  });
  range.addEventListener("change", search);
  const label = make("label", [make("b", pole), range, said]);
  label.dataset.pole = pole;
  $("strengths").append(label);
}

function query() {
  const weights = [...document.querySelectorAll("[data-pole]")]
    .map((row) => [row.dataset.pole, Number(row.querySelector("input").value)])
    .filter(([, weight]) => weight)
    .map(([pole, weight]) => `${pole}:${weight}`);
  const found = new URLSearchParams();
  const q = [$("words").value.trim(), weights.join(" ")].filter(Boolean).join(", ");
  if (q) found.set("q", q);
  if ($("genre").value) found.append("genre", $("genre").value);
  for (const kind of ["like", "unlike"]) seeds[kind].forEach((track) => found.append(kind, track.id));
  found.set("n", $("number").value || "20");
  if ($("per-artist").value) found.set("max_per_artist", $("per-artist").value);
  return found;
}

async function search() {
  const wanted = query();
  if (!["q", "genre", "like"].some((key) => wanted.has(key))) return;
  asked = wanted.toString();
  const mine = asked;
  history.replaceState(null, "", `#mix?${asked}`);
  $("copy").textContent = "Copy link";
  showSeeds();
  try {
    const found = await ask(`v1/recommend?${asked}`);
    if (mine !== asked) return; // another search has begun meanwhile
    mix = found;
    show();
  } catch (error) {
    if (mine !== asked) return;
    mix = { tracks: [] };
    $("understood").replaceChildren(problem(error));
    $("tracks").replaceChildren();
    $("save").hidden = $("map").hidden = true;
  }
}

export function mixFromAddress() {
  if (!location.hash.startsWith("#mix?") || location.hash === `#mix?${asked}`) return;
  const given = new URLSearchParams(location.hash.slice(5));
  $("words").value = given.get("q") || "";
  $("genre").value = given.get("genre") || "";
  $("number").value = given.get("n") || 20;
  $("per-artist").value = given.get("max_per_artist") || "";
  seeds = { like: given.getAll("like").map((id) => ({ id })), unlike: given.getAll("unlike").map((id) => ({ id })) };
  search();
}

function show() {
  const notes = mix.notes.map((note, n) => make("p", note, { className: n === 0 && Object.keys(mix.poles).length ? "fit" : "" }));
  $("understood").replaceChildren(make("p", `Understood: ${mix.understood.join("; ")}.`), ...notes);
  $("tracks").replaceChildren(...mix.tracks.map(row));
  $("save").hidden = !mix.tracks.length;
  for (const kind of ["m3u8", "xspf"]) $(`save-${kind}`).href = `v1/recommend?${asked}&format=${kind}`;
  drawMap();
}

function row(track, n) {
  const button = make("button", "▶", { className: "play", type: "button" });
  button.setAttribute("aria-label", `Play ${named(track)} from ${clock(track.start)}`);
  button.addEventListener("click", () => play(mix.tracks, n));
  const title = make("button", named(track), { className: "plain", type: "button" });
  title.addEventListener("click", () => openSong(track.id));
  const reasons = Object.entries(track.because).map(([pole, share]) => {
    const label = `${mix.poles[pole] < 0 ? "not " : ""}${pole}`;
    return make("span", [label, bar(share, `${label}: more than ${Math.round(100 * share)} % of your library`)]);
  });
  const acts = [
    ["more like this", () => { seeds.like.push(track); search(); }],
    ["not this", () => { seeds.unlike.push(track); search(); }],
    ["wrong mood…", () => openWrong(track, mix.understood.join("; "))],
  ].map(([name, act]) => {
    const one = make("button", name, { className: "plain", type: "button" });
    one.addEventListener("click", act);
    return one;
  });
  const more = make("div", [...reasons, make("span", `best at ${clock(track.start)}–${clock(track.end)}`), ...acts], { className: "more" });
  const item = make("li", [button, title, make("span", track.score.toFixed(2), { className: "score" }), more]);
  item.dataset.id = track.id;
  return item;
}

function showSeeds() {
  const said = [];
  for (const [kind, name] of [["like", "Like"], ["unlike", "Not like"]]) {
    if (seeds[kind].length) said.push(`${name}: ${seeds[kind].map((one) => (one.path ? named(one) : "a track")).join(", ")}. `);
  }
  $("seeds").replaceChildren(...said);
  if (!said.length) return;
  const clear = make("button", "clear", { className: "plain", type: "button" });
  clear.addEventListener("click", () => { seeds = { like: [], unlike: [] }; showSeeds(); search(); });
  $("seeds").append(clear);
}

const place = (x, y, size) => [((x + 1.1) / 2.2) * size, ((1.1 - y) / 2.2) * size];

export async function drawMap() {
  if (!mix.tracks.length) return;
  points = points && points.points.length >= mix.tracks.length ? points : await ask("v1/map");
  $("map").hidden = !points.points.length;
  $("map-axes").textContent = `${points.x} from left to right, ${points.y} from below`;
  const canvas = $("map-canvas");
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.body);
  const chosen = new Set(mix.tracks.map((track) => track.id));
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = style.getPropertyValue("--line");
  for (const [a, b] of [[[-1.1, 0], [1.1, 0]], [[0, -1.1], [0, 1.1]]]) {
    pen.beginPath();
    pen.moveTo(...place(...a, canvas.width));
    pen.lineTo(...place(...b, canvas.width));
    pen.stroke();
  }
  pen.font = "20px system-ui, sans-serif";
  pen.fillStyle = style.getPropertyValue("--quiet");
  for (const [text, x, y, side] of [["calm", 10, 312, "left"], ["energetic", 630, 312, "right"], ["positive", 328, 26, "left"], ["negative", 328, 630, "left"]]) {
    pen.textAlign = side;
    pen.fillText(text, x, y);
  }
  for (const isChosen of [false, true]) {
    pen.fillStyle = style.getPropertyValue(isChosen ? "--main" : "--quiet");
    pen.globalAlpha = isChosen ? 1 : 0.35;
    for (const [id, x, y] of points.points) {
      if (chosen.has(id) !== isChosen) continue;
      pen.beginPath();
      pen.arc(...place(x, y, canvas.width), isChosen ? 8 : 5, 0, 7);
      pen.fill();
    }
  }
  pen.globalAlpha = 1;
}

async function playNearest(event) {
  const box = event.target.getBoundingClientRect();
  const at = [event.clientX - box.left, event.clientY - box.top];
  const distance = ([, x, y]) => Math.hypot(...place(x, y, box.width).map((value, n) => value - at[n]));
  const nearest = points.points.reduce((best, one) => (distance(one) < distance(best) ? one : best));
  play([await ask(`v1/tracks/${nearest[0]}`)], 0);
}
