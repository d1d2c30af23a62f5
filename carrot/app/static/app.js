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

  // Ask the server; null: it refused, and why is said.
  async function ask(path, body) {
    try {
      const options = body === undefined ? {} : {
        method: "POST",
        headers: { "X-Carrot-Token": meta("token"), ...(body instanceof Blob ? {} : { "Content-Type": "application/json" }) },
        body: body instanceof Blob ? body : JSON.stringify({ state: meta("state"), ...body }),
      };
      const answer = await fetch(path, options), found = await answer.json();
      if (answer.ok) return found;
      if (found.changed) say(found.error, reader()); else say(found.error);
    } catch {
      say("The server doesn't answer: is carrot explore still running?");
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
  range.addEventListener("input", () => { output.textContent = range.value; });
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (!field.value || (field === range && range.closest("[hidden]"))) field.disabled = true;
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
