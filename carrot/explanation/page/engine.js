// What would the model say, had something not been so? The arithmetic of the page, and nothing of what is seen.
//
// The formulas are those of carrot/explanation/counterfactual.py, and each answer is what the package itself gives:
// tests/end_to_end/test_engine.py holds the one against the other. Every number is a float64.
//
// A point is a sparse map { place: weight } over the payload's points, whose weights sum to 1; place 0 is the zero vector.
"use strict";

const CARROT = (() => {
  const ZERO = 0, MEAN = 1, REGIONS = 2;  // places of the first points

  // ---- the payload

  function numbers(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Float64Array(bytes.buffer);
  }

  function weighing(found) {
    if (!found.weights) return null;
    const graph = found.graph && { ...found.graph, W: numbers(found.graph.W) };
    return { r: numbers(found.weights.r), additive: found.weights.additive, global: found.weights.global, fixed: !!found.weights.fixed, graph };
  }

  // Return what answers are made from: the payload, its numbers read.
  function load(data) {
    const C = data.classes.length, values = numbers(data.values), m = values.length / C, kernel = numbers(data.kernel);
    const picture = weighing(data.picture), training = data.training.map(weighing);
    const residual = numbers(data.residual);
    return { data, C, values, residual, kernel, q: kernel.length / m, picture, training, N: m - kernel.length / m - 1, rows: training.length };
  }

  // ---- how regions weigh when some are left out: carrot.readout, carrot.operator

  function shared(r, kept, global, additive) {
    const left = r.map((x, i) => (kept[i] ? x : 0));
    if (additive) return left;
    for (const [from, to] of [[0, r.length - global], [r.length - global, r.length]]) {
      let all = 0, there = 0;
      for (let i = from; i < to; i++) { all += r[i]; there += left[i]; }
      for (let i = from; i < to; i++) left[i] = there > 0 ? left[i] * all / there : 0;
    }
    const total = left.reduce((a, b) => a + b, 0);
    return total > 0 ? left.map((x) => x / total) : left;
  }

  function diffused(v, kept, { W, chebyshev, half }) {
    const N = v.length, rho = new Float64Array(N);
    for (let i = 0; i < N; i++) {
      if (!kept[i]) continue;
      let degree = 0;
      for (let j = 0; j < N; j++) if (kept[j]) degree += W[i * N + j];
      rho[i] = 1 / Math.sqrt(Math.max(degree, 1));
    }
    const apply = (x) => {
      const y = new Float64Array(N);
      for (let i = 0; i < N; i++) {
        if (!rho[i]) continue;
        let sum = 0;
        for (let j = 0; j < N; j++) sum += W[i * N + j] * rho[j] * x[j];
        y[i] = half ? (rho[i] * sum + x[i]) / 2 : rho[i] * sum;
      }
      return y;
    };
    const sum = v.map((x) => chebyshev[0] * x);
    let before = v, now = null;
    for (let k = 1; k < chebyshev.length; k++) {
      const next = apply(now || v);
      if (now === null) {
        for (let i = 0; i < N; i++) next[i] = 2 * next[i] - v[i];
      } else {
        for (let i = 0; i < N; i++) next[i] = 4 * next[i] - 2 * now[i] - before[i];
        before = now;
      }
      now = next;
      for (let i = 0; i < N; i++) sum[i] += chebyshev[k] * now[i];
    }
    return sum;
  }

  // Return pi of a picture of which some regions are left out.
  function weights(of, gone) {
    if (of.fixed) return of.r;  // too many regions for a graph to travel: none can be left out
    const kept = new Array(of.r.length).fill(true);
    for (const i of gone) kept[i] = false;
    const r = shared(of.r, kept, of.global, of.additive);
    return of.graph ? diffused(r, kept, of.graph) : r;
  }

  // Return the embedding sum_r pi_r phi(h_r) as a point; its regions stand from place `first` on.
  function pointOf(pi, first) {
    const point = new Map();
    let rest = 1;
    pi.forEach((x, r) => { if (x) { point.set(first + r, x); rest -= x; } });
    point.set(ZERO, rest);
    return point;
  }

  // ---- the training pictures that are changed

  // Return the pictures taken out (c = -w) and put in (c = w) by a state; `besides`: one more is taken out.
  function changes(model, state, besides = null) {
    const found = [], { data } = model;
    for (let k = 0; k < model.rows; k++) {
      const one = data.training[k], hidden = state.hidden[k] || [];
      const out = state.out.includes(k) || k === besides, label = state.relabel[k] ?? one.label;
      if (!out && !hidden.length && label === one.label) continue;
      const row = new Map([[REGIONS + model.N + k, 1]]);
      found.push({ k, point: row, c: -one.weight, label: one.label, own: -one.slack / one.weight, row: k });
      if (out) continue;
      const share = data.classWeights ? data.classWeights[label] / data.classWeights[one.label] : 1;
      const seen = hidden.length ? pointOf(weights(model.training[k], hidden), one.first) : row;
      found.push({ k, point: seen, c: one.weight * share, label, row: hidden.length ? null : k });
    }
    return found;
  }

  // k(p, u) of two points; u is made of training pictures, of their regions, and of the zero vector.
  function inner(model, p, u) {
    let sum = 0;
    for (const [b, y] of u) {
      const column = b === ZERO ? 0 : b - model.N - 1;
      for (const [a, x] of p) sum += x * y * model.kernel[a * model.q + column];
    }
    return sum;
  }

  // F_c of a point as the model was fitted: of one class, or of the lead of `c` over `a`.
  function value(model, p, c, a = null) {
    let sum = 0;
    for (const [b, x] of p) sum += x * (model.values[b * model.C + c] - (a === null ? 0 : model.values[b * model.C + a]));
    return sum;
  }

  // Target less logit of a picture taken out or put in, of one class: of a training picture as it is, the model's own.
  function missing(model, u, c) {
    if (u.row === null) return (u.label === c ? 1 : 0) - value(model, u.point, c);
    const was = model.data.training[u.k].label;
    return model.residual[u.row * model.C + c] + (u.label === c ? 1 : 0) - (was === c ? 1 : 0);
  }

  // Solve A X = B in place, by elimination with pivots; B is (n, k), row by row.
  function solve(A, B, n, k) {
    for (let i = 0; i < n; i++) {
      let pivot = i;
      for (let r = i + 1; r < n; r++) if (Math.abs(A[r * n + i]) > Math.abs(A[pivot * n + i])) pivot = r;
      if (pivot !== i) {
        for (let j = 0; j < n; j++) [A[i * n + j], A[pivot * n + j]] = [A[pivot * n + j], A[i * n + j]];
        for (let j = 0; j < k; j++) [B[i * k + j], B[pivot * k + j]] = [B[pivot * k + j], B[i * k + j]];
      }
      for (let r = i + 1; r < n; r++) {
        const factor = A[r * n + i] / A[i * n + i];
        if (!factor) continue;
        for (let j = i; j < n; j++) A[r * n + j] -= factor * A[i * n + j];
        for (let j = 0; j < k; j++) B[r * k + j] -= factor * B[i * k + j];
      }
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let j = 0; j < k; j++) {
        let sum = B[i * k + j];
        for (let r = i + 1; r < n; r++) sum -= A[i * n + r] * B[r * k + j];
        B[i * k + j] = sum / A[i * n + i];
      }
    }
    return B;
  }

  // (C^{-1} + K_UU)^{-1} B, where B has a row for each change.
  function settled(model, found, B, k) {
    const n = found.length, A = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) A[i * n + j] = inner(model, found[i].point, found[j].point) + (i === j ? 1 / found[i].c : 0);
      if (found[i].own !== undefined) A[i * n + i] = found[i].own;  // the same, less the rounding of a difference
    }
    return solve(A, B, n, k);
  }

  // The model fitted again, as a function from a point to a logit: of one class, or of the lead of c over a.
  function fitted(model, found, c, a) {
    const missed = Float64Array.from(found, (u) => missing(model, u, c) - (a === null ? 0 : missing(model, u, a)));
    const X = settled(model, found, missed, 1);
    return (p) => found.reduce((sum, u, j) => sum + inner(model, p, u.point) * X[j], value(model, p, c, a));
  }

  // The mean training picture, as a point.
  function mean(model, found) {
    const { data } = model, point = new Map([[MEAN, 1]]);
    if (!data.intercept || !found.length) return point;
    const total = data.weight + found.reduce((sum, u) => sum + u.c, 0);
    point.set(MEAN, data.weight / total);
    for (const u of found) for (const [b, x] of u.point) point.set(b, (point.get(b) || 0) + u.c * x / total);
    return point;
  }

  // ---- questions

  // The state in which nothing is supposed.
  function start(model) {
    return { dropped: [], target: model.data.target, against: model.data.against, out: [], relabel: {}, hidden: {} };
  }

  // Say why a state has no answer; null: it has one.
  function refused(model, state) {
    const { data } = model, counts = data.counts.slice();
    for (let k = 0; k < model.rows; k++) {
      const one = data.training[k];
      if (state.out.includes(k) || (state.relabel[k] ?? one.label) !== one.label) counts[one.label]--;
      if (!state.out.includes(k) && (state.relabel[k] ?? one.label) !== one.label) counts[state.relabel[k]]++;
    }
    const empty = counts.findIndex((count) => count < 1);
    return empty < 0 ? null : `No training picture of ${data.classes[empty]} would be left.`;
  }

  // Return what the model would say; see the keys at the end.
  function answer(model, state) {
    const { data, C, N } = model, c = state.target, a = state.against, why = refused(model, state);
    if (why) return { refused: why };
    const found = changes(model, state), pi = weights(model.picture, state.dropped), seen = pointOf(pi, REGIONS);

    const missed = new Float64Array(found.length * C);
    found.forEach((u, i) => { for (let k = 0; k < C; k++) missed[i * C + k] = missing(model, u, k); });
    const X = settled(model, found, missed, C), near = found.map((u) => inner(model, seen, u.point));
    const logits = new Float64Array(C);
    for (let k = 0; k < C; k++) logits[k] = near.reduce((sum, x, j) => sum + x * X[j * C + k], value(model, seen, k));

    const f = fitted(model, found, c, a), zero = f(new Map([[ZERO, 1]])), additive = model.picture.additive;
    const prior = additive ? zero : f(mean(model, found)), total = pi.reduce((sum, x) => sum + x, 0);
    const scores = Float64Array.from({ length: N }, (_, r) => f(new Map([[REGIONS + r, 1]])) - zero);
    const shift = additive || !total ? 0 : (prior - zero) / total;
    const contributions = scores.map((x, r) => pi[r] * (x - shift));
    const logit = logits[c] - (a === null ? 0 : logits[a]);

    const largest = Math.max(...logits), powers = logits.map((x) => Math.exp((x - largest) / data.temperature));
    const all = powers.reduce((sum, x) => sum + x, 0);

    const result = {
      refused: null,
      logits,                                            // of each class
      probabilities: powers.map((x) => x / all),
      predicted: logits.indexOf(largest),
      logit,                                             // of the target, or its lead over the other class
      prior: total || additive ? prior : logit,          // where the sum starts ..
      contributions,                                     // .. and what each region adds to it
    };
    let drops = null, training = null;
    Object.defineProperty(result, "drops", { get() { return (drops ??= dropsOf(model, state, scores, logit, zero)); } });
    Object.defineProperty(result, "training", { get() { return (training ??= trainingOf(model, state, seen, logit)); } });
    Object.defineProperty(result, "others", { get() { return logit - result.training.reduce((sum, x) => sum + x.label, 0); } });
    return result;
  }

  // How far the logit would fall without each region besides.
  function dropsOf(model, state, scores, logit, zero) {
    return scores.map((_, r) => {
      if (state.dropped.includes(r)) return 0;
      const pi = weights(model.picture, [...state.dropped, r]);
      return logit - zero - pi.reduce((sum, x, i) => sum + x * scores[i], 0);
    });
  }

  // Of each training picture: how far the logit would fall if it had not been there besides, and what its label brings.
  function trainingOf(model, state, seen, logit) {
    const { data } = model, c = state.target, a = state.against, found = changes(model, state);
    const y = (label) => (label === c ? 1 : 0) - (label === a ? 1 : 0);
    const near = Float64Array.from(found, (u) => inner(model, seen, u.point));
    const counts = settled(model, found, near.slice(), 1);  // how much the label of each change counts in the logit
    return data.training.map((one, k) => {
      if (state.out.includes(k)) return { without: 0, label: 0 };
      const alone = refused(model, { ...state, out: [...state.out, k] });
      const without = alone ? null : logit - fitted(model, changes(model, state, k), c, a)(seen);
      const put = found.findIndex((u) => u.k === k && u.c > 0);
      if (put >= 0) return { without, label: counts[put] * y(found[put].label) };
      const row = new Map([[REGIONS + model.N + k, 1]]);
      const own = found.reduce((sum, u, j) => sum - inner(model, row, u.point) * counts[j], inner(model, seen, row));
      return { without, label: one.weight * own * y(one.label) };
    });
  }

  // ---- the state in the link: c=3&a=5&x=4.7&o=0.2&l=1-5&h=0-3.4 (classes, regions out, pictures out, labels, tiles hidden)

  function toHash(model, state) {
    const first = start(model), parts = [];
    if (state.target !== first.target || state.against !== first.against) parts.push(`c=${state.target}`);
    if (state.against !== null) parts.push(`a=${state.against}`);
    if (state.dropped.length) parts.push(`x=${state.dropped.join(".")}`);
    if (state.out.length) parts.push(`o=${state.out.join(".")}`);
    for (const [k, c] of Object.entries(state.relabel)) if (c !== model.data.training[k].label) parts.push(`l=${k}-${c}`);
    for (const [k, regions] of Object.entries(state.hidden)) if (regions.length) parts.push(`h=${k}-${regions.join(".")}`);
    return parts.join("&");
  }

  // Return the state that a link says; what it says wrongly is left out.
  function fromHash(text, model) {
    const state = start(model), { data } = model;
    const whole = (word, end) => (/^\d{1,6}$/.test(word) && Number(word) < end ? Number(word) : null);
    const list = (words, end) => [...new Set(words.split(".").map((word) => whole(word, end)).filter((x) => x !== null))];
    for (const part of String(text).replace(/^#/, "").split("&")) {
      const [key, given = ""] = part.split("="), [left, right = ""] = given.split("-"), k = whole(left, model.rows);
      if (key === "c" && whole(given, model.C) !== null) { state.target = Number(given); state.against = null; }
      if (key === "a" && whole(given, model.C) !== null) state.against = Number(given);
      if (key === "x" && !model.picture.fixed) state.dropped = list(given, model.N);
      if (key === "o" && data.classWeights) state.out = list(given, model.rows);
      if (key === "l" && data.classWeights && k !== null && whole(right, model.C) !== null && Number(right) !== data.training[k].label) state.relabel[k] = Number(right);
      if (key === "h" && k !== null && model.training[k]) state.hidden[k] = list(right, model.training[k].r.length);
    }
    if (state.against === state.target) state.against = null;
    return state;
  }

  return { load, start, answer, toHash, fromHash };
})();

if (typeof module !== "undefined") module.exports = CARROT;
