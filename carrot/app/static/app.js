// What every page of the explorer has: asking the server, reading the model again, giving a picture of one's own.
"use strict";

const EXPLORE = (() => {
  const meta = (name) => document.querySelector(`meta[name="carrot-${name}"]`).content;
  const told = document.getElementById("told");

  let fading = 0;

  // Say it; what asks for nothing goes by itself.
  function say(text, button) {
    clearTimeout(fading);
    told.textContent = text;
    if (button) told.append(button); else fading = setTimeout(() => { told.textContent = ""; }, 7000);
  }

  // Ask the server; null: it refused, and why is said, unless what was said before is to stay.
  async function ask(path, body, quiet = false) {
    try {
      const options = body === undefined ? {} : {
        method: "POST",
        headers: { "X-Carrot-Token": meta("token"), ...(body instanceof Blob ? {} : { "Content-Type": "application/json" }) },
        body: body instanceof Blob ? body : JSON.stringify({ state: meta("state"), ...body }),
      };
      const answer = await fetch(path, options), found = await answer.json();
      if (answer.ok) return found;
      if (quiet) return null;
      if (found.changed) say(found.error, reader()); else say(found.error);
    } catch {
      if (!quiet) say("The server doesn't answer: is carrot explore still running?");
    }
    return null;
  }

  function reader() {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Read the model again";
    button.addEventListener("click", again);
    return button;
  }

  async function again() {
    if (await ask("/reload", {})) location.reload();
  }

  return { ask, say, again };
})();

for (const button of document.querySelectorAll("[data-reload]")) button.addEventListener("click", EXPLORE.again);

// The gallery's form acts at once.
for (const form of document.querySelectorAll("form[data-auto]")) {
  form.querySelector("button").hidden = true;
  const output = form.querySelector("output"), range = form.querySelector("[type=range]");
  range?.addEventListener("input", () => { output.textContent = range.name === "p" ? `${Math.round(100 * range.value)} %` : range.value; });
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (!field.value) field.disabled = true;
  });
}

// One's own picture: dropped, pasted or chosen, on any page.
(() => {
  const says = document.getElementById("upload-says"), drop = document.getElementById("drop");
  const most = drop ? Number(drop.dataset.most) : 32;

  async function give(file) {
    const tell = (text, bad) => { if (says) { says.textContent = text; says.className = bad ? "bad" : ""; } else EXPLORE.say(text); };
    if (file.size > most * 2 ** 20) return tell(`The file is larger than ${most} MB. Give a smaller one.`, true);
    tell("Looking at it ...");
    const found = await EXPLORE.ask(`/upload?name=${encodeURIComponent(file.name || "pasted picture")}`, file);
    if (found) location.assign(found.link);
    else { tell(document.getElementById("told").textContent, true); if (says) EXPLORE.say(""); }
  }

  const files = (transfer) => [...(transfer?.files ?? [])];
  document.addEventListener("paste", (event) => { const [file] = files(event.clipboardData); if (file) give(file); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); drop?.classList.add("over"); });
  document.addEventListener("dragleave", () => drop?.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop?.classList.remove("over");
    const [file] = files(event.dataTransfer);
    if (file) give(file);
  });
  document.getElementById("file")?.addEventListener("change", (event) => { const [file] = event.target.files; if (file) give(file); });
})();

// A box on a picture: drawn with a pointer, or written; each shows in the other.
(() => {
  const form = document.querySelector("form.part");
  if (!form) return;
  const at = document.getElementById("part"), box = at.querySelector(".box"), size = [Number(form.dataset.wide), Number(form.dataset.high)];
  const fields = ["x", "y", "width", "height"].map((name) => form.elements[name]);
  let start = null;

  function show() {
    const given = fields.map((field) => field.valueAsNumber);
    box.hidden = !given.every(Number.isFinite);
    const [x, y, width, height] = given.map((value, i) => `${(100 * value) / size[i % 2]}%`);
    if (!box.hidden) Object.assign(box.style, { left: x, top: y, width, height });
  }

  const point = (event) => {
    const frame = at.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height]
      .map((share, i) => Math.round(Math.min(Math.max(share, 0), 1) * size[i]));
  };
  at.addEventListener("pointerdown", (event) => { event.preventDefault(); at.setPointerCapture(event.pointerId); start = point(event); });
  at.addEventListener("pointermove", (event) => {
    if (!start) return;
    const end = point(event), low = end.map((side, i) => Math.min(side, start[i])), wide = end.map((side, i) => Math.abs(side - start[i]));
    if (wide.every((side) => side > 0)) { [...low, ...wide].forEach((side, i) => { fields[i].value = side; }); show(); }
  });
  for (const name of ["pointerup", "pointercancel"]) at.addEventListener(name, () => { start = null; });
  form.addEventListener("input", show);
})();
