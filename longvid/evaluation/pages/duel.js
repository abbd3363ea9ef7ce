"use strict";

const get = (id) => document.getElementById(id);
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const read = (id) => JSON.parse(get(id).textContent);

const data = read("data");
const SAID = {
  long_shot: ["Long shot", "Which is more one unbroken shot?"],
  motion: ["Motion", "Which moves more naturally?"],
  consistency: ["Consistency", "Which keeps its look and its things better?"],
  overall: ["Overall", "Which would you rather watch?"],
};
const questions = read("questions");
const key = "longvid-duel-" + data.suite;
let votes = JSON.parse(localStorage.getItem(key) || "[]");
let pair = null;

const random = (below) => Math.floor((crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32) * below);
const identity = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

// Every pair of films of one prompt and seed; those judged least come first, in random order.
const pairs = data.groups.flatMap(({ prompt, films }) =>
  films.flatMap((one, i) => films.slice(i + 1).map((other) => ({ prompt, films: [one, other] }))),
);
const nameOf = (names) => [...names].sort().join(" ");

function next() {
  const judged = new Map();
  for (const vote of votes) {
    const name = nameOf([vote.left, vote.right]);
    judged.set(name, (judged.get(name) || 0) + 1);
  }
  const times = ({ films }) => judged.get(nameOf(films.map((film) => film.name))) || 0;
  const least = Math.min(...pairs.map(times));
  const open = pairs.filter((each) => times(each) === least);
  const chosen = open[random(open.length)];
  const [left, right] = random(2) ? chosen.films : [...chosen.films].reverse();
  pair = { left, right };
  get("prompt").textContent = chosen.prompt;
  for (const side of ["left", "right"]) get(side).src = pair[side].file;
  get("form").reset();
  get("next").disabled = true;
  tell();
  Promise.all(
    ["left", "right"].map((side) => new Promise((ready) => get(side).addEventListener("canplay", ready, { once: true }))),
  ).then(replay);
}

function replay() {
  for (const side of ["left", "right"]) {
    get(side).currentTime = 0;
    get(side).play().catch(() => {}); // where a browser wants a click first, its own controls are there
  }
}

function tell() {
  const duels = votes.length / questions.length;
  get("count").textContent = duels + (duels === 1 ? " duel judged" : " duels judged");
  get("save").disabled = !votes.length;
}

for (const question of questions) {
  const field = make("fieldset");
  const legend = make("legend", { textContent: SAID[question][0] });
  legend.append(make("small", { textContent: SAID[question][1] }));
  const choices = make("div", { className: "choices" });
  for (const choice of ["left", "same", "right"]) {
    const label = make("label");
    label.append(make("input", { type: "radio", name: question, value: choice, required: true }), choice);
    choices.append(label);
  }
  field.append(legend, choices);
  get("form").append(field);
}

get("form").addEventListener("change", () => (get("next").disabled = !get("form").checkValidity()));
get("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = new FormData(get("form"));
  for (const question of questions) {
    votes.push({
      id: identity(),
      left: pair.left.name,
      right: pair.right.name,
      question,
      choice: said.get(question),
    });
  }
  localStorage.setItem(key, JSON.stringify(votes));
  next();
  scrollTo({ top: 0 });
});
get("replay").addEventListener("click", replay);
get("save").addEventListener("click", () => {
  const file = new Blob([JSON.stringify({ suite: data.suite, votes }, null, 2)], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(file), download: "votes.json" });
  link.click();
  URL.revokeObjectURL(link.href);
});

if (pairs.length) next();
