// The desk: one suspect after the other; what is decided is on the server's disk before the next one is shown.
"use strict";

(() => {
  const desk = document.getElementById("desk"), box = document.getElementById("case"), strip = document.getElementById("strip");
  const SIGNS = { relabel: "R", forget: "F", keep: "K" };
  let progress = null, now = null, asked = 0, considered = 0, busy = false;

  // ---- elements

  function make(name, properties = {}, ...children) {
    const { dataset = {}, ...rest } = properties, node = Object.assign(document.createElement(name), rest);
    Object.assign(node.dataset, dataset);
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  const signed = (x, digits = 2) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
  const share = (p) => (p > 0 && p < 0.0005 ? "< 0.1 %" : p < 1 && p >= 0.9995 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`); // as every page says it
  const percent = (s) => `${((100 * s.right) / s.pictures).toFixed(1)} %`;
  const image = (kind, key) => `/${kind}/${key}?v=${progress.state}`;

  function frame(at) {
    if (!at) return null;
    const node = make("span", { className: "box" });
    const [x0, y0, x1, y1] = at.map((x) => 100 * x);
    Object.assign(node.style, { left: `${x0}%`, top: `${y0}%`, width: `${x1 - x0}%`, height: `${y1 - y0}%` });
    return node;
  }

  // ---- what a decision would do

  function effect(standing) {
    if (standing.refused) return [make("span", { className: "effect", textContent: standing.refused })];
    const before = now.effects.keep, own = (s) => (s.own ? 1 : 0);
    const others = standing.right - own(standing) - (before.right - own(before)), self = own(standing) - own(before);
    const change = [];
    if (standing.own !== null && self) change.push(`${signed(self, 0)} this picture`);
    change.push(`${others ? signed(others, 0) : "±0"} of the others`);
    return [
      make("span", { className: "effect" }, make("span", { className: "change", textContent: `${percent(before)} → ${percent(standing)}` })),
      make("span", { className: "effect", textContent: `${standing.right} of ${standing.pictures} right: ${change.join(", ")}` }),
    ];
  }

  function move(action, key, title, standing, label = "") {
    const done = now.decision && now.decision.action === action && now.decision.label === (action === "relabel" ? label : "");
    const button = make("button", { type: "button", className: "move", disabled: Boolean(standing.refused), dataset: { action } },
      make("b", {}, title, ...(key ? [" ", make("kbd", { textContent: key })] : [])));
    if (action === "keep" && !standing.refused) button.append(make("span", { className: "effect", textContent: `${percent(standing)}: ${standing.right} of ${standing.pictures} right` }));
    else button.append(...effect(standing));
    button.setAttribute("aria-pressed", String(Boolean(done)));
    button.addEventListener("click", () => decide(action, label, standing.new));
    return button;
  }

  // ---- one suspect

  function draw() {
    const n = now, had = box.contains(document.activeElement), extra = make("div", { id: "extra", className: "extra" });
    const other = make("input", { id: "other", type: "text", autocomplete: "off", placeholder: "another class, or a new one" });
    other.setAttribute("list", "classes");
    other.addEventListener("change", () => consider(other.value.trim(), extra));
    other.addEventListener("keydown", (event) => { if (event.key === "Escape") document.getElementById("where").focus(); });
    if (n.decision && n.decision.action === "relabel" && n.decision.label !== n.suggested) {
      other.value = n.decision.label;
      consider(other.value, extra);
    }
    const table = make("table", {}, make("caption", { className: "small", textContent: "What the model says of it, fitted without it" }),
      make("thead", {}, make("tr", {}, ...["class", "logit", "probability"].map((t) => make("th", { scope: "col", textContent: t })))),
      make("tbody", {}, ...n.said.map((line) => make("tr", {}, make("td", { textContent: line.class }),
        make("td", { textContent: signed(line.logit, 3) }), make("td", { textContent: share(line.p) })))));
    const name = (dt, dd, kind) => make("div", { className: kind }, make("dt", { textContent: dt }), make("dd", { textContent: dd }));
    const shown = make("img", { src: image("image", n.key), alt: `The picture ${n.id}` });
    shown.addEventListener("load", () => { shown.parentNode.style.width = `min(100%, calc(56vh * ${shown.naturalWidth / shown.naturalHeight}))`; });
    box.replaceChildren(
      make("div", {}, make("div", { className: "picture", id: "here" }, shown),
        make("p", { className: "small" }, `${n.id} · `, make("a", { href: `/picture/${n.key}`, textContent: "explanation" }))),
      make("div", {}, make("dl", { className: "labels" }, name("labelled", n.label, "given"), name("the others say", n.suggested, "suggested"),
        make("div", {}, make("dt", { textContent: "its label" }), make("dd", { className: "flag", textContent: n.verdict || "the others agree by now" }))),
        make("div", { className: "moves" },
          move("relabel", "r", `Relabel: ${n.suggested}`, n.effects.relabel, n.suggested),
          move("forget", "f", "Forget it", n.effects.forget),
          move("keep", "k", `Keep: ${n.label}`, n.effects.keep)),
        make("div", { className: "another" }, make("label", { htmlFor: "other" }, "Or relabel as "), other), extra,
        make("p", { className: "small", textContent: n.edits
          ? `Leave-one-out accuracy of all training pictures, exactly, on top of ${n.edits} edit${n.edits > 1 ? "s" : ""} decided on.`
          : "Leave-one-out accuracy of all training pictures, exactly." }),
        table,
        make("p", { className: "small", textContent: `Conformal p-value of ${n.label}: ${n.p_value.toFixed(4)}. ${share(n.p_value)} of the training pictures have a lead as small or smaller.` })),
      make("div", { className: "witnesses" },
        side("for", `Speak for ${n.suggested}`, n.for, n), side("back", `Speak against ${n.suggested}`, n.against, n)));
    if (had) document.getElementById("where").focus();
  }

  function side(kind, title, found, n) {
    const cards = found.map((one) => make("a", { className: "witness", href: one.link, title: one.id, dataset: { key: one.key } },
      make("span", { className: "picture" }, make("img", { src: image("thumb", one.key), alt: "", loading: "lazy" })),
      make("span", { textContent: one.label }),
      make("span", { className: "effect", textContent: signed(one.effect, 3) }),
      one.doubtful ? make("span", { className: "flag", textContent: "doubtful itself" }) : null));
    return make("section", { className: kind }, make("h2", { textContent: title }),
      found.length ? make("div", { className: "row" }, ...cards) : make("p", { className: "none", textContent: "No training picture does." }),
      kind === "for"
        ? make("p", { className: "small", textContent: `The number: how far ${n.suggested} would lose against ${n.label}, had that training picture not been there either. ` }, make("span", { id: "pair" }))
        : "");
  }

  async function pair(key) {
    const found = await EXPLORE.ask(`/desk/api/pair/${key}`);
    if (!found || now.key !== key) return;
    const here = frame(found.here), there = [...box.querySelectorAll(".witness")].find((one) => one.dataset.key === found.key);
    if (here) document.getElementById("here").append(here);
    if (there && found.there) there.querySelector(".picture").append(frame(found.there));
    const what = here && found.there ? `Framed: the two ${found.kind} that bring` : "Of pairs of regions, one with the whole picture brings";
    document.getElementById("pair").textContent =
      `${what} most of all pairs, ${signed(found.contribution, 3)} of the ${signed(found.total, 3)} of the score that ${there ? there.title : "that training picture"} stands for.`;
  }

  async function consider(label, extra) {
    extra.replaceChildren();
    if (!label) return;
    const turn = ++considered, key = now.key, standing = await EXPLORE.ask(`/desk/api/effect/${key}?label=${encodeURIComponent(label)}`);
    if (!standing || now.key !== key || turn !== considered) return;
    const name = standing.label ?? label, button = move("relabel", "", `Relabel: ${name}${standing.new ? " (a new class)" : ""}`, standing, name);
    const notes = [];
    if (standing.alone) notes.push(`No other picture is of ${name}: fitted without this one there is no such class, so its score is 0.`);
    if (standing.twins?.length) notes.push(`It looks like ${standing.twins.join(", ")}: names that look alike are classes of their own.`);
    if (standing.near?.length) {
      const field = document.getElementById("other");
      extra.append(make("p", { className: "small" }, "There is a class of a name like that already. Did you mean ", ...standing.near.map((one) => {
        const choose = make("button", { type: "button", textContent: one });
        choose.addEventListener("click", () => { field.value = one; consider(one, extra); });
        return choose;
      }), "?"));
    }
    extra.append(button, ...notes.map((note) => make("p", { className: "small", textContent: note })));
  }

  // ---- all of them

  function head() {
    const place = progress.queue.findIndex((one) => one.key === (now && now.key));
    const all = progress.queue.length, at = place < 0 ? "A picture beside them" : `${place + 1} of ${all}`;
    document.getElementById("where").textContent = all ? `${at} · ${progress.done} of ${all} decided` : "No label is doubtful.";
    const { start, now: then } = progress, settled = document.getElementById("settled");
    settled.hidden = !all || progress.done < all;
    settled.textContent = `All ${all} doubtful labels are settled. ` + (progress.edits ? "Next: make the new version below." : "All are kept, so nothing is to be changed.");
    document.getElementById("total").textContent =
      `Leave-one-out ${percent(start)}` + (progress.edits ? ` → ${percent(then)} with ${progress.edits} edit${progress.edits > 1 ? "s" : ""}` : "");
    document.getElementById("table").textContent = progress.table;
    document.getElementById("flag").textContent = progress.new.length ? " --new-class" : "";
    document.getElementById("stale").hidden = !progress.stale;
    if (strip.childElementCount !== all) {
      strip.replaceChildren(...progress.queue.map((one) => {
        const link = make("a", { href: `/desk/${one.key}` }, make("img", { src: image("thumb", one.key), alt: "", loading: "lazy", width: 46, height: 46 }), make("span", { className: "sign" }));
        link.addEventListener("click", (event) => { if (event.metaKey || event.ctrlKey || event.shiftKey) return; event.preventDefault(); go(one.key); });
        return make("li", {}, link);
      }));
    }
    progress.queue.forEach((one, i) => {
      const link = strip.children[i].firstChild, sign = link.querySelector(".sign");
      link.classList.toggle("done", Boolean(one.decision));
      sign.textContent = SIGNS[one.decision] ?? "";
      sign.hidden = !one.decision;
      link.setAttribute("aria-label", `${one.id}, labelled ${one.label}` + (one.decision ? `: ${one.decision} ${one.to}` : ""));
      if (i === place) { link.setAttribute("aria-current", "true"); strip.scrollLeft = link.parentNode.offsetLeft - strip.offsetLeft - strip.clientWidth / 2; } else link.removeAttribute("aria-current");
    });
  }

  async function go(key, push = true) {
    const turn = ++asked, found = await EXPLORE.ask(`/desk/api/look/${key}`);
    if (!found || turn !== asked) return;
    now = found;
    if (push && location.pathname !== `/desk/${key}`) history.pushState(null, "", `/desk/${key}`);
    head();
    draw();
    pair(key);
  }

  function step(by) {
    const place = progress.queue.findIndex((one) => one.key === now.key), next = progress.queue[place + by];
    if (next) go(next.key);
    else if (by > 0 && place >= 0) EXPLORE.say(progress.done < progress.queue.length ? `That is the last one; ${progress.queue.length - progress.done} before it are undecided.` : "That is the last one.");
  }

  function onwards() {
    const { queue } = progress, place = queue.findIndex((one) => one.key === now.key);
    const next = [...queue.slice(place + 1), ...queue.slice(0, Math.max(place, 0))].find((one) => !one.decision);
    if (!next) EXPLORE.say("That was the last one: all are settled. u takes it back.");
    return go(next ? next.key : now.key);
  }

  async function decide(action, label = "", isNew = false) {
    if (busy || !now) return;
    busy = true;
    const done = now.decision, seen = done ? `${done.action} ${done.label}`.trim() : "";
    const found = await EXPLORE.ask(`/desk/api/look/${now.key}`, { action, label, seen, new: isNew ? "yes" : "no" });
    if (!found) await refresh();
    else {
      progress = found;
      const words = { relabel: `to be ${label}`, forget: "to be forgotten", keep: "kept" };
      EXPLORE.say(`${now.id}: ${words[action]}. u takes it back.`);
      await onwards(); // until the next one is seen, no key decides on it
    }
    busy = false;
  }

  // It was refused: show what is decided by now, by whomever; what was said stays.
  async function refresh() {
    const found = await EXPLORE.ask("/desk/api/progress", undefined, true);
    if (!found) return;
    progress = found;
    await go(now.key);
  }

  async function undo() {
    if (busy) return;
    busy = true;
    const found = await EXPLORE.ask("/desk/api/undo", { seen: progress.last?.id ?? "" });
    if (!found) await refresh();
    else {
      progress = found;
      EXPLORE.say(found.key ? "Taken back." : "There is nothing to take back.");
      await go(found.key ?? now.key);
    }
    busy = false;
  }

  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest("input, select, textarea") || !now) return;
    const keys = {
      r: () => now.effects.relabel.refused || decide("relabel", now.suggested),
      f: () => now.effects.forget.refused || decide("forget"),
      k: () => now.effects.keep.refused || decide("keep"), u: undo, c: () => document.getElementById("other").focus(),
      ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    if (!event.repeat || event.key.startsWith("Arrow")) keys[event.key](); // a key that is held down decides once
  });
  window.addEventListener("popstate", () => {
    const key = location.pathname.split("/")[2] ?? progress.queue[0]?.key;
    if (key) go(key, false);
  });

  document.getElementById("tidy").addEventListener("click", async () => {
    const found = await EXPLORE.ask("/desk/api/tidy", {});
    if (found) { progress = found; head(); }
  });
  document.getElementById("apply").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target, button = form.querySelector("button"), made = document.getElementById("made");
    button.disabled = true;
    EXPLORE.say("Making it ...");
    const found = await EXPLORE.ask("/desk/api/apply", { name: form.elements.name.value });
    button.disabled = false;
    if (!found) return;
    EXPLORE.say("");
    made.hidden = false;
    made.textContent = `${found.folder}\n${found.text}\ncertificate: ${found.certificate}\n\ncarrot explore ${found.folder}`;
    form.elements.name.value = found.next;
  });

  (async () => {
    progress = await EXPLORE.ask("/desk/api/progress");
    if (!progress) return;
    const first = desk.dataset.key || (progress.queue.find((one) => !one.decision) ?? progress.queue[0])?.key;
    if (first) await go(first, Boolean(desk.dataset.key));
    else { head(); box.replaceChildren(make("p", { className: "none", textContent: "No training picture's label is doubtful: the others say none is of another class. Any picture can be looked at from its page." })); }
  })();
})();
