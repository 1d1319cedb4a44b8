"use strict";
// One player for all tiles: a click plays from where it was clicked, a second one stops. Space and Enter play from the start.
const player = document.getElementById("player"), told = document.getElementById("told"), bar = document.getElementById("bar");
let current = null;
function play(tile, share) {
  if (current) { current.setAttribute("aria-pressed", "false"); current.querySelector("progress").hidden = true; }
  if (current !== tile) { player.preload = "auto"; player.src = tile.dataset.src; }
  current = tile;
  tile.setAttribute("aria-pressed", "true");
  tile.querySelector("progress").hidden = false;
  told.textContent = tile.getAttribute("aria-label");
  bar.hidden = false;
  const start = () => { if (player.duration) player.currentTime = share * player.duration; player.play(); };
  if (player.readyState >= 1) start(); else player.addEventListener("loadedmetadata", start, { once: true });
}
document.addEventListener("click", (event) => {
  const tile = event.target.closest("button.tile");
  if (!tile) return;
  if (tile === current && !player.paused) { player.pause(); return; }
  const box = tile.getBoundingClientRect();
  play(tile, event.detail ? Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * 0.999 : 0);
});
player.addEventListener("timeupdate", () => {
  if (current && player.duration) current.querySelector("progress").value = player.currentTime / player.duration;
});
player.addEventListener("ended", () => { if (current) current.setAttribute("aria-pressed", "false"); });
player.addEventListener("error", () => { if (current) told.textContent = "this sound cannot be played: keep the folder audio/ beside this page"; });
const find = document.getElementById("find");
if (find) find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const prompt of document.querySelectorAll(".prompt")) {
    const text = prompt.querySelector("h3").textContent.toLowerCase();
    prompt.hidden = !words.every((word) => text.includes(word));
  }
});
