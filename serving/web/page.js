// The page: tabs, the player, and what all tabs share. Everything comes from this server.
import { startLabel, nextToLabel, openWrong } from "./label.js";
import { startLibrary, showLibrary, showModels } from "./library.js";
import { startMix, mixFromAddress, drawMap } from "./mix.js";
import { startSong, showTrack, followPlayer } from "./song.js";

export const $ = (id) => document.getElementById(id);

export function make(tag, content = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}

export async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `${answer.status} ${answer.statusText}`);
  }
  return answer.json();
}

export const send = (address, body) =>
  ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const problem = (error) => make("p", error.message, { className: "error" });
export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
export const words = (mood) => mood.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().replace(/^./, (letter) => letter.toUpperCase());
export const named = (track) => (track.title && track.artist ? `${track.title} — ${track.artist}` : track.path.split("/").pop());

export function bar(share, label) {
  const inner = make("i");
  inner.style.width = `${Math.round(100 * Math.max(0, Math.min(1, share)))}%`;
  const outer = make("span", inner, { className: "bar" });
  outer.setAttribute("role", "img");
  outer.setAttribute("aria-label", label);
  return outer;
}

// Moods keep one colour each everywhere; chosen to differ in lightness too.
const COLOURS = ["#33658a", "#f26419", "#f6ae2d", "#7a1f3d", "#86bbd8", "#5b3fa0", "#9a8c7c", "#4c956c", "#d98594", "#777777"];
export const colour = (index) => COLOURS[index % COLOURS.length];

export const player = { list: [], at: -1 };

export function play(list, at, start) {
  if (!list[at]) return;
  player.list = list;
  player.at = at;
  const audio = $("audio");
  const begin = start ?? list[at].start ?? 0;
  $("player").hidden = false;
  $("playing").textContent = named(list[at]);
  audio.src = `v1/tracks/${list[at].id}/audio#t=${begin}`;
  audio.play().catch(() => {});
  document.querySelectorAll("li[data-id]").forEach((row) => row.classList.toggle("playing", row.dataset.id === list[at].id));
}

export function showTab(name) {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const isShown = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", isShown);
    tab.tabIndex = isShown ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !isShown;
  }
  if (name === "library") showLibrary();
  if (name === "label") nextToLabel();
  if (name === "mix") drawMap();
}

export const openSong = (id) => { showTab("song"); showTrack(id); };
export { openWrong };

function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => showTab(tab.id.slice(4)));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const other = tabs[(n + step + tabs.length) % tabs.length];
      other.focus();
      other.click();
    });
  });
}

function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea, button, audio, dialog") && event.key !== "Escape") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const audio = $("audio");
    if (event.key === " " && audio.src) { event.preventDefault(); audio.paused ? audio.play() : audio.pause(); }
    if (event.key === "j") play(player.list, player.at + 1);
    if (event.key === "k") play(player.list, player.at - 1);
    if (event.key === "/") { event.preventDefault(); showTab("mix"); $("words").focus(); }
  });
}

async function showState() {
  const state = await ask("v1/models");
  const said = [`${state.tracks.toLocaleString("en")} tracks`, ...state.models.map((one) => one.name)];
  if (state.models.some((one) => one.synthetic)) said.push("learned from synthetic data");
  if (state.remaining) said.push(`${state.remaining} still to be answered`);
  $("state").textContent = said.join(" · ");
  showModels(state);
  if (state.remaining || !state.tracks) setTimeout(showState, 2000);
  return state;
}

async function start() {
  startTabs();
  startKeys();
  $("next").addEventListener("click", () => play(player.list, player.at + 1));
  $("previous").addEventListener("click", () => play(player.list, player.at - 1));
  $("audio").addEventListener("ended", () => play(player.list, player.at + 1));
  $("audio").addEventListener("timeupdate", followPlayer);
  $("audio").addEventListener("error", () => { $("playing").textContent = "This track cannot be played: its file is gone, or the browser does not know its format."; });
  const known = await ask("v1/moods");
  startMix(known);
  startSong();
  startLibrary(showState);
  startLabel(known);
  await showState();
  mixFromAddress();
}

start().catch((error) => { $("state").textContent = error.message; });
