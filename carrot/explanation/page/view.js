// What a person sees of the arithmetic in engine.js: a state is changed by a finger, a key or the link, and the whole page
// follows. What needs no script is made by the package (carrot/explanation/answer.py, sections.py), in the same words:
// tests/end_to_end/test_view.py holds the two together. Text from the data enters as text alone, never as markup.
"use strict";

(() => {
  const CLASSES = 5;  // as in carrot/explanation/answer.py
  const SUPPORTERS = 3, OPPONENTS = 2, MOSTLY = 0.5, MANY = 0.25, LITTLE = 0.2, BEYOND = 2, ROUNDING = 1e-12;  // as in words.py
  const FOR = "#b2182b", AGAINST = "#2166ac", ON_COLOURS = 0.55;  // as in drawing.py
  const MARKS = ["#f0a202", "#56b4e9", "#3fc199", "#f0e442", "#e08fc0"];
  const model = CARROT.load(JSON.parse(document.getElementById("carrot-data").textContent)), { data } = model;
  const { picture, words } = data, canHide = (weighing) => weighing && !weighing.fixed;
  const { make, draw, named, strong, exactly, frame, surface, listed, covers, grid, touch } = SURFACE;
  const $ = (id) => document.getElementById(id);

  // ---- numbers, as carrot/explanation/words.py writes them

  function digitsFor(values) {
    const most = Math.max(0, ...values.map(Math.abs));
    return most > 0 ? Math.min(Math.max(2 - Math.floor(Math.log10(most)), 3), 6) : 3;
  }

  function signed(units, digits) {
    return (units < 0 ? "-" : "+") + (Math.abs(units) / 10 ** digits).toFixed(digits);
  }

  // Return terms rounded up or down so that they add up as they are shown.
  function addedUp(values, total, digits) {
    const scaled = values.map((x) => x * 10 ** digits), floors = scaled.map(Math.floor);
    const missing = Math.floor(total * 10 ** digits + 0.5) - floors.reduce((a, b) => a + b, 0);
    const byRest = values.map((_, i) => i).sort((i, j) => (floors[i] - scaled[i]) - (floors[j] - scaled[j]));
    for (const i of byRest.slice(0, Math.max(missing, 0))) floors[i] += 1;
    return floors.map((units, i) => exactly(values[i], signed(units, digits)));
  }

  function percent(p, digits = 1) {
    const least = 10 ** -digits, told = 100 * p, all = (sign, x) => `${sign}${x.toFixed(digits)}\u00a0%`;
    if (told >= 100 - least / 2 && p < 1) return all("> ", 100 - least);
    return p > 0 && told < least / 2 ? all("< ", least) : all("", told);
  }

  const short = (x) => (x < 0 ? "-" : "+") + Math.abs(Number(x.toPrecision(3)));
  const tail = (path) => (path.length > 40 ? `…/${path.split(/[/\\]/).slice(-2).join("/")}` : path);
  const count = (n, one, many) => (n === 1 ? `1 ${one}` : `${n.toLocaleString("en")} ${many}`);

  // ---- the state, and how it came about

  const first = CARROT.start(model), past = [], future = [];
  let state = CARROT.fromHash(location.hash, model), now = CARROT.answer(model, first);
  const start = now, earlier = {};

  const clone = (x) => JSON.parse(JSON.stringify(x));
  const toggled = (list, x) => (list.includes(x) ? list.filter((y) => y !== x) : [...list, x]);

  // Change the state; a stroke of the brush is one step, however many parts it meets.
  function change(edit, goesOn = false) {
    const next = clone(state);
    edit(next);
    if (!goesOn) past.push(state);
    future.length = 0;
    state = next;
    if (!goesOn) show();
    else if (!isDue) isDue = requestAnimationFrame(show);  // once for all that a frame's stroke has met
  }

  let isDue = 0;

  function show() {
    isDue = 0;
    try {
      history.replaceState(null, "", `#${CARROT.toHash(model, state)}`);
    } catch { /* a page inside of another one has no link of its own */ }
    const active = document.activeElement, held = active && active.closest("main") ? active : stage, before = held.getBoundingClientRect().top;
    render();
    const moved = held.isConnected ? held.getBoundingClientRect().top - before : 0;
    if (moved) scrollBy(0, moved);  // what was touched stays where it is
  }

  function step(from, to) {
    if (!from.length) return;
    to.push(state);
    state = from.pop();
    show();
  }

  const leading = $("leading").textContent;
  const followers = [];  // what else to call when the state has changed
  const undo = () => step(past, future), redo = () => step(future, past);

  // ---- the picture: map, marks, what is hidden

  const stage = document.querySelector("#picture .frame svg"), { boxes } = picture;
  const cells = [...stage.querySelectorAll(".map rect")].map((rect) => {
    const [x, y, w, h] = ["x", "y", "width", "height"].map((key) => Number(rect.getAttribute(key)));
    const inside = (b) => x + w / 2 > b[0] && x + w / 2 < b[2] && y + h / 2 > b[1] && y + h / 2 < b[3];
    return { rect, drawers: picture.drawn.flatMap((b, r) => (inside(b) ? [r] : [])) };
  });
  const marks = stage.querySelector(".marks"), isGone = (r) => state.dropped.includes(r);
  const coverPicture = covers(stage, grid(boxes), boxes);

  function height(cell, contributions) {
    const spread = (r) => {
      const [x0, y0, x1, y1] = picture.drawn[r];
      return contributions[r] / ((x1 - x0) * (y1 - y0)) * (picture.size[0] * picture.size[1] / 100);
    };
    return words.isTiled ? cell.drawers.reduce((sum, r) => sum + spread(r), 0) : contributions[cell.drawers[0]];
  }

  function strongest(values) {
    const sizes = values.map(Math.abs).sort((a, b) => a - b), most = sizes[sizes.length - 1] || 0;
    const place = 0.975 * (sizes.length - 1), low = Math.floor(place), high = Math.ceil(place);
    const usual = sizes.length ? sizes[low] + (place - low) * (sizes[high] - sizes[low]) : 0;
    return (usual > 0 && 2 * usual < most ? usual : most) || 1;
  }

  const best = () => picture.where.map((_, r) => r).filter((r) => now.contributions[r] > 0)
    .sort((a, b) => now.contributions[b] - now.contributions[a]).slice(0, SUPPORTERS);

  // Of a lead, what speaks most for the other class.
  const worst = () => (state.against === null ? [] : picture.where.map((_, r) => r).filter((r) => now.contributions[r] < 0)
    .sort((a, b) => now.contributions[a] - now.contributions[b]).slice(0, OPPONENTS));
  const numbered = () => [...best(), ...worst()];

  function paintPicture() {
    const [was, heights] = [asItWas(), now].map((one) => cells.map((cell) => height(cell, one.contributions)));
    const limit = strongest(heights) > BEYOND * strongest(was) ? strongest(heights) : strongest(was);  // one scale, while it will do
    const beyond = Math.max(0, ...heights.map(Math.abs)) > limit ? " and beyond" : "";
    cells.forEach(({ rect, drawers }, i) => {
      rect.setAttribute("fill", heights[i] > 0 ? FOR : AGAINST);
      rect.setAttribute("fill-opacity", String(ON_COLOURS * Math.min(Math.abs(heights[i]) / limit, 1)));
      const told = words.isTiled ? "per hundredth of the picture" : picture.names[drawers[0]];
      rect.querySelector("title").textContent = `${told}: ${short(heights[i])}`;
    });
    const [left, zero, right] = document.querySelectorAll("#picture .legend .ends span"), [against, towards] = ends();
    left.replaceChildren(exactly(-limit, short(-limit)), `${beyond} ${against}`);
    zero.textContent = "0";
    right.replaceChildren(exactly(limit, short(limit)), `${beyond} ${towards}`);
    coverPicture(isGone);
    paintMarks();
  }

  function paintMarks() {
    const unit = 0.05 * Math.max(...picture.size), taken = [];
    const drawn = numbered().flatMap((r, k) => {
      if (!boxes[r]) return [];
      const [x0, y0, x1] = boxes[r], isSmall = x1 - x0 < 3 * unit, shift = (isSmall ? -0.6 : 0.8) * unit;
      const y = Math.max(y0 + shift, 0.8 * unit);
      let x = Math.max(x0 + shift, 0.8 * unit);
      while (taken.some(([u, v]) => Math.hypot(u - x, v - y) < 1.3 * unit) && x < picture.size[0] - unit) x += unit * 0.7;
      taken.push([x, y]);
      const line = { ...frame(boxes[r]), fill: "none", "vector-effect": "non-scaling-stroke" };
      return [
        draw("rect", { ...line, stroke: "#000000", "stroke-width": 3.5 }), draw("rect", { ...line, stroke: MARKS[k], "stroke-width": 1.8 }),
        draw("circle", { cx: x, cy: y, r: 0.62 * unit, fill: MARKS[k], stroke: "#000000", "stroke-width": unit / 14 }),
        draw("text", { x, y: y + 0.34 * unit, "font-size": unit * 0.95, "font-weight": 700, "text-anchor": "middle", fill: "#000000" }, String(k + 1)),
      ];
    });
    marks.replaceChildren(...drawn);
    const told = numbered().map((r, k) => `${k + 1}: ${picture.where[r]}`).join("; ") || "nothing";
    const whom = state.against === null ? target() : `${target()} or ${against()}`;
    stage.setAttribute("aria-label", `${picture.name}. Marked is what speaks most for ${whom}: ${told}`);
  }

  function drop(r, hide, goesOn) {
    change((next) => { next.dropped = hide ? [...next.dropped, r] : next.dropped.filter((x) => x !== r); }, goesOn);
  }

  const hint = $("pointed").textContent;

  function point(r) {
    if (r === null || document.body.classList.contains("refused")) { $("pointed").textContent = hint; return; }
    const told = picture.where[r];
    if (isGone(r)) { $("pointed").textContent = `Hidden: ${told}. Once more shows it again.`; return; }
    const without = CARROT.answer(model, { ...state, dropped: [...state.dropped, r] });
    $("pointed").textContent = `${told} brings ${short(now.contributions[r])}; without it the ${noun()} ${moves(now.logit - without.logit)}.`;
  }

  // ---- words for what is explained

  const noun = () => (state.against === null ? "score" : "lead");
  const moves = (fall, digits = null) => {
    const size = Math.abs(fall), told = digits === null ? short(size).slice(1) : size.toFixed(digits);
    return `${fall >= 0 ? "falls" : "rises"} by ${told}`;
  };
  const target = () => data.classes[state.target], against = () => (state.against === null ? null : data.classes[state.against]);
  const ends = () => (state.against === null ? ["against", "for"] : [`for ${against()}`, `for ${target()}`]);
  const what = () => (state.against === null ? ["score of ", named(target())] : ["lead of ", named(target()), " over ", named(against())]);

  function suppositions() {
    const told = [], { dropped, out } = state;  // what is left out has no label, and no tiles
    const relabelled = Object.keys(state.relabel).filter((k) => !out.includes(Number(k)));
    const tiles = Object.entries(state.hidden).reduce((sum, [k, regions]) => sum + (out.includes(Number(k)) ? 0 : regions.length), 0);
    const id = (k) => tail(data.training[k].id);
    if (dropped.length === 1) told.push(`without ${picture.where[dropped[0]]}`);
    else if (dropped.length === model.N) told.push("with nothing of the picture shown");
    else if (dropped.length) told.push(`without ${dropped.length} of ${model.N} ${words.many}`);
    if (out.length === 1) told.push(`without training picture ${id(out[0])}`);
    else if (out.length) told.push(`without ${out.length} training pictures`);
    if (relabelled.length === 1) told.push(`with ${id(relabelled[0])} labelled ${data.classes[state.relabel[relabelled[0]]]}`);
    else if (relabelled.length) told.push(`with ${relabelled.length} training pictures relabelled`);
    if (tiles) told.push(`with ${count(tiles, `${words.one} of a training picture`, `${words.many} of training pictures`)} hidden`);
    const sentence = told.length > 1 ? `${told.slice(0, -1).join(", ")} and ${told[told.length - 1]}` : told.join("");
    return sentence && sentence[0].toUpperCase() + sentence.slice(1);
  }

  // The answer as it was, to the question of now.
  function asItWas() {
    const key = `${state.target} ${state.against}`;
    if (!(key in earlier)) earlier[key] = CARROT.answer(model, { ...first, target: state.target, against: state.against });
    return earlier[key];
  }

  function paintSentence() {
    const supposed = suppositions(), [top] = best(), because = picture.marked[top];
    const chance = (c) => percent(now.probabilities[c]), said = data.classes[now.predicted];
    const says = [supposed ? `${supposed}, the model says ` : "The model says ", strong(said), ` (${chance(now.predicted)})`];
    const isAsked = state.target !== now.predicted, own = isAsked ? ` (${chance(state.target)})` : "";
    const speaks = (...whom) => (top === undefined ? [". No part of the picture speaks for ", ...whom] : [". For ", ...whom, ` speaks most of all ${because}`]);
    if (state.against !== null) {
      const [other] = worst(), mark = `marked ${best().length + 1}`;
      const there = other === undefined ? "no part of the picture" : picture.marked[other].replace(/marked 1$/, mark);
      says.push(...speaks(strong(target()), `${own} and not `, strong(against())), "; for ", strong(against()), `, ${there}.`);
    }
    else if (isAsked) says.push(...speaks(strong(target()), own), ".");
    else if (top === undefined) says.push(", though no part of the picture speaks for it.");
    else {
      const share = now.contributions[top] / now.contributions.reduce((sum, x) => sum + Math.max(x, 0), 0);
      if (share < MANY) says.push(`, because of many ${words.many} together, most of all ${because}.`);
      else says.push(`, ${share >= MOSTLY ? "mostly" : "most of all"} because of ${because}.`);
    }
    $("sentence").replaceChildren(...says);
    $("spared").textContent = replaced(top);
    if ($("verdict") && picture.label !== null) $("verdict").replaceChildren(picture.label === now.predicted ? "they agree" : make("strong", {}, "they differ"));
    const before = asItWas();
    const digits = digitsFor([before.logit, now.logit]), [was, is] = [before.logit, now.logit].map((x) => addedUp([x], x, digits)[0]);
    $("before").replaceChildren(...(supposed ? [
      "Before: ", named(data.classes[start.predicted]), ` (${percent(start.probabilities[start.predicted])}). The `, ...what(), " goes from ", was, " to ",
      make("span", { class: "changed" }, is), ".",
      state.dropped.length && state.dropped.length < model.N && !model.picture.additive ? ` The ${words.many} left take over the weight of what is hidden.` : "",
    ] : []));
    const changed = now.predicted === start.predicted ? "" : `, no longer ${data.classes[start.predicted]}`;
    say(supposed || hasChanged() ? `${supposed || "As it is"}, the model says ${said} (${chance(now.predicted)})${changed}. The ${noun()} of ${target()} is ${is.textContent}.` : "");
  }

  const SPARED = `Hidden alone, what is marked 1 would hardly be missed: the others ${words.takeOver}.`;

  // As words.py has it: the region that brings most may be spared, where others take over.
  function replaced(top) {
    if (top === undefined) return "";
    const without = () => CARROT.answer(model, { ...state, dropped: [...state.dropped, top] }).logit;
    const isSpared = canHide(model.picture) ? now.logit - without() < LITTLE * now.contributions[top] : words.isSpared && now.logit === start.logit;
    if (!isSpared) return "";
    return top < boxes.length ? SPARED : SPARED.replace("what is marked 1", picture.where[top]);
  }

  const header = document.querySelector("header");

  // Keep the room that the words of one hidden region need, and what was needed once: nothing moves under the finger.
  function reserve() {
    const probe = make("header", { "aria-hidden": "true" }), longest = [...picture.where].sort((a, b) => b.length - a.length)[0];
    for (const part of header.children) {
      const copy = part.cloneNode(true);
      copy.removeAttribute("id");
      copy.removeAttribute("role");
      probe.append(copy);
      if (part.id === "sentence") copy.textContent = `Without ${longest}, ${part.textContent}`;
    }
    Object.assign(probe.style, { position: "absolute", visibility: "hidden", width: `${header.clientWidth}px` });
    header.after(probe);
    header.style.minHeight = `${probe.offsetHeight}px`;
    probe.remove();
  }

  function keepRoom() {
    if (header.offsetHeight > parseFloat(header.style.minHeight)) header.style.minHeight = `${header.offsetHeight}px`;
  }

  const hasChanged = () => past.length + future.length > 0;
  const say = (told) => { if ($("heard").textContent !== told) $("heard").textContent = told; };

  // ---- tables

  const cell = (value, attributes = {}) => make("td", attributes, value);
  const side = (x) => (x > 0 ? "for" : x < 0 ? "against" : "");

  function bar(value, limit) {
    const drawn = draw("rect", { width: Math.min(100 * Math.abs(value) / limit, 100).toFixed(1), height: 10 });
    return draw("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, drawn);
  }

  function paintSupporters() {
    const top = numbered(), sum = (regions) => regions.reduce((total, r) => total + now.contributions[r], 0);
    const rest = (from, to) => picture.where.map((_, r) => r).slice(from, to).filter((r) => !top.includes(r) && !isGone(r));
    const local = rest(0, boxes.length), whole = rest(boxes.length), rows = top.map((r, k) => [k, picture.where[r], now.contributions[r]]);
    if (local.length) rows.push([null, `All ${local.length.toLocaleString("en")}${top.length ? " other" : ""} ${words.many}`, sum(local)]);
    if (whole.length) rows.push([null, "The whole picture, as a region of its own", sum(whole)]);
    if (Math.abs(now.prior) > ROUNDING) rows.push([null, state.dropped.length === model.N ? words.nothing : words.start, now.prior]);
    const values = rows.map((row) => row[2]), digits = digitsFor([...values, now.logit]);
    const most = Math.max(...[...values, now.logit].map(Math.abs)) || 1, numbers = addedUp(values, now.logit, digits);
    const lines = rows.map(([k, told, value], i) => make(
      "tr", {}, cell(k === null ? "" : mark(k)), make("th", { scope: "row" }, told), cell(bar(value, most), { class: side(value) }), cell(numbers[i], { class: "number" }),
    ));
    const [total] = addedUp([now.logit], now.logit, digits);
    lines.push(make("tr", { class: "total" }, cell(""), make("th", { scope: "row" }, "= ", ...what()), cell(""), cell(total, { class: "number" })));
    $("supporters").tBodies[0].replaceChildren(...lines);
  }

  function mark(k) {
    const found = make("span", { class: "mark" }, String(k + 1));
    found.style.background = MARKS[k];
    return found;
  }

  function paintClasses() {
    const order = data.classes.map((_, c) => c).sort((a, b) => now.logits[b] - now.logits[a]);
    const notes = { [state.target]: "explained here", [state.against]: "held against it" };
    const shown = [...order.slice(0, CLASSES), ...order.slice(CLASSES).filter((c) => c in notes)], digits = digitsFor(shown.map((c) => now.logits[c]));
    $("classes").tBodies[0].replaceChildren(...shown.map((c) => {
      const head = make("th", { scope: "row" }, named(data.classes[c]));
      if (c in notes) head.append(" ", make("span", { class: "soft small" }, `(${notes[c]})`));
      const chance = now.probabilities[c], [logit] = addedUp([now.logits[c]], now.logits[c], digits);
      return make("tr", {}, head, cell(logit, { class: "number" }), cell(exactly(chance, percent(chance)), { class: "number" }), cell(bar(chance, 1)));
    }));
  }

  // ---- training pictures

  const cards = [...document.querySelectorAll(".card")].map(card);

  function card(li) {
    const k = Number(li.dataset.k), one = data.training[k], svg = li.querySelector(".frame svg"), acts = make("div", { class: "acts" });
    const found = { li, k, one, label: li.querySelector("h3"), flag: li.querySelector(".flag"), told: li.querySelector(".without"), out: null, choice: null, cover: null };
    li.querySelector(".told").append(acts);
    if (words.canRefit) {
      found.out = make("button", { type: "button" }, "Leave it out");
      found.out.setAttribute("aria-label", `Leave it out: training picture ${one.id}`);
      found.out.addEventListener("click", () => change((next) => { next.out = toggled(next.out, k); }));
      found.choice = make("select", { "aria-label": `Label of training picture ${one.id}` }, ...options());
      found.choice.addEventListener("change", () => change((next) => {
        const label = Number(found.choice.value);
        if (label === one.label) delete next.relabel[k];
        else next.relabel[k] = label;
      }));
      acts.append(found.out, make("label", {}, "Label", found.choice));
    }
    if (svg && canHide(model.training[k])) {
      const gone = (r) => (state.hidden[k] || []).includes(r), where = (r) => picture.names[r];
      const put = (r, hide, goesOn) => change((next) => {
        const left = hide ? [...(next.hidden[k] || []), r] : next.hidden[k].filter((x) => x !== r);
        if (left.length) next.hidden[k] = left;
        else delete next.hidden[k];
      }, goesOn);
      found.cover = [covers(svg, grid(one.boxes), one.boxes), gone];
      const point = () => {};
      followers.push(surface(svg, one.boxes, (r) => `${where(r)} of training picture ${one.id}`, { gone, put, point }));
      const ul = make("ul", { class: "list" });
      acts.append(make("details", {}, make("summary", {}, `Hide ${words.many} of it`), ul));
      followers.push(listed(ul, Array.from(model.training[k].r, (_, r) => r), (r) => [where(r), ""], gone, put));
    }
    return found;
  }

  function options() {
    return data.classes.map((told, c) => make("option", { value: c }, told));
  }

  function paintCards(hasAnswer) {
    const digits = hasAnswer ? digitsFor(now.training.slice(0, 3).map((x) => x.without ?? 0)) : 0;
    for (const { li, k, one, label, flag, told, out, choice, cover } of cards) {
      const isOut = state.out.includes(k), c = state.relabel[k] ?? one.label, without = hasAnswer ? now.training[k].without : null;
      li.classList.toggle("out", isOut);
      if (flag) flag.hidden = c !== one.label;
      label.replaceChildren(named(data.classes[c]), ...(c === one.label ? [] : [make("span", { class: "soft small" }, " (was ", named(data.classes[one.label]), ")")]));
      if (isOut) told.textContent = "Left out.";
      else if (!hasAnswer) told.replaceChildren();
      else if (without === null) told.textContent = "Without it, no picture of its class would be left.";
      else told.replaceChildren("Without it ", make("span", { class: side(without) }, `the ${noun()} ${moves(without, digits)}`), ".");
      if (out) {
        out.setAttribute("aria-pressed", String(isOut));
        choice.value = String(c);
        choice.disabled = isOut;
      }
      if (cover) cover[0](cover[1]);
    }
  }

  // ---- all of it

  // Take away what was said last: a model that can't be fitted says nothing, whatever it is asked.
  function clear() {
    for (const { rect } of cells) {
      rect.setAttribute("fill-opacity", "0");
      rect.querySelector("title").textContent = "";
    }
    for (const end of document.querySelectorAll("#picture .legend .ends span")) end.replaceChildren();
    for (const part of [marks, $("supporters").tBodies[0], $("classes").tBodies[0]]) part.replaceChildren();
    stage.setAttribute("aria-label", picture.name);
    coverPicture(isGone);
    $("pointed").textContent = hint;
    $("sentence").replaceChildren("There is no answer.");
    $("spared").textContent = "";
  }

  function render() {
    const found = CARROT.answer(model, state);
    document.body.classList.toggle("refused", Boolean(found.refused));
    const hasAnswer = !found.refused;
    if (!hasAnswer) {
      clear();
      $("before").replaceChildren(make("strong", {}, found.refused), " Such a model can't be fitted: undo it.");
      say(found.refused);
    } else {
      now = found;
      paintPicture();
      paintSupporters();
      paintClasses();
      paintSentence();
    }
    keepRoom();
    paintCards(hasAnswer);
    for (const follow of followers) follow();
    for (const [button, list] of [["undo", past], ["redo", future]]) $(button).disabled = !list.length;
    const isFirst = CARROT.toHash(model, state) === CARROT.toHash(model, first);
    $("reset").disabled = isFirst;
    $("as-it-was").hidden = isFirst;
    $("leading").textContent = isFirst ? leading : leading.replace(/ holds? the answer/, " held the first answer");
    if ($("opposing")) $("opposing").hidden = !isFirst;
    $("because").replaceChildren("What speaks for ", ...(state.against === null ? ["it"] : [named(target()), ", and for ", named(against())]));
    $("target").value = String(state.target);
    $("against").value = state.against === null ? "" : String(state.against);
    $("legend-of").replaceChildren("Red speaks for ", named(target()), ", blue ", ...(state.against === null ? ["against it"] : ["for ", named(against())]),
      words.isTiled ? " (per hundredth of the area)." : ".");
  }

  document.documentElement.classList.add("is-live");
  if (canHide(model.picture)) {
    const number = (r) => (isGone(r) || document.body.classList.contains("refused") ? "" : short(now.contributions[r])), told = (r) => [picture.names[r], number(r)];
    followers.push(surface(stage, boxes, (r) => told(r).join(" "), { gone: isGone, put: drop, point, drawn: picture.drawn }));
    followers.push(listed($("parts").querySelector("ul"), picture.where.map((_, r) => r), told, isGone, drop));
  } else {
    for (const id of ["pointed", "brush", "parts"]) $(id).hidden = true;
  }
  stage.append(marks);  // above what covers
  if (!navigator.maxTouchPoints) $("brush").hidden = true;
  $("target").append(...options());
  $("against").append(make("option", { value: "" }, "nothing"), ...options());
  $("target").addEventListener("change", () => change((next) => {
    next.target = Number($("target").value);
    if (next.against === next.target) next.against = null;
  }));
  $("against").addEventListener("change", () => change((next) => {
    const c = $("against").value;
    next.against = c === "" || Number(c) === next.target ? null : Number(c);
  }));
  $("undo").addEventListener("click", undo);
  $("redo").addEventListener("click", redo);
  $("reset").addEventListener("click", () => change((next) => Object.assign(next, clone(first))));
  $("brush").addEventListener("click", () => {
    touch.brushes = !touch.brushes;
    $("brush").setAttribute("aria-pressed", String(touch.brushes));
    for (const svg of document.querySelectorAll(".tiled")) svg.classList.toggle("brushing", touch.brushes);
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "z") (event.shiftKey ? redo : undo)();
    else if (key === "y") redo();
    else return;
    event.preventDefault();
  });
  window.addEventListener("hashchange", () => {
    past.push(state);
    future.length = 0;
    state = CARROT.fromHash(location.hash, model);
    render();
  });
  window.addEventListener("resize", reserve);
  reserve();
  render();
})();
