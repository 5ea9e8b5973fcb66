// Label and "wrong mood": one annotation into the label inbox.
import { $, ask, make, named, play, problem, send, words } from "./page.js";

let moods = {};
let current = null;

export function startLabel(known) {
  moods = known.moods;
  fill($("label-form"), () => current, () => "label", $("label-said"), nextToLabel);
  fill($("wrong-form"), () => current, () => $("wrong").dataset.query, $("wrong-said"), null);
}

export async function nextToLabel() {
  const { total } = await ask("v1/tracks?n=1");
  if (!total) return;
  const { tracks } = await ask(`v1/tracks?n=1&offset=${Math.floor(Math.random() * total)}`);
  [current] = tracks;
  $("label-track").textContent = named(current);
  play([current], 0, 0);
}

export function openWrong(track, query) {
  current = track;
  $("wrong").dataset.query = query;
  $("wrong-track").textContent = named(track);
  $("wrong-said").replaceChildren();
  $("wrong").showModal();
}

function choices(select, names) {
  select.replaceChildren(make("option", "choose", { value: "" }), ...names.map((name) => make("option", name, { value: name })));
}

function fill(form, track, query, said, skip) {
  const first = make("select", "", { required: true });
  const second = make("select", "", { required: true });
  const name = make("input", "", { required: true, maxLength: 100, autocomplete: "username", value: localStorage.getItem("annotator") || "" });
  const pairs = Object.values(moods);
  choices(first, [...new Set(pairs.map(([pole]) => pole))]);
  choices(second, []);
  first.addEventListener("change", () => choices(second, pairs.filter(([pole]) => pole === first.value).map(([, other]) => other)));
  const save = make("button", "Save", { className: "main", type: "submit" });
  const other = make("button", skip ? "Another track" : "Close", { type: "button" });
  other.addEventListener("click", () => (skip ? (said.replaceChildren(), skip()) : $("wrong").close()));
  form.className = "mood-form";
  form.append(make("label", ["It is", first]), make("label", ["but", second]), make("label", ["Your name", name]), make("div", [save, other], { className: "row" }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    localStorage.setItem("annotator", name.value);
    try {
      const done = await send("v1/labels", { id: track().id, annotator: name.value, poles: [first.value, second.value], asked_for: query().slice(0, 400) });
      const others = Object.entries(done.others).map(([mood, count]) => `${words(mood)} ${count}`).join(", ");
      const kept = done.file ? "Saved in the label inbox as" : "You have said so before:";
      said.replaceChildren(make("p", `${kept} ${words(done.mood)}. All answers for this track: ${others}.`));
    } catch (error) {
      said.replaceChildren(problem(error));
    }
  });
}
