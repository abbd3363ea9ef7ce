"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);

// The legend hides methods everywhere; over a chip, the curves of its method stand out.
const curves = document.querySelector(".curves");
for (const chip of all(".legend button")) {
  const row = chip.dataset.row;
  const own = () => all('main > section [data-row="' + row + '"]');
  chip.addEventListener("click", () => {
    const shown = chip.getAttribute("aria-pressed") !== "true";
    chip.setAttribute("aria-pressed", shown);
    own().forEach((element) => element.classList.toggle("off", !shown));
  });
  const stand = (out) => () => {
    curves.classList.toggle("one", out);
    own().forEach((element) => element.classList.toggle("chosen", out));
  };
  chip.addEventListener("pointerenter", stand(true));
  chip.addEventListener("pointerleave", stand(false));
}

// A strip plays its film, from the moment that was clicked.
for (const strip of all(".strip")) {
  const link = strip.querySelector("a");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const box = link.getBoundingClientRect();
    const share = event.clientX ? (event.clientX - box.left) / box.width : 0;
    let video = strip.querySelector("video");
    const go = () => {
      video.currentTime = share * video.duration;
      video.play();
    };
    if (video) {
      go();
      return;
    }
    video = make("video", { src: link.getAttribute("href"), controls: true, playsInline: true, muted: true });
    video.addEventListener("loadedmetadata", go, { once: true });
    strip.append(video);
  });
}

// All films of a prompt at once, on one clock.
for (const group of all(".group")) {
  const button = group.querySelector(".together");
  button.addEventListener("click", () => {
    const open = group.querySelector(".theatre");
    button.textContent = open ? "Play side by side" : "Close";
    if (open) open.remove();
    else group.querySelector("header").after(theatre(all(".strip:not(.off)", group)));
  });
}

function theatre(strips) {
  const stage = make("div", { className: "theatre" });
  const wall = make("div", { className: "wall" });
  const videos = strips.map((strip) => {
    const figure = make("figure");
    figure.setAttribute("style", strip.getAttribute("style"));
    const video = make("video", { src: strip.querySelector("a").getAttribute("href"), muted: true, playsInline: true });
    const caption = make("figcaption");
    caption.append(make("i"), strip.querySelector("figcaption").childNodes[1].textContent);
    figure.append(video, caption);
    wall.append(figure);
    return video;
  });
  const transport = make("div", { className: "transport" });
  const toggle = make("button", { type: "button", textContent: "Pause" });
  const time = make("input", { type: "range", min: 0, max: 1, step: "any", value: 0, ariaLabel: "Time" });
  transport.append(toggle, time);
  stage.append(transport, wall);
  const lead = videos[0];
  const play = () => videos.forEach((video) => video.play());
  const pause = () => videos.forEach((video) => video.pause());
  toggle.addEventListener("click", () => (lead.paused ? play() : pause()));
  lead.addEventListener("play", () => (toggle.textContent = "Pause"));
  lead.addEventListener("pause", () => (toggle.textContent = "Play"));
  lead.addEventListener("timeupdate", () => (time.value = lead.currentTime / lead.duration));
  time.addEventListener("input", () => videos.forEach((video) => (video.currentTime = time.value * video.duration)));
  Promise.all(
    videos.map((video) => new Promise((ready) => video.addEventListener("canplay", ready, { once: true }))),
  ).then(play);
  return stage;
}
