// A picture whose regions can be hidden: clicked, brushed over, reached by keys, or chosen from a list. It knows neither what
// they mean nor what is computed of them. Text from the data enters as text alone, never as markup.
"use strict";

const SURFACE = (() => {
  let hatches = 0;
  const touch = { brushes: false };  // does a finger brush, or does it scroll the page?

  // ---- elements

  function make(tag, attributes = {}, ...children) {
    const found = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) found.setAttribute(key, value);
    found.append(...children);
    return found;
  }

  function draw(tag, attributes, ...children) {
    const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    found.append(...children);
    return found;
  }

  const named = (value) => make("bdi", {}, value);
  const strong = (value) => make("em", {}, named(value));
  const exactly = (value, told) => make("data", { value: String(value) }, told);
  const frame = ([x0, y0, x1, y1]) => ({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 });

  // ---- a picture whose regions can be pointed at

  // Let regions of a drawn picture be clicked, brushed and reached by keys; return what to call when something changed.
  //   names(r): a region in words;  gone(r): is it hidden?;  put(r, hide, goesOn): hide or show it;  point(r): it is looked at
  //   drawn: where each is coloured, if not on all of its box
  function surface(svg, boxes, names, { gone, put, point, drawn = boxes }) {
    const group = draw("g", { class: "tiles" }), tiles = new Map();
    let stroke = null, hot = null, isHandled = false;
    const middle = (r) => [(boxes[r][0] + boxes[r][2]) / 2, (boxes[r][1] + boxes[r][3]) / 2];

    function look(r) {
      if (r === hot) return;
      tiles.get(hot)?.classList.remove("hot");
      tiles.get(r)?.classList.add("hot");
      hot = r;
      point(r);
    }

    // The region at a place: of those that are coloured there, or else hold it, the one whose middle is nearest.
    function at(event) {
      const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const far = (r) => Math.hypot(p.x - middle(r)[0], p.y - middle(r)[1]);
      const held = (places) => [...tiles.keys()].filter((r) => {
        const [x0, y0, x1, y1] = places[r];
        return p.x >= x0 && p.x <= x1 && p.y >= y0 && p.y <= y1;
      });
      const coloured = held(drawn), holding = coloured.length ? coloured : held(boxes);
      return holding.length ? holding.reduce((a, b) => (far(b) < far(a) ? b : a)) : null;
    }

    function reach(from, [dx, dy]) {
      const [x, y] = middle(from);
      let best = null, least = Infinity;
      for (const r of tiles.keys()) {
        const [u, v] = middle(r), along = (u - x) * dx + (v - y) * dy, across = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
        if (along > 1e-6 && along + 3 * across < least) [best, least] = [r, along + 3 * across];
      }
      return best;
    }

    function focus(r) {
      if (r === null) return;
      for (const [other, tile] of tiles) tile.setAttribute("tabindex", other === r ? "0" : "-1");
      tiles.get(r).focus();
    }

    const hatch = hatched(svg);
    boxes.forEach((box, r) => {
      if (!box) return;
      const tile = draw("rect", { ...frame(box), class: "tile", role: "button", tabindex: tiles.size ? "-1" : "0" });
      tile.addEventListener("focus", () => look(r));
      tile.addEventListener("keydown", (event) => {
        const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (way) focus(reach(r, way));
        else if (event.key === " " || event.key === "Enter") put(r, !gone(r), false);
        else return;
        event.preventDefault();
      });
      tiles.set(r, tile);
      group.append(tile);
    });
    svg.append(group);
    svg.setAttribute("role", "group");
    svg.classList.add("tiled");

    svg.addEventListener("pointerdown", (event) => {
      isHandled = event.button === 0 && (event.pointerType !== "touch" || touch.brushes);
      const r = isHandled ? at(event) : null;
      if (r === null) return;
      stroke = { hide: !gone(r), met: new Set([r]) };
      svg.setPointerCapture(event.pointerId);
      put(r, stroke.hide, false);
    });
    svg.addEventListener("pointermove", (event) => {
      look(at(event));
      if (!stroke) return;
      const way = event.getCoalescedEvents ? event.getCoalescedEvents() : [];  // a quick brush moves far between two frames
      for (const r of [...way, event].map(at)) {
        if (r === null || stroke.met.has(r)) continue;
        stroke.met.add(r);
        if (gone(r) !== stroke.hide) put(r, stroke.hide, true);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { stroke = null; });
    svg.addEventListener("pointerleave", () => look(null));
    svg.addEventListener("click", (event) => {  // a tap, or the click of a screen reader
      if (isHandled && event.detail) return;
      const own = [...tiles].find(([, tile]) => tile === event.target), r = own ? own[0] : at(event);
      if (r !== null) put(r, !gone(r), false);
    });
    return () => {
      for (const [r, tile] of tiles) {
        tile.setAttribute("aria-pressed", String(gone(r)));
        tile.setAttribute("aria-label", `Hide ${names(r)}`);
        tile.setAttribute("fill", gone(r) ? `url(#${hatch})` : "transparent");
      }
      if (hot !== null) point(hot);  // what is looked at has changed
    };
  }

  // The same regions as a list of buttons; name(r): a region in words, and its number.
  function listed(ul, regions, name, gone, put) {
    const buttons = regions.map((r) => {
      const label = make("span"), value = make("span", { class: "number" }), button = make("button", { type: "button" }, label, value);
      button.addEventListener("click", () => put(r, !gone(r), false));
      ul.append(make("li", {}, button));
      return { r, button, label, value };
    });
    return () => {
      for (const { r, button, label, value } of buttons) {
        const [told, number] = name(r);
        button.setAttribute("aria-pressed", String(gone(r)));
        label.textContent = gone(r) ? `${told}, hidden` : told;
        value.textContent = number;
      }
    };
  }

  // Return the id of a pattern that marks what is hidden, dark and light, to be seen on any picture.
  function hatched(svg) {
    const { width, height } = svg.viewBox.baseVal, step = Math.max(width, height) / 32, id = `hatch-${hatches++}`;
    const line = (x, colour) => draw("rect", { x, width: step / 9, height: step, fill: colour });
    svg.append(draw("pattern", { id, width: step, height: step, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      line(0, "#000000"), line(step / 9, "#ffffff")));
    return id;
  }

  // Cover what is hidden: a place that several regions see is covered by the share of them that is gone.
  function covers(svg, places, boxes) {
    const group = draw("g", { "aria-hidden": "true" });
    const cells = places.map((box) => {
      const [x, y] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], cover = draw("rect", { ...frame(box), class: "covered" });
      group.append(cover);
      return { cover, seers: boxes.flatMap((b, r) => (b && x > b[0] && x < b[2] && y > b[1] && y < b[3] ? [r] : [])) };
    });
    svg.append(group);
    return (gone) => {
      for (const { cover, seers } of cells) {
        const share = seers.filter(gone).length / (seers.length || 1);
        cover.setAttribute("fill-opacity", String(share === 1 ? 0.94 : 0.7 * share));
      }
    };
  }

  // Disjoint places of constant cover: where no edge of any box crosses.
  function grid(boxes) {
    const there = boxes.filter(Boolean), edges = (a, b) => [...new Set(there.flatMap((box) => [box[a], box[b]]))].sort((p, q) => p - q);
    const xs = edges(0, 2), ys = edges(1, 3);
    return ys.slice(1).flatMap((y1, j) => xs.slice(1).map((x1, i) => [xs[i], ys[j], x1, y1]));
  }

  return { make, draw, named, strong, exactly, frame, surface, listed, covers, grid, touch };
})();
